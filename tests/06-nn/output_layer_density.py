"""Golden values of @output_layer_density: statsmodels' ordered logit by hand in torch, torch's gaussian_nll_loss, and
torch.distributions.MixtureSameFamily, with autograd in float64 on the float32 inputs that the test reads back."""
import numpy as np
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.nn import functional as F

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=21)


def double(a):
    return torch.from_numpy(a).double().requires_grad_()


for N, K in [(1, 2), (9, 3), (11, 6)]:
    z, theta, label = (2 * g.normal(N)).astype(np.float32), g.normal(K - 1), g.rng.integers(0, K, N)
    zd, td = double(z), double(theta)
    cut = torch.cumsum(torch.cat([td[:1], F.softplus(td[1:])]), 0)
    upto = torch.cat([torch.sigmoid(cut - zd[:, None]), torch.ones(N, 1, dtype=torch.float64)], 1)
    p = torch.diff(upto, dim=1, prepend=torch.zeros(N, 1, dtype=torch.float64))
    loss = -torch.log(p[torch.arange(N), torch.from_numpy(label)]).mean()
    loss.backward()
    g.save(f"ordered/{N}x{K}", z=z, theta=theta, label=label, p=p, loss=loss, dz=zd.grad, dtheta=td.grad)
for N, D in [(1, 1), (5, 3)]:
    z, t = g.normal(N, 2 * D), g.normal(N, D)
    zd = double(z)
    loss = F.gaussian_nll_loss(zd[:, :D], torch.from_numpy(t).double(), zd[:, D:].exp(), full=True, reduction="sum") / N
    loss.backward()
    g.save(f"normal/{N}x{D}", z=z, t=t, loss=loss, dz=zd.grad)
for N, D, M in [(1, 1, 1), (4, 1, 3), (5, 2, 4)]:
    z, t = g.normal(N, M * (2 + D)), g.normal(N, D)
    zd = double(z)
    parts = Independent(Normal(zd[:, 2 * M:].reshape(N, M, D), zd[:, M:2 * M].exp()[:, :, None].expand(N, M, D)), 1)
    loss = -MixtureSameFamily(Categorical(logits=zd[:, :M]), parts).log_prob(torch.from_numpy(t).double()).mean()
    loss.backward()
    g.save(f"mixture/{N}x{D}x{M}", z=z, t=t, loss=loss, dz=zd.grad)
g.write()
