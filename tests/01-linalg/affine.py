"""Golden values of @affine: scikit-learn's StandardScaler, NumPy for apply, compose and inverse in float64, torch for the fold
of a batch normalization behind a linear layer (fuse_linear_bn_weights)."""
import numpy as np
import torch
from sklearn.preprocessing import StandardScaler

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=23)
for b, m, k, n in [(1, 1, 1, 1), (3, 2, 5, 4), (4, 7, 3, 6)]:
    x, w1, b1, w2, b2 = g.normal(b, n), g.normal(k, n), g.normal(k), g.normal(m, k), g.normal(m)
    d = lambda a: a.astype(np.float64)
    g.save(f"{m}x{k}x{n}", x=x, w1=w1, b1=b1, w2=w2, b2=b2, y1=d(x) @ d(w1).T + d(b1), w=d(w2) @ d(w1),
           b=d(w2) @ d(b1) + d(b2))
for n in (1, 2, 6):
    w, b = g.normal(n, n), g.normal(n)
    inverse = np.linalg.inv(w.astype(np.float64))
    g.save(f"inverse{n}", w=w, b=b, iw=inverse, ib=-inverse @ b.astype(np.float64))

x = np.float32(g.normal(17, 4) * [1, 100, 1e-3, 0] + [0, 1e4, 5, 0.1])
s = StandardScaler().fit(x.astype(np.float64))
g.save("standard", x=x, scale=1 / s.scale_, shift=-s.mean_ / s.scale_, y=s.transform(x.astype(np.float64)))

linear, norm = torch.nn.Linear(5, 3).double().eval(), torch.nn.BatchNorm1d(3).double().eval()
with torch.no_grad():
    for p in (*linear.parameters(), *norm.parameters(), norm.running_mean):
        p.copy_(torch.from_numpy(g.normal(*p.shape)))
    norm.running_var.copy_(torch.from_numpy(np.abs(g.normal(3)) + 0.5))
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    fused = torch.nn.utils.fusion.fuse_linear_bn_eval(linear, norm)
    g.save("fold", w=linear.weight, b=linear.bias, scale=scale, shift=norm.bias - scale * norm.running_mean,
           fw=fused.weight, fb=fused.bias)
g.write()
