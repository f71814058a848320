"""Golden values of @output_layer: torch's losses and autograd in float64 on the float32 inputs that the test reads back."""
import numpy as np
import torch
from torch.nn import functional as F

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=11)


def half_square(y, t):
    return 0.5 * F.mse_loss(y, t, reduction="sum")


for N, K in [(1, 1), (2, 3), (5, 7), (3, 11)]:
    z = (3 * g.normal(N, K)).astype(np.float32)
    value = g.normal(N, K)
    share = g.rng.random((N, K)).astype(np.float32)
    soft = (share / share.sum(1, keepdims=True)).astype(np.float32)
    label = g.rng.integers(0, K, N)
    count = g.rng.poisson(2.0, (N, K)).astype(np.float32)
    positive = np.exp(value).astype(np.float32)
    out = dict(z=z, value=value, share=share, soft=soft, label=label, count=count, positive=positive)
    heads = {
        "mse": (lambda x: x, lambda x: half_square(x, torch.from_numpy(value).double())),
        "bce": (torch.sigmoid, lambda x: F.binary_cross_entropy_with_logits(
            x, torch.from_numpy(share).double(), reduction="sum")),
        "class": (lambda x: torch.softmax(x, 1), lambda x: F.cross_entropy(x, torch.from_numpy(label), reduction="sum")),
        "soft": (lambda x: torch.softmax(x, 1), lambda x: -(torch.from_numpy(soft).double() * F.log_softmax(x, 1)).sum()),
        "poisson": (torch.exp, lambda x: F.poisson_nll_loss(
            x, torch.from_numpy(count).double(), log_input=True, reduction="sum")),
        "positive": (F.softplus, lambda x: half_square(F.softplus(x), torch.from_numpy(positive).double())),
    }
    for name, (link, loss) in heads.items():
        x = torch.from_numpy(z).double().requires_grad_()
        mean = loss(x) / N
        mean.backward()
        out |= {f"{name}_loss": mean, f"{name}_dz": x.grad, f"{name}_yhat": link(x)}
    g.save(f"{N}x{K}", **out)
g.write()
