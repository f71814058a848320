"""Golden values of @exponential_family_glm, from statsmodels' GLM."""
import numpy as np
import statsmodels.api as sm

from golden import Golden

g = Golden(__file__, seed=15)
for name, family, n, d in [("poisson", sm.families.Poisson(), 40, 3), ("binomial", sm.families.Binomial(), 50, 2), ("one", sm.families.Poisson(), 7, 1)]:
    X = g.normal(n, d)
    X[:, 0] = 1
    eta = X.astype(float) @ np.array([0.5, -0.8, 0.6])[:d]
    y = np.float32(g.rng.poisson(np.exp(eta)) if name != "binomial" else g.rng.random(n) < 1 / (1 + np.exp(-eta)))
    offset, w = np.float32(g.rng.random(n)), np.float32(1 + g.rng.integers(0, 3, n))
    fit = sm.GLM(y.astype(float), X.astype(float), family=family).fit(tol=1e-12)
    g.save(name, X=X, y=y, offset=offset, w=w, beta=fit.params, se=fit.bse)
    fit = sm.GLM(y.astype(float), X.astype(float), family=family, offset=offset.astype(float), freq_weights=w.astype(float)).fit(tol=1e-12)
    g.save(name + "_all", beta=fit.params, se=fit.bse)
g.write()
