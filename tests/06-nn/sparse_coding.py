"""Golden values of @sparse_coding: sklearn's orthogonal_mp and sparse_encode (lasso by coordinate descent)."""
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
g.write()
