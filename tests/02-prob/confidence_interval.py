"""Golden values of @confidence_interval: scipy.stats and statsmodels."""
import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import ttost_paired

from golden import Golden

g = Golden(__file__, seed=18)
x, y = g.normal(9), np.float32(0.3 + 2 * g.normal(13))
X, Y = x.astype(float), y.astype(float)
paired = X - Y[:9]
w = stats.ttest_ind(X, Y, equal_var=False).confidence_interval(0.9)
s2 = X.var(ddof=1)
g.save("data", x=x, y=y, mean=stats.t.interval(0.95, 8, X.mean(), stats.sem(X)),
       paired=stats.t.interval(0.9, 8, paired.mean(), stats.sem(paired)), welch=[w.low, w.high],
       variance=[8 * s2 / stats.chi2.ppf(0.975, 8), 8 * s2 / stats.chi2.ppf(0.025, 8)],
       tost=[ttost_paired(X, Y[:9], -3, 3)[0]])
r = stats.pearsonr(X, Y[:9])
ci = r.confidence_interval(0.95)
g.save("r", r=[r.statistic], ci=[ci.low, ci.high])
for m, method in enumerate(["normal", "wilson", "beta", "agresti_coull"]):
    out = []
    for k, n in [(0, 10), (10, 10), (3, 10), (1, 20), (470, 1000), (0, 1)]:
        lo, hi = proportion_confint(k, n, 0.05, method)
        out += [max(0, lo), min(1, hi)]
    g.save(f"p{m}", ci=out)
g.save("rate", ci=[0, stats.chi2.ppf(0.975, 2) / 2 / 4, stats.chi2.ppf(0.025, 14) / 2 / 4, stats.chi2.ppf(0.975, 16) / 2 / 4])
p = np.float32([0.01, 0.04, 0.03, 0.005, 0.5, 0.03])
g.save("holm", p=p, adjusted=multipletests(p.astype(float), method="holm")[1])
g.write()
