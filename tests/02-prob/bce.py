"""Golden values of @bce: torch.nn.functional losses with autograd; focal as torchvision writes it."""
import numpy as np
import torch
import torch.nn.functional as F

from golden import Golden

g = Golden(__file__, seed=17)
d64 = lambda a: torch.from_numpy(np.asarray(a)).double()


def sigmoid_focal_loss(inputs, targets, alpha, gamma):  # torchvision.ops.sigmoid_focal_loss, reduction none
    ce_loss = F.binary_cross_entropy_with_logits(inputs, targets, reduction="none")
    miss = torch.sigmoid(-inputs) * targets + torch.sigmoid(inputs) * (1 - targets)  # 1 - p_t, which rounds to 0 at z = 60
    loss = ce_loss * miss**gamma
    if alpha >= 0:
        loss = (alpha * targets + (1 - alpha) * (1 - targets)) * loss
    return loss


n, l = 5, 3
z, y, w, dy = 2 * g.normal(n, l), np.float32(g.rng.integers(0, 2, (n, l))), np.float32(g.rng.random((n, l))), g.normal(n, l)
y[0], y[1, 1], pw = [0.3, 0.5, 0.9], 0.7, np.float32([1, 3, 0.5])
z[3], z[4, 0] = [30, -30, 8], -60
p = np.float32(1 / (1 + np.exp(-z.astype(float))))
p[2] = [0, 1, 0.5]
g.save("in", z=z, y=y, w=w, dy=dy, pw=pw, p=p)
for name, weight in [("plain", None), ("weighted", d64(w))]:
    x = d64(p).requires_grad_()
    loss = F.binary_cross_entropy(x, d64(y), weight, reduction="none")
    (loss * d64(dy)).sum().backward()
    g.save(f"p/{name}", loss=loss, d=x.grad)
    for pos in (None, pw):
        x = d64(z).requires_grad_()
        args = (x, d64(y), weight)
        k = {"pos_weight": None if pos is None else d64(pos)}
        loss = F.binary_cross_entropy_with_logits(*args, reduction="none", **k)
        (loss * d64(dy)).sum().backward()
        reduced = [F.binary_cross_entropy_with_logits(*args, reduction=r, **k).item() for r in ("sum", "mean")]
        g.save(f"z/{name}{'' if pos is None else '_pos'}", loss=loss, d=x.grad, reduced=reduced)
for i, (alpha, gamma) in enumerate([(0.25, 2), (-1, 0), (-1, 1), (0.6, 0.5)]):
    x = d64(z).requires_grad_()
    loss = sigmoid_focal_loss(x, d64(y), alpha, gamma)
    (loss * d64(dy)).sum().backward()
    g.save(f"focal{i}", loss=loss, d=x.grad)
g.write()
