"""Golden values of @neuron: torch's Linear with one output and an activation, autograd in float64; ten epochs of
torch.optim.SGD as the delta rule."""
import numpy as np
import torch
from torch.nn import functional as F

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=15)
ACTS = {"identity": lambda z: z, "gelu": F.gelu, "silu": F.silu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}
for C in [1, 3, 7]:
    for name, act in ACTS.items():
        x, w, b = g.normal(C), g.normal(C), g.normal(1)
        xd, wd, bd = (torch.from_numpy(v).double().requires_grad_() for v in (x, w, b))
        z = F.linear(xd, wd[None], bd)
        a = act(z)
        (0.75 * a).sum().backward()
        g.save(f"{C}/{name}", x=x, w=w, b=b, z=z, a=a, dx=xd.grad, dw=wd.grad, db=bd.grad)
N, C = 7, 2
x, t, w, b = g.normal(N, C), g.coin(N, 0.5), g.normal(C), g.normal(1)
out = dict(x=x, t=t, w=w, b=b)
for online in (True, False):
    wd, bd = (torch.from_numpy(v.copy()).double().requires_grad_() for v in (w, b))
    step = torch.optim.SGD([wd, bd], lr=0.25)
    rows = [[n] for n in range(N)] if online else [list(range(N))]
    for epoch in range(10):
        total = 0.0
        for r in rows:
            a = torch.sigmoid(F.linear(torch.from_numpy(x[r]).double(), wd[None], bd))[:, 0]
            loss = 0.5 * ((a - torch.from_numpy(t[r]).double()) ** 2).mean()
            step.zero_grad()
            loss.backward()
            step.step()
            total += loss.item() * len(r) / N
    out |= {f"{'online' if online else 'batch'}": np.array([*wd.tolist(), bd.item(), total])}
g.save("delta", **out)
g.write()
