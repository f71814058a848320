"""Golden values of @logsumexp: SciPy and PyTorch in float64 on the float32 inputs that the test reads back; log1mexp in 60
digits with mpmath."""
import mpmath
import numpy as np
import torch
from scipy.special import logsumexp

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=1)

for n in [1, 2, 3, 7, 8, 9, 17, 64, 131]:
    x, b = 6 * g.normal(n), g.normal(n)
    b[1::5] = 0
    xd = torch.from_numpy(x).double().requires_grad_()
    torch.logsumexp(xd, 0).backward(torch.tensor(-1.5).double())
    value, sign = logsumexp(x.astype(float), b=b.astype(float), return_sign=True)
    g.save(f"{n}", x=x, b=b, lse=[logsumexp(x.astype(float))], dx=xd.grad, weighted=[value, sign],
           cumulative=torch.logcumsumexp(xd, 0))

a, b = 8 * g.normal(40), 8 * g.normal(40)
a[:6], b[:6] = [0, 0, 3, -80, 500, 0], [0, -30, 3, 0, 499.5, -100]
g.save("logaddexp", a=a, b=b, y=np.logaddexp(a.astype(float), b.astype(float)))

mpmath.mp.dps = 60
x = np.float32([-1e-30, -1e-6, -1e-3, -0.1, -0.5, -0.6931, -0.6932, -1, -3, -10, -17, -50, -80])
g.save("log1mexp", x=x, y=[float(mpmath.log(1 - mpmath.exp(mpmath.mpf(float(v))))) for v in x])
g.write()
