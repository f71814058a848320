"""Golden values of @categorical, from scipy.stats."""
import warnings

import numpy as np
from scipy import stats

from golden import Golden

warnings.filterwarnings("ignore", category=RuntimeWarning)  # log 0 where p is 0 or 1
g = Golden(__file__, seed=7)
CASES = [("binom", 1, 0.3), ("binom", 10, 0.5), ("binom", 7, 0), ("binom", 7, 1), ("binom", 1e6, 1e-5), ("binom", 1e6, 0.3),
         ("binom", 0, 0.4), ("poisson", 0, 0), ("poisson", 0.01, 0), ("poisson", 4.5, 0), ("poisson", 1e5, 0), ("nbinom", 1, 0.5),
         ("nbinom", 2.5, 0.1), ("nbinom", 300, 0.7), ("nbinom", 3, 1), ("geom", 0, 0.25), ("geom", 0, 1), ("geom", 0, 1e-4)]
u = np.array([0, 0.001, 0.25, 0.5, 0.9, 0.999], np.float32).astype(float)
for i, (name, n, p) in enumerate(CASES):
    d = {"poisson": lambda: stats.poisson(n), "geom": lambda: stats.geom(p)}.get(name, lambda: getattr(stats, name)(n, p))()
    m, s = float(d.mean()), float(np.sqrt(d.var()))
    k = np.unique(np.concatenate([[-1, 0, 1, 2, 3, 7, 10, 11], np.floor(m + s * np.array([-2, -0.3, 1, 4]))]))
    quantile = np.maximum(d.ppf(u), 0)
    if (name, p) == ("geom", 1):  # SciPy divides by log 0; the first success is at 1 for sure
        quantile = np.minimum(np.ceil(u), 1)
    with np.errstate(all="ignore"):
        g.save(f"{i}", k=k, logpmf=d.logpmf(k), cdf=d.cdf(k), sf=d.sf(k), quantile=quantile, moments=[m, d.var()])
g.save("all", u=u)

p = np.array([0.2, 0.3, 0.5], np.float32)
for j, k in enumerate([[1, 0, 0], [2, 3, 5], [0, 0, 0], [20, 30, 50]]):
    g.save(f"multi{j}", k=k, logpmf=[stats.multinomial.logpmf(k, sum(k), p.astype(float) / p.astype(float).sum())])
k, p = np.array([18, 25, 31, 26, 40.0]), np.array([0.15, 0.2, 0.2, 0.2, 0.25])
r = stats.chisquare(k, p * k.sum())
g.save("chi2", k=k, p=p, out=[r.statistic, r.pvalue], fitted=[stats.chisquare(k, p * k.sum(), ddof=2).pvalue])
g.write()
