"""Golden values of @cross_entropy: torch.nn.functional.cross_entropy in float64 on the float32 inputs that the test reads
back (index and probability targets, class weights, ignored rows), the z-loss by autograd, SciPy for the entropies."""
import numpy as np
import torch
from scipy.stats import entropy
from torch.nn.functional import cross_entropy

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=4)


def double(a):
    return torch.from_numpy(a).double()


for N, V in [(1, 1), (2, 2), (5, 3), (4, 17), (7, 8), (3, 50)]:
    z, target = 4 * g.normal(N, V), g.rng.integers(0, V, N)
    weight = np.abs(g.normal(V)) + np.float32(0.1)
    z[-1] += 10000
    if N > 2:
        target[1] = -100
    p = g.normal(N, V) ** 2 + np.float32(0.01)
    p[:, ::3] = 0 if V > 1 else 1
    p = (p / p.sum(1, keepdims=True)).astype(np.float32)

    zd, t = double(z).requires_grad_(), torch.from_numpy(target)
    loss = cross_entropy(zd, t, reduction="none")
    cross_entropy(zd, t, reduction="mean").backward()
    mean, zd.grad = zd.grad, None
    cross_entropy(zd, t, reduction="sum").backward()
    total, zd.grad = zd.grad, None
    weighted = cross_entropy(zd, t, weight=double(weight), reduction="none")
    cross_entropy(zd, t, weight=double(weight), reduction="mean").backward()
    dweighted, zd.grad = zd.grad, None
    soft = cross_entropy(zd, double(p), reduction="none")
    soft.sum().backward()
    dsoft, zd.grad = zd.grad, None
    g.save(f"{N}x{V}", z=z, target=target, weight=weight, p=p, loss=loss, lse=torch.logsumexp(zd, 1), mean=mean,
           sum=total, weighted=weighted, dweighted=dweighted, soft=soft, dsoft=dsoft)

# z-loss: c lse^2 is added to the weighted loss of each row that is kept; logits of ordinary size
z, target, weight = 3 * g.normal(6, 11), g.rng.integers(0, 11, 6), np.abs(g.normal(11))
target[2] = -100
zd, t = double(z).requires_grad_(), torch.from_numpy(target)
loss = cross_entropy(zd, t, weight=double(weight), reduction="none")
loss = loss + 0.01 * torch.logsumexp(zd, 1) ** 2 * (t != -100)
(0.25 * loss.sum()).backward()
g.save("z_loss", z=z, target=target, weight=weight, loss=loss, dz=zd.grad)

# the same smoothed targets as torch's label_smoothing
zd = double(z).requires_grad_()
t = torch.from_numpy(np.where(target < 0, 0, target))
loss = cross_entropy(zd, t, label_smoothing=0.1, reduction="none")
loss.sum().backward()
g.save("smooth", target=t, loss=loss, dz=zd.grad)

p, q = g.normal(13) ** 2, g.normal(13) ** 2
p[4] = 0
p, q = (p / p.sum()).astype(np.float32), (q / q.sum()).astype(np.float32)
pd, qd = p.astype(float), q.astype(float)  # scipy would normalise again: undo it
h, kl = -np.sum(pd[pd > 0] * np.log(pd[pd > 0])), np.sum(pd[pd > 0] * np.log(pd[pd > 0] / qd[pd > 0]))
assert abs(h - entropy(pd)) < 1e-6 and abs(kl - entropy(pd, qd)) < 1e-6
g.save("decompose", p=p, q=q, parts=[h, kl, h + kl])
g.write()
