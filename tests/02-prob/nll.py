"""Golden values of @nll: torch.nn.functional nll_loss, gaussian_nll_loss, poisson_nll_loss, with autograd."""
import numpy as np
import torch
import torch.nn.functional as F

from golden import Golden

g = Golden(__file__, seed=12)
t64 = lambda a: torch.from_numpy(a).double().requires_grad_()
for n, v in [(1, 1), (2, 3), (7, 5)]:
    logp = torch.log_softmax(torch.from_numpy(g.normal(n, v)).double(), 1).float().numpy()
    target, weight, dy = g.rng.integers(0, v, n), np.float32(g.rng.random(v) + 0.1), g.normal(n)
    if n > 2:
        target[2] = target[5] = -100
    g.save(f"{n}x{v}", logp=logp, target=target, weight=weight, dy=dy)
    for w in (None, weight):
        for reduction in ("none", "mean", "sum"):
            x = t64(logp)
            loss = F.nll_loss(x, torch.from_numpy(target), None if w is None else torch.from_numpy(w).double(), reduction=reduction)
            (loss * torch.from_numpy(dy).double()).sum().backward() if reduction == "none" else (loss * 0.7).backward()
            g.save(f"{n}x{v}/{'plain' if w is None else 'weighted'}/{reduction}", loss=loss.reshape(-1), d=x.grad)

x, mu, var, dy = g.normal(11), g.normal(11), np.float32(g.rng.random(11) * 2), g.normal(11)
var[3] = 0
g.save("gauss", x=x, mu=mu, var=var, dy=dy)
for full in (False, True):
    m, v = t64(mu), t64(var)
    loss = F.gaussian_nll_loss(m, torch.from_numpy(x).double(), v, full=full, eps=1e-2, reduction="none")
    (loss * torch.from_numpy(dy).double()).sum().backward()
    g.save(f"gauss{int(full)}", loss=loss, dmu=m.grad, dvar=v.grad)

z, k = g.normal(9), np.float32([0, 1, 2, 7, 0, 3, 1, 40, 5])
g.save("poisson", z=z, k=k, dy=dy[:9])
for log_input in (True, False):
    for full in (False, True):
        x = t64(z if log_input else np.abs(z))
        loss = F.poisson_nll_loss(x, torch.from_numpy(k).double(), log_input=log_input, full=full, eps=1e-3, reduction="none")
        (loss * torch.from_numpy(dy[:9]).double()).sum().backward()
        g.save(f"poisson{int(log_input)}{int(full)}", loss=loss, d=x.grad)
g.write()
