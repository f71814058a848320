"""Golden values of @softmax_head: torch.nn.functional.cross_entropy in float64. Writes softmax_head.txt."""
import numpy as np
import torch
import torch.nn.functional as F

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=134)
N, C, V = 6, 5, 11
h0, w0 = np.round(16 * g.normal(N, C)) / 16, np.round(16 * g.normal(V, C)) / 16
target = g.rng.integers(0, V, N)
target[[1, 4]] = -100
g.save("in", h=h0, w=w0, target=target)

for name, smoothing, z_loss, cap in [("plain", 0, 0, 0), ("smooth", 0.1, 0, 0), ("z", 0, 0.01, 0), ("cap", 0, 0, 0.75),
                                     ("all", 0.2, 0.005, 3.0)]:
    h, w = (torch.from_numpy(a).double().requires_grad_() for a in (h0, w0))
    z = h @ w.T
    if cap:
        z = cap * torch.tanh(z / cap)
    t = torch.from_numpy(target)
    loss = F.cross_entropy(z, t, reduction="none", label_smoothing=smoothing, ignore_index=-100)
    loss = loss + z_loss * torch.logsumexp(z, 1) ** 2 * (t != -100)
    (loss.sum() / (t != -100).sum()).backward()
    g.save(name, logits=z, lse=torch.logsumexp(z, 1), loss=loss, dh=h.grad, dw=w.grad)

g.write()
