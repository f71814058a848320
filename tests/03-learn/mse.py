"""Golden values of @mse: torch in float64, every reduction, with weights and with masks by selecting."""
import numpy as np
import torch
from torch.nn.functional import gaussian_nll_loss, linear, mse_loss

from golden import Golden

g = Golden(__file__, seed=35)
for n in (1, 2, 7, 31):
    p, t, w = g.normal(n), g.normal(n), np.abs(g.normal(n))
    mask = g.coin(n, 0.6)
    mask[0] = 1
    g.save(f"{n}", p=p, t=t, w=w, mask=mask)
    for weighted in (0, 1):
        for masked in (0, 1):
            keep = torch.from_numpy(mask == 1) if masked else torch.ones(n, dtype=torch.bool)
            pd = torch.from_numpy(p).double().requires_grad_()
            args = (pd[keep], torch.from_numpy(t).double()[keep])
            more = {"weight": torch.from_numpy(w).double()[keep]} if weighted else {}
            loss = torch.zeros(n, dtype=torch.float64)
            loss[keep] = mse_loss(*args, reduction="none", **more).detach()
            mean = mse_loss(*args, reduction="mean", **more)
            dmean, = torch.autograd.grad(mean, pd, retain_graph=True)
            total = mse_loss(*args, reduction="sum", **more)
            dsum, = torch.autograd.grad(total, pd)
            g.save(f"{n}/{weighted}{masked}", loss=loss, mean=mean, dmean=dmean, sum=total, dsum=dsum)
for n, c, o in [(1, 1, 1), (5, 3, 2), (13, 7, 3)]:
    x, w, b, t = g.normal(n, c), g.normal(o, c), g.normal(o), g.normal(n, o)
    wd, bd = (torch.from_numpy(a).double().requires_grad_() for a in (w, b))
    loss = mse_loss(linear(torch.from_numpy(x).double(), wd, bd), torch.from_numpy(t).double())
    loss.backward()
    g.save(f"linear/{n}", x=x, W=w, b=b, t=t, mean=loss, dW=wd.grad, db=bd.grad)
p, t = (torch.from_numpy(g.normal(9)).double() for _ in range(2))
g.save("nll", p=p, t=t, nll=[gaussian_nll_loss(p, t, torch.full((9,), s * s, dtype=torch.float64), full=True, eps=1e-12) for s in (0.1, 1, 3)])
g.write()
