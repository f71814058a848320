"""Golden values of @attention: Bahdanau's equations in PyTorch with autograd, and kernel regression by statsmodels'
KernelReg (local constant, Gaussian), in float64. Run by `make golden`; writes attention.txt."""
import numpy as np
import torch
from statsmodels.nonparametric.kernel_regression import KernelReg

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=39)
for T, S, Cs, Ch, A, length in [(1, 1, 1, 1, 1, 1), (3, 5, 2, 4, 3, 4), (2, 17, 3, 2, 8, 17)]:
    arrays = dict(s=g.normal(T, Cs), h=g.normal(S, Ch), w=g.normal(A, Cs), u=g.normal(A, Ch), v=g.normal(A), b=g.normal(A))
    x = {k: torch.from_numpy(a).double().requires_grad_() for k, a in arrays.items()}
    dc = g.normal(T, Ch)
    hidden = torch.tanh((x["s"] @ x["w"].T + x["b"])[:, None] + (x["h"] @ x["u"].T)[None])
    e = (hidden @ x["v"])[:, :length]
    a = torch.softmax(e, -1)
    c = a @ x["h"][:length]
    c.backward(torch.from_numpy(dc).double())
    g.save(f"{T}x{S}x{A}", **arrays, dc=dc, e=e, a=a, c=c, **{"d" + k: t.grad for k, t in x.items()})

at, value, x = g.normal(11, 1), g.normal(11), g.normal(6, 1)
k = KernelReg(value.astype(float), at.astype(float), var_type="c", reg_type="lc", bw=[0.4])
g.save("kernel", at=at, value=value, x=x, y=np.asarray(k.fit(x.astype(float))[0]))
g.write()
