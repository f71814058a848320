"""Golden values of @feedforward_layers: a torch net with a branch, a skip and a sum of three, in float64 on the float32
weights that the test reads back."""
import numpy as np
import torch
from torch.nn import functional as F

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=14)
N, c, h, w = 4, 2, 3, 1
x, dy = g.normal(N, c * h * w), g.normal(N, 3)
sizes = [(6, 6), (6, 6), (6, 3)]
flat = [g.normal(o, i + 1) / np.float32(2) for i, o in sizes]
leaves = [torch.from_numpy(p).double().requires_grad_() for m in flat for p in (m[:, :-1].copy(), m[:, -1].copy())]
xd = torch.from_numpy(x).double().requires_grad_()
a = torch.tanh(F.linear(xd, leaves[0], leaves[1]))  # layers 0, 1
b = F.gelu(F.linear(a, leaves[2], leaves[3]))  # 2, 3
total = xd + a + b + b  # 4: reads x, 1, 3 and 3
y = F.linear(total, leaves[4], leaves[5])  # 5
y.backward(torch.from_numpy(dy).double())
g.save("dag", x=x, dy=dy, y=y, dx=xd.grad, w=np.concatenate([p.detach().numpy().ravel() for p in leaves]),
       dw=np.concatenate([p.grad.numpy().ravel() for p in leaves]))
g.write()
