"""Golden values of @sparse_coding: sklearn's orthogonal_mp and sparse_encode (lasso by coordinate descent). A few rounds
of FISTA as Beck and Teboulle write them (4.1 to 4.3), and of a dictionary: orthogonal_mp and NumPy's lstsq in turn."""
import numpy as np
from sklearn.decomposition import sparse_encode
from sklearn.linear_model import orthogonal_mp

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=72)
K, D, N = 12, 8, 3
d = g.normal(K, D)
d /= np.linalg.norm(d, axis=1, keepdims=True)
d = d.astype(np.float32)
x = g.normal(N, D)
dd, xd = d.astype(float), x.astype(float)
gram = dd @ dd.T
g.save("in", d=d, x=x, coherence=[np.abs(gram - np.diag(np.diag(gram))).max()], L=[np.linalg.eigvalsh(gram)[-1]])
unit = dd / np.linalg.norm(dd, axis=1, keepdims=True)
for k in (1, 3, 5):
    g.save(f"omp{k}", c=orthogonal_mp(unit.T, xd.T, n_nonzero_coefs=k).T)
for price in (0.05, 0.5):
    c = sparse_encode(xd, dd, algorithm="lasso_cd", alpha=price, max_iter=100000)
    c = sparse_encode(xd, dd, algorithm="lasso_lars", alpha=price, max_iter=100000)
    g.save(f"lasso{price}", c=c, value=[0.5 * ((xd - c @ dd) ** 2).sum() + price * np.abs(c).sum()])
L, price = np.linalg.norm(dd, 2) ** 2, 0.05
for name, fast in (("ista", False), ("fista", True)):
    c, y, t = np.zeros((N, K)), np.zeros((N, K)), 1.0
    for _ in range(4):
        step = y - (y @ dd - xd) @ dd.T / L
        new = np.sign(step) * np.maximum(np.abs(step) - price / L, 0)
        t, before = (1 + np.sqrt(1 + 4 * t * t)) / 2, t
        c, y = new, new + fast * (before - 1) / t * (new - c)
    g.save(f"{name}4", c=c)
K, D, N = 4, 5, 12
d = g.normal(K, D)
d = (d / np.linalg.norm(d, axis=1, keepdims=True)).astype(np.float32)
x = (0.2 * g.normal(N, D)).astype(np.float32)
dd, xd = d.astype(float), x.astype(float)
g.save("dictionary", d=d, x=x)
for r in range(4):
    c = orthogonal_mp(dd.T, xd.T, n_nonzero_coefs=2).T
    g.save(f"dictionary{r}", d=dd, c=c, left=[((xd - c @ dd) ** 2).mean()])
    dd = np.linalg.lstsq(c, xd, rcond=None)[0]
    dd /= np.linalg.norm(dd, axis=1, keepdims=True)
g.write()
