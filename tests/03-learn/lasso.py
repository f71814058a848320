"""Golden values of @lasso: scikit-learn's Lasso and lars_path in float64."""
import numpy as np
from sklearn.linear_model import Lasso, lars_path

from golden import Golden

g = Golden(__file__, seed=41)
for n, d in [(5, 2), (13, 5), (20, 40)]:
    x = g.normal(n, d)
    y = (2 * x[:, 0] - x[:, d // 2] + 1 + 0.5 * g.normal(n)).astype(np.float32)
    xd, yd = x.astype(float), y.astype(float)
    xc, yc = xd - xd.mean(0), yd - yd.mean()
    top = abs(xc.T @ yc).max() / n
    lam = (top * np.array([0.8, 0.4, 0.1, 0.02])).astype(np.float32)
    g.save(f"{n}", x=x, y=y, lam=lam, top=top, w=[Lasso(alpha=float(a), tol=1e-14, max_iter=10 ** 6).fit(xd, yd).coef_ for a in lam])
    alphas, _, coefs = lars_path(xc, yc, method="lasso")
    k = min(5, len(alphas) - 1)
    g.save(f"{n}/lars", lam=alphas[1:k], w=coefs[:, 1:k].T)
g.write()
