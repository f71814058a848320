"""Golden values of @cholesky: SciPy's LAPACK for the factor, the solution and log det, torch's autograd for the gradient,
all in float64 on matrices rounded to float32."""
import numpy as np
import scipy.linalg
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=11)
for n, k in [(1, 1), (2, 3), (3, 1), (7, 2), (13, 5)]:
    x = g.normal(n, n + 2).astype(np.float64)
    a = np.float32(x @ x.T / n)
    a = np.tril(a) + np.tril(a, -1).T
    b, dl = g.normal(n, k), np.tril(g.normal(n, n))
    a64 = torch.from_numpy(a).double().requires_grad_()
    l = torch.linalg.cholesky(a64)
    l.backward(torch.from_numpy(dl).double())
    factor = scipy.linalg.cho_factor(a.astype(np.float64), lower=True)
    g.save(f"{n}x{k}", a=a, b=b, dl=dl, l=np.tril(factor[0]), x=scipy.linalg.cho_solve(factor, b.astype(np.float64)),
           logdet=[np.linalg.slogdet(a.astype(np.float64))[1]], da=a64.grad)
g.write()
