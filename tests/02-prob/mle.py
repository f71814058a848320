"""Golden values of @mle: scipy.stats fits, statsmodels' negative binomial, scipy's censored Weibull."""
import warnings

import numpy as np
import statsmodels.api as sm
from scipy import optimize, stats

from golden import Golden

warnings.filterwarnings("ignore")
g = Golden(__file__, seed=13)


def polish(theta, nll):
    """SciPy's fits stop at 1e-4; go on in log parameters."""
    r = optimize.minimize(lambda u: nll(np.exp(u)), np.log(theta), method="Nelder-Mead",
                          options={"xatol": 1e-10, "fatol": 1e-13, "maxiter": 10000})
    return np.exp(r.x), -r.fun


x = np.float32(g.rng.gamma(2.3, 1.7, 60))
a, _, s = stats.gamma.fit(x.astype(float), floc=0)
theta, l = polish([a, s], lambda t: -stats.gamma.logpdf(x.astype(float), t[0], scale=t[1]).sum())
assert np.allclose(theta, [a, s], rtol=1e-3)
g.save("gamma", x=x, theta=theta, l=[l])

x = np.float32(g.rng.beta(0.7, 3, 50))
a, b, _, _ = stats.beta.fit(x.astype(float), floc=0, fscale=1)
theta, l = polish([a, b], lambda t: -stats.beta.logpdf(x.astype(float), *t).sum())
assert np.allclose(theta, [a, b], rtol=1e-3)
g.save("beta", x=x, theta=theta, l=[l])

x = np.float32(g.rng.negative_binomial(2.5, 0.3, 80))
fit = sm.NegativeBinomial(x.astype(float), np.ones(80)).fit(disp=0, maxiter=200)  # log mean, alpha = 1/n
theta, l = polish([1 / fit.params[1], np.exp(fit.params[0])],
                  lambda t: -stats.nbinom.logpmf(x.astype(float), t[0], t[0] / (t[0] + t[1])).sum())
assert np.allclose(theta, [1 / fit.params[1], np.exp(fit.params[0])], rtol=1e-3) and np.isclose(l, fit.llf)
g.save("negative", x=x, theta=theta, l=[l], se_mean=[fit.bse[0] * np.exp(fit.params[0])])

full = 2 * g.rng.weibull(1.6, 70)
end = 1 + 2 * g.rng.random(70)
x, event = np.float32(np.minimum(full, end)), full < end
data = stats.CensoredData(uncensored=x[event].astype(float), right=x[~event].astype(float))
c, _, s = stats.weibull_min.fit(data, floc=0)


def weibull(t):
    return -(stats.weibull_min.logpdf(x[event].astype(float), t[0], scale=t[1]).sum()
             + stats.weibull_min.logsf(x[~event].astype(float), t[0], scale=t[1]).sum())


theta, l = polish([c, s], weibull)
assert np.allclose(theta, [c, s], rtol=1e-3)
g.save("weibull", x=x, event=event.astype(int), theta=theta, l=[l])
g.write()
