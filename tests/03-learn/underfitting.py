"""Golden values of @underfitting: NumPy's Gauss-Legendre rule, SciPy's F distribution, lack of fit from group sums."""
import numpy as np
from scipy import stats

from golden import Golden

g = Golden(__file__, seed=41)
for n in (1, 2, 5, 20):
    x, w = np.polynomial.legendre.leggauss(n)
    g.save(f"gauss{n}", x=x, w=w / 2)
f = [0.1, 0.5, 0.99, 1.0, 1.7, 4.0, 12.0, 60.0]
for a, b in [(1, 1), (2, 7), (5, 3), (10, 40), (1, 200), (30, 2)]:
    g.save(f"f{a}_{b}", f=f, p=stats.f.sf(f, a, b))
x = np.repeat(np.linspace(-1, 1, 6), 5)
y = (x**2 + 0.2 * g.rng.standard_normal(30)).astype(np.float32)
for d in (1, 2):
    fit = np.polyval(np.polyfit(x, y.astype(float), d), x).astype(np.float32)
    means = np.repeat(y.astype(float).reshape(6, 5).mean(1), 5)
    F = (((fit.astype(float) - means)**2).sum() / (6 - d - 1)) / (((y - means)**2).sum() / 24)
    g.save(f"lack{d}", y=y, fit=fit, F=[F], p=[stats.f.sf(F, 6 - d - 1, 24)])
g.write()
