"""Golden values of @hidden_layer: torch's linear and activation, numpy's singular values and correlations, scikit-learn's
Ridge without intercept on features with a constant column."""
import numpy as np
import torch
from sklearn.linear_model import Ridge
from torch.nn import functional as F

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=20)
for n, C, U in [(1, 1, 1), (7, 3, 5), (5, 2, 9), (30, 4, 6)]:
    x, w, b = g.normal(n, C), g.normal(U, C), g.normal(U)
    if U == 6:
        w[2], b[2] = 0, -1  # a dead unit
    h = F.relu(F.linear(*(torch.from_numpy(v).double() for v in (x, w, b)))).numpy()
    s = np.linalg.svd(h, compute_uv=False)
    p = s[s > 0] / s.sum() if s.sum() > 0 else np.array([1.0])
    c = np.linalg.svd(h - h.mean(0), compute_uv=False) ** 2
    z = h - h.mean(0)
    live = [u for u in range(U) if (z[:, u] ** 2).sum() > 0]
    r = [abs(np.corrcoef(h[:, a], h[:, e])[0, 1]) for i, a in enumerate(live) for e in live[:i]]
    stats = [h.mean(), (h > 0).mean(), np.mean(r) if r else 0.0, np.exp(-(p * np.log(p)).sum()) if s.sum() > 0 else 0.0,
             c.sum() ** 2 / (c**2).sum() if c.sum() > 0 else 0.0]
    g.save(f"{n}x{U}", x=x, w=w, b=b, h=h, stats=stats)
h, label = g.normal(40, 5), g.rng.integers(0, 3, 40)
fit = Ridge(alpha=0.5, fit_intercept=False).fit(np.column_stack([h, np.ones(40)]).astype(float), np.eye(3)[label])
right = (np.column_stack([h, np.ones(40)]) @ fit.coef_.T).argmax(1) == label
g.save("probe", h=h, label=label, readout=fit.coef_, accuracy=right.mean())
g.write()
