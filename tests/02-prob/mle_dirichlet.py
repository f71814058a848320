"""Golden values of @mle_dirichlet: the maximum found by SciPy's BFGS on the sum of dirichlet log densities."""
import numpy as np
from scipy import optimize, stats

from golden import Golden

g = Golden(__file__, seed=14)
for name, alpha, n in [("two", [0.8, 2], 40), ("three", [5, 1, 0.4], 60), ("wide", [0.5, 0.7, 3, 12, 1], 50), ("tight", [300, 500, 200], 30)]:
    p = np.float32(np.maximum(g.rng.dirichlet(alpha, n), 1e-6))
    m = np.log(p.astype(float)).mean(0)
    from scipy.special import gammaln

    f = lambda u: -(gammaln(np.exp(u).sum()) - gammaln(np.exp(u)).sum() + ((np.exp(u) - 1) * m).sum())
    r = optimize.minimize(f, np.log(alpha), method="BFGS", options={"gtol": 1e-9})
    r = optimize.minimize(f, r.x, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-15, "maxiter": 20000})
    q = p.astype(float)
    q /= q.sum(1, keepdims=True)
    assert abs(stats.dirichlet.logpdf(q.T, np.exp(r.x)).mean() + r.fun) < 1e-4
    g.save(name, p=p, alpha=np.exp(r.x), l=[-r.fun])
g.write()
