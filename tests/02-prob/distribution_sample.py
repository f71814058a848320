"""Golden values of @distribution_sample, from scipy.stats."""
import numpy as np
from scipy import stats

from golden import Golden

g = Golden(__file__, seed=6)
cov = [[4.0, 1.0, -0.5], [1.0, 2.0, 0.3], [-0.5, 0.3, 1.0]]
x = 2 * g.normal(5, 3)
g.save("mvn", x=x, logpdf=stats.multivariate_normal([1, -2, 0.5], cov).logpdf(x))
l = np.float32([0.05, 0.2, 0.5, 0.9, 1.0, 1.01, 1.36, 2, 4])
g.save("limit", l=l, sf=stats.kstwobign.sf(l.astype(float)))
for n in [1, 2, 5, 37]:
    x = g.normal(n) * np.float32(1.3)
    r = stats.kstest(x.astype(float), "norm")
    g.save(f"ks{n}", x=x, gap=[r.statistic], p=[r.pvalue])
g.write()
