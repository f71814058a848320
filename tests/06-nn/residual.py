"""Golden values of @residual: torch autograd in float64 on the float32 inputs that the test reads back."""
import numpy as np
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=10)


def double(a):
    return torch.from_numpy(a).double().requires_grad_()


for N, C in [(1, 1), (2, 3), (5, 7), (3, 17)]:
    x, f, dy, scale, keep = g.normal(N, C), g.normal(N, C), g.normal(N, C), g.normal(C), g.coin(N, 0.6)
    d = torch.from_numpy(dy).double()
    out = {}
    a, b, alpha = double(x), double(f), torch.tensor(0.375, dtype=torch.float64, requires_grad=True)
    y = a + alpha * b
    y.backward(d)
    out |= dict(y=y, dx=a.grad, df=b.grad, dalpha=alpha.grad)
    a, b, s = double(x), double(f), double(scale)
    y = a + s * b
    y.backward(d)
    out |= dict(scale_y=y, scale_df=b.grad, dscale=s.grad)
    a, b = double(x), double(f)
    noise = torch.from_numpy(keep[:, None] / 0.75)  # torchvision's stochastic_depth, mode "row"
    y = a + b * noise
    y.backward(d)
    g.save(f"{N}x{C}", x=x, f=f, dy=dy, scale=scale, keep=keep, depth_y=y, depth_df=b.grad, **out)

L, C = 6, 4
x, A = g.normal(C), g.normal(L, C, C) / np.float32(2)
y = x.astype(float)
for l in range(L):
    y = y + A[l].astype(float) @ y
g.save("unravel", x=x, A=A, y=y)

for N, C, O in [(1, 1, 2), (3, 5, 2), (2, 3, 7)]:  # y = P x + f
    x, f, p, dy = g.normal(N, C), g.normal(N, O), g.normal(O, C), g.normal(N, O)
    a, b, w = double(x), double(f), double(p)
    y = torch.nn.functional.linear(a, w) + b
    y.backward(torch.from_numpy(dy).double())
    g.save(f"project/{N}x{C}", x=x, f=f, p=p, dy=dy, y=y, dx=a.grad, df=b.grad, dp=w.grad)
g.write()
