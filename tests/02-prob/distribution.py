"""Golden values of @distribution, from scipy.stats."""
import numpy as np
from scipy import stats

from golden import Golden

g = Golden(__file__, seed=5)
x0 = np.float32([-30, -8, -3, -1.25, -0.01, 0, 0.004, 0.3, 0.5, 0.92, 1, 1.5, 4, 9, 25, 37]).astype(float)
p = np.float32([1e-20, 1e-6, 0.025, 0.3, 0.5, 0.75, 0.975, 0.99999]).astype(float)
CASES = [("uniform", []), ("expon", []), ("norm", []), ("laplace", []), ("logistic", []), ("cauchy", []), ("t", [1]), ("t", [2]),
         ("t", [3.5]), ("t", [1e4]), ("gamma", [0.25]), ("gamma", [1]), ("gamma", [7.5]), ("chi2", [1]), ("chi2", [2]), ("chi2", [9]),
         ("beta", [0.5, 0.5]), ("beta", [2, 5]), ("beta", [1, 3]), ("beta", [40, 1])]
for k, (name, shape) in enumerate(CASES):
    for loc, scale in [(0, 1), (-1.5, 2.5)]:
        d = getattr(stats, name)(*shape, loc=loc, scale=scale)
        x = np.float32(loc + scale * x0).astype(float)
        with np.errstate(all="ignore"):
            logpdf, mean, var = d.logpdf(x), d.mean(), d.var()
        if name in ("cauchy",) or (name == "t" and shape == [1]):
            mean, var = np.nan, np.nan
        g.save(f"{k}/{scale}", x=x, logpdf=logpdf, logcdf=d.logcdf(x), logsf=d.logsf(x), quantile=d.ppf(p), moments=[mean, var])
g.save("all", p=p)
g.write()
