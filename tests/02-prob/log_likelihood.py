"""Golden values of @log_likelihood: scipy.stats sums, statsmodels AIC and BIC of a linear model."""
import numpy as np
import statsmodels.api as sm
from scipy import special, stats

from golden import Golden

g = Golden(__file__, seed=11)
CASES = [("norm", [], 0.3, 1.7), ("laplace", [], -0.2, 0.8), ("logistic", [], 0.1, 1.1), ("cauchy", [], 0.5, 2), ("t", [4.5], 0.2, 1.5),
         ("expon", [], -4, 2), ("gamma", [2.5], -4, 1.2), ("chi2", [3], -4, 0.9), ("beta", [2, 3.5], -4, 9), ("uniform", [], -4, 9)]
x = np.clip(g.normal(37), -3.5, 3.5)
w = np.float32(g.rng.random(37))
w[5] = 0
g.save("x", x=x, w=w)
for i, (name, shape, loc, scale) in enumerate(CASES):
    l = getattr(stats, name).logpdf(x.astype(float), *shape, loc=loc, scale=scale)
    g.save(f"iid{i}", sum=[l.sum()], weighted=[(l * w.astype(float)).sum()])

parts = np.array([stats.norm.logpdf(x.astype(float), -1, 0.5), stats.norm.logpdf(x.astype(float), 1, 1), stats.laplace.logpdf(x.astype(float))]).T
terms = parts + np.log([0.2, 0.5, 0.3])
g.save("mixture", sum=[special.logsumexp(terms, axis=1).sum()], r=special.softmax(terms, axis=1))

X, y = g.normal(30, 3).astype(float), g.normal(30).astype(float)
y += X[:, 0]
fit = sm.OLS(y, sm.add_constant(X)).fit()  # statsmodels counts 4 coefficients, not the variance
g.save("ols", l=[fit.llf], aic=[fit.aic], bic=[fit.bic], aicc=[sm.tools.eval_measures.aicc(fit.llf, 30, 4)])
g.write()
