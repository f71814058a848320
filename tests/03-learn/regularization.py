"""Golden values of @regularization: scikit-learn's ElasticNet in float64."""
import numpy as np
from sklearn.linear_model import ElasticNet

from golden import Golden

g = Golden(__file__, seed=40)
for n, d in [(5, 1), (13, 4), (20, 30)]:
    x = g.normal(n, d)
    x[:, -1] = x[:, 0] + np.float32(0.1) * x[:, -1]  # correlated
    y = (2 * x[:, 0] - x[:, d // 2] + 3 + 0.3 * g.normal(n)).astype(np.float32)
    g.save(f"{n}", x=x, y=y)
    for a, r in [(0.05, 0.5), (0.3, 0.9), (0.1, 0.1)]:
        for intercept in (0, 1):
            m = ElasticNet(alpha=a, l1_ratio=r, fit_intercept=bool(intercept), tol=1e-14, max_iter=10 ** 6)
            m.fit(x.astype(float), y.astype(float))
            g.save(f"{n}/{a}/{r}/{intercept}", w=m.coef_, b=m.intercept_)
g.write()
