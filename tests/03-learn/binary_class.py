"""Golden values of @binary_class: scikit-learn and statsmodels in float64."""
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, matthews_corrcoef
from statsmodels.stats.contingency_tables import mcnemar

from golden import Golden

g = Golden(__file__, seed=43)
for n, d in [(7, 1), (20, 2), (50, 3)]:
    x, w = g.normal(n, d), np.abs(g.normal(n))
    y = (x.sum(1) + g.normal(n) > 0.3).astype(int)
    y[:2] = 0, 1
    g.save(f"{n}", x=x, y=y, w=w)
    for weighted in (0, 1):
        v = w.astype(float) if weighted else np.ones(n)
        m = LogisticRegression(C=1 / (0.1 * v.sum()), tol=1e-12, max_iter=10 ** 5, solver="newton-cholesky").fit(x.astype(float), y, v)
        g.save(f"{n}/{weighted}", coef=[*m.coef_[0], m.intercept_[0]])
y, s = g.coin(40, 0.4), np.round(2 * g.normal(40))
y[:2] = 0, 1
best = max((f1_score(y, s >= t), t) for t in np.unique(s))
g.save("f1", y=y, s=s, best=best)
a, b = g.coin(60, 0.5), g.coin(60, 0.5)
g.save("mcc", cells=[np.sum((a == i) & (b == j)) for i, j in [(1, 1), (0, 1), (1, 0), (0, 0)]], value=matthews_corrcoef(a, b))
pairs = [(0, 0), (3, 3), (1, 9), (30, 12), (0, 6), (100, 150)]
g.save("mcnemar", pairs=pairs, p=[mcnemar([[5, b], [c, 5]], exact=True).pvalue for b, c in pairs])
g.write()
