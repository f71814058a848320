"""Golden values of @sigmoid: torch.sigmoid and a gate, autograd in float64 on the float32 inputs that the test reads back."""
import numpy as np
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=16)
x = np.array([0, 1e-3, -1e-3, 0.5, -0.5, 1, -1, 4.6, -4.6, 10, -10, 20, -20, 50, -50, 87, -87, 100, -100], np.float32)
dy = g.normal(len(x))
for temp in [1.0, 0.25, 3.0]:
    xd = torch.from_numpy(x).double().requires_grad_()
    y = torch.sigmoid(xd / temp)
    y.backward(torch.from_numpy(dy).double())
    g.save(f"{temp:g}", x=x, dy=dy, y=y, dx=xd.grad)
z, a, b, dy = g.normal(13), g.normal(13), g.normal(13), g.normal(13)
zd, ad, bd = (torch.from_numpy(v).double().requires_grad_() for v in (z, a, b))
s = torch.sigmoid(zd)
y = s * ad + (1 - s) * bd
y.backward(torch.from_numpy(dy).double())
g.save("gate", z=z, a=a, b=b, dy=dy, s=s, y=y, dz=zd.grad, da=ad.grad, db=bd.grad)
g.write()
