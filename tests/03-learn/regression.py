"""Golden values of @regression: statsmodels' RLM, scikit-learn's QuantileRegressor and scores, in float64."""
import numpy as np
import statsmodels.api as sm
from sklearn.linear_model import LinearRegression, QuantileRegressor
from sklearn.metrics import (explained_variance_score, mean_absolute_error, mean_absolute_percentage_error, r2_score)

from golden import Golden

g = Golden(__file__, seed=38)
for n, d in [(7, 1), (23, 2), (60, 3)]:
    x = g.normal(n, d)
    y = (x @ g.normal(d) + g.normal(n) * (1 + abs(x[:, 0]))).astype(np.float32)
    y[::9] += 20
    xd, yd = x.astype(float), y.astype(float)
    g.save(f"{n}", x=x, y=y)
    ols = LinearRegression().fit(xd, yd)
    g.save(f"{n}", ols=[*ols.coef_, ols.intercept_])
    rlm = sm.RLM(yd, sm.add_constant(xd, prepend=False), sm.robust.norms.HuberT(1.345)).fit(maxiter=2000, tol=1e-12)
    g.save(f"{n}", huber=rlm.params)
    for tau in (0.1, 0.5, 0.9):
        q = QuantileRegressor(quantile=tau, alpha=0, solver="highs").fit(xd, yd)
        r = yd - q.predict(xd)
        g.save(f"{n}/{tau}", w=[*q.coef_, q.intercept_], loss=np.sum(np.where(r > 0, tau * r, (tau - 1) * r)))
    fit = ols.predict(xd).astype(np.float32) + np.float32(0.5)
    r2 = r2_score(yd, fit)
    g.save(f"{n}/score", fit=fit, want=[r2, 1 - (1 - r2) * (n - 1) / (n - d - 1), explained_variance_score(yd, fit),
                                        mean_absolute_error(yd, fit), mean_absolute_percentage_error(yd, fit)])
g.write()
