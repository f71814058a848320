"""Golden values of @dense: torch.nn.functional.linear and autograd in float64 on the float32 inputs that the test reads
back, sample by sample for the norms; the factors of the low-rank layer and the singular values from numpy.linalg.svd."""
import numpy as np
import torch
from torch.nn.functional import gelu, linear

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=7)


def double(a):
    return torch.from_numpy(a).double().requires_grad_()


for N, C, O in [(1, 1, 1), (2, 3, 5), (7, 5, 3), (3, 13, 7), (4, 8, 16), (1, 33, 2)]:
    x, w, b, dy = g.normal(N, C), g.normal(O, C), g.normal(O), g.normal(N, O)
    xd, wd, bd = double(x), double(w), double(b)
    y = linear(xd, wd, bd)
    y.backward(torch.from_numpy(dy).double())
    out = dict(y=y, dx=xd.grad, dw=wd.grad, db=bd.grad, plain=linear(xd, wd))
    xd, wd, bd = double(x), double(w), double(b)
    y = gelu(linear(xd, wd, bd), approximate="tanh")
    y.backward(torch.from_numpy(dy).double())
    out |= dict(act=y, act_dx=xd.grad, act_dw=wd.grad, act_db=bd.grad)
    norms = []
    for n in range(N):
        wd, bd = double(w), double(b)
        linear(double(x[n : n + 1]), wd, bd).backward(torch.from_numpy(dy[n : n + 1]).double())
        norms.append([(wd.grad**2).sum().item(), (wd.grad**2).sum().item() + (bd.grad**2).sum().item()])
    g.save(f"{N}x{C}x{O}", x=x, w=w, b=b, dy=dy, norms=np.array(norms).T, **out)

C, O = 7, 6
w = g.normal(O, C)
left, s, right = np.linalg.svd(w.astype(float), full_matrices=False)
g.save("svd", w=w, u=left * np.sqrt(s), v=np.sqrt(s)[:, None] * right, s=s)

N, C, O, R = 4, 6, 5, 2
x, v, u, b, dy = g.normal(N, C), g.normal(R, C), g.normal(O, R), g.normal(O), g.normal(N, O)
xd, vd, ud, bd = double(x), double(v), double(u), double(b)
y = linear(xd, ud @ vd, bd)
y.backward(torch.from_numpy(dy).double())
g.save("low", x=x, v=v, u=u, b=b, dy=dy, y=y, dx=xd.grad, dv=vd.grad, du=ud.grad, db=bd.grad)
g.write()
