"""Golden values of @entropy: scipy.stats.entropy, torch autograd, Chao-Shen and shrinkage in NumPy."""
import numpy as np
import torch
from scipy import stats

from golden import Golden

g = Golden(__file__, seed=16)
for n in [1, 2, 7, 31]:
    p = np.float32(g.rng.random(n))
    p[n // 2] = 0 if n > 1 else 1
    q = p.astype(float) / p.astype(float).sum()
    nz = q[q > 0]
    renyi = [np.log(len(nz)), np.log((nz**0.5).sum()) / 0.5, stats.entropy(q), -np.log((q**2).sum()), np.log((nz**5).sum()) / -4, -np.log(q.max())]
    g.save(f"p{n}", p=p, q=np.float32(q), nats=[stats.entropy(p.astype(float))], bits=[stats.entropy(p.astype(float), base=2)], renyi=renyi)

for n, v in [(1, 1), (3, 2), (4, 17)]:
    z, dh = 3 * g.normal(n, v), g.normal(n)
    if v > 2:
        z[1] += 1e4
    t = torch.from_numpy(z).double().requires_grad_()
    h = torch.distributions.Categorical(logits=t).entropy()
    (h * torch.from_numpy(dh).double()).sum().backward()
    g.save(f"z{n}x{v}", z=z, dh=dh, h=h, dz=t.grad)

for i, c in enumerate([[4, 2, 1, 1, 0, 0, 3], [1, 1, 1, 1], [5], [10, 10, 10], [30, 1, 0, 0, 0, 0, 1, 2]]):
    c = np.array(c, float)
    n, k = c.sum(), len(c)
    u = c / n
    plug = stats.entropy(c)
    mm = plug + (np.count_nonzero(c) - 1) / (2 * n)
    f1 = min((c == 1).sum(), n - 1) if (c == 1).sum() == n else (c == 1).sum()
    pa = (1 - f1 / n) * u[u > 0]
    with np.errstate(divide="ignore"):
        cs = -np.sum(pa * np.log(pa) / (1 - (1 - pa) ** n))
    denominator = (n - 1) * ((1 / k - u) ** 2).sum()
    lam = 1 if denominator == 0 else min(1, (1 - (u**2).sum()) / denominator)
    g.save(f"c{i}", c=c, h=[plug, mm, cs, stats.entropy(lam / k + (1 - lam) * u)])
g.write()
