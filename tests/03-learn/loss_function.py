"""Golden values of @loss_function: torch in float64, value, gradient and second derivative by autograd."""
import torch
from torch.nn import functional as F

from golden import Golden

g = Golden(__file__, seed=36)
n = 23
z, real = 2 * g.normal(n), g.normal(n)
sign = 2 * g.coin(n, 0.5) - 1
count = g.rng.poisson(2, n)
w = abs(g.normal(n))
z[:2] = (30, -30)
g.save("in", z=z, real=real, sign=sign, count=count, w=w)
relu = torch.relu
KINDS = {
    "squared": ("real", lambda z, t: (z - t) ** 2), "absolute": ("real", lambda z, t: F.l1_loss(z, t, reduction="none")),
    "huber": ("real", lambda z, t: F.huber_loss(z, t, reduction="none", delta=0.7)),
    "smooth": ("real", lambda z, t: F.smooth_l1_loss(z, t, reduction="none", beta=0.7)),
    "logcosh": ("real", lambda z, t: torch.log(torch.cosh(z - t))),
    "pinball": ("real", lambda z, t: torch.maximum(0.7 * (t - z), (0.7 - 1) * (t - z))),
    "charbonnier": ("real", lambda z, t: torch.sqrt((z - t) ** 2 + 0.7 ** 2)),
    "poisson": ("count", lambda z, t: F.poisson_nll_loss(z, t, log_input=True, reduction="none")),
    "hinge": ("sign", lambda z, t: relu(1 - t * z)), "hinge2": ("sign", lambda z, t: relu(1 - t * z) ** 2),
    "exp": ("sign", lambda z, t: torch.exp(-t * z)), "logistic": ("sign", lambda z, t: F.soft_margin_loss(z, t, reduction="none")),
    "ramp": ("sign", lambda z, t: torch.clamp(1 - t * z, 0, 0.7)),
}
for name, (target, f) in KINDS.items():
    zd = torch.from_numpy(z).double().requires_grad_()
    t = torch.from_numpy({"real": real, "sign": sign, "count": count}[target]).double()
    loss = f(zd, t)
    slope, = torch.autograd.grad(loss.sum(), zd, create_graph=True)
    curve = torch.zeros(n) + (torch.autograd.grad(slope.sum(), zd)[0] if slope.requires_grad else 0)
    g.save(name, loss=loss, slope=slope, curve=curve)
g.write()
