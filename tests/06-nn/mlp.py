"""Golden values of @mlp: torch autograd in float64 over linear layers, on the float32 weights and inputs that the test
reads back."""
import numpy as np
import torch
from torch.nn import functional as F

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=12)
NETS = [([3, 5, 4, 2], torch.tanh, "softmax", 6), ([2, 7, 3], torch.relu, "mse", 5), ([4, 3], torch.tanh, "bce", 3),
        ([1, 1, 1, 1], F.silu, "mse", 1), ([5, 2, 9, 6, 4], F.gelu, "softmax", 7)]

for k, (size, act, head, N) in enumerate(NETS):
    x, t = g.normal(N, size[0]), g.rng.integers(0, size[-1], N)
    w = [(g.normal(o, i + 1) / np.sqrt(i)).astype(np.float32) for i, o in zip(size, size[1:])]
    flat = np.concatenate([np.concatenate([m[:, :-1].ravel(), m[:, -1]]) for m in w])
    target = g.normal(N, size[-1]) if head == "mse" else g.coin(N * size[-1], 0.5).reshape(N, -1)
    leaves = [(torch.from_numpy(m[:, :-1]).double().requires_grad_(), torch.from_numpy(m[:, -1]).double().requires_grad_())
              for m in w]
    h = xd = torch.from_numpy(x).double().requires_grad_()
    for l, (a, b) in enumerate(leaves):
        h = F.linear(h, a, b)
        if l + 1 < len(leaves):
            h = act(h)
    y = h
    want = torch.from_numpy(target).double()
    loss = {"softmax": lambda: F.cross_entropy(y, torch.from_numpy(t)),
            "mse": lambda: 0.5 * ((y - want) ** 2).sum() / N,
            "bce": lambda: F.binary_cross_entropy_with_logits(y, want, reduction="sum") / N}[head]()
    loss.backward()
    dw = np.concatenate([np.concatenate([a.grad.numpy().ravel(), b.grad.numpy()]) for a, b in leaves])
    g.save(f"{k}", x=x, w=flat, label=t, target=target, y=y, loss=loss, dw=dw, dx=xd.grad)
g.write()
