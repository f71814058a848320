"""Golden values of @mlp_train: 50 full-batch steps of torch.optim.SGD in float64, from the float32 weights that the test
reads back."""
import numpy as np
import torch
from torch.nn import functional as F

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=13)
for k, momentum in enumerate([0.0, 0.9]):
    size, N = [3, 6, 4], 11
    x, label, target = g.normal(N, size[0]), g.rng.integers(0, size[-1], N), g.normal(N, size[-1])
    w = [(g.normal(o, i + 1) / np.sqrt(i)).astype(np.float32) for i, o in zip(size, size[1:])]
    start = np.concatenate([np.concatenate([m[:, :-1].ravel(), m[:, -1]]) for m in w])
    out = dict(x=x, label=label, target=target, w=start)
    for name in ["softmax", "mse"]:
        leaves = [torch.from_numpy(p.copy()).double().requires_grad_() for m in w for p in (m[:, :-1], m[:, -1])]
        step = torch.optim.SGD(leaves, lr=0.05, momentum=momentum)
        for _ in range(50):
            a, b, c, d = leaves
            y = F.linear(torch.tanh(F.linear(torch.from_numpy(x).double(), a, b)), c, d)
            loss = (F.cross_entropy(y, torch.from_numpy(label)) if name == "softmax"
                    else 0.5 * ((y - torch.from_numpy(target).double()) ** 2).sum() / N)
            step.zero_grad()
            loss.backward()
            step.step()
        out |= {f"{name}_w": np.concatenate([p.detach().numpy().ravel() for p in leaves]), f"{name}_loss": loss}
    g.save(f"{k}", **out)
g.write()
