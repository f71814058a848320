"""Golden values of @wasserstein: POT (emd2_1d, sliced_wasserstein_distance, bures_wasserstein_distance) and SciPy
(wasserstein_distance) in float64, mpmath for normals without a density."""
import mpmath
import numpy as np
import ot
import scipy.stats

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=5)


def masses(n):
    m = np.round(10 * g.rng.random(n)).astype(np.float32) + (np.arange(n) == 0)
    return m / m.sum(dtype=np.float32)


for n, m in [(1, 1), (1, 4), (3, 3), (5, 2), (7, 7), (11, 13), (20, 20)]:
    x, y = g.normal(n), g.normal(m) + np.float32(0.5)
    y[-1] = x[0]  # a tie
    a, b = masses(n), masses(m)
    unit = [a.astype(np.float64) / a.sum(dtype=np.float64), b.astype(np.float64) / b.sum(dtype=np.float64)]
    x64, y64 = x.astype(np.float64), y.astype(np.float64)
    name = f"line{n}x{m}"
    g.save(name, x=x, y=y, a=a, b=b)
    g.save(name, plain=[scipy.stats.wasserstein_distance(x64, y64)] + [ot.emd2_1d(x64, y64, metric="minkowski", p=p) for p in (1, 2, 3)],
           weighted=[scipy.stats.wasserstein_distance(x64, y64, *unit)]
           + [ot.emd2_1d(x64, y64, *unit, metric="minkowski", p=p) for p in (1, 2, 3)])

for n, m, d, L in [(1, 1, 1, 1), (5, 5, 2, 3), (6, 4, 3, 7), (9, 11, 5, 5)]:
    x, y, theta = g.normal(n, d), g.normal(m, d) + np.float32(1), g.normal(L, d)
    theta /= np.linalg.norm(theta, axis=1, keepdims=True)
    a, b = masses(n), masses(m)
    cost = ot.sliced_wasserstein_distance(x.astype(np.float64), y.astype(np.float64), a.astype(np.float64) / a.sum(dtype=np.float64),
                                          b.astype(np.float64) / b.sum(dtype=np.float64), projections=theta.T.astype(np.float64)) ** 2
    g.save(f"sliced{n}x{m}", x=x, y=y, theta=theta, a=a, b=b, cost=[cost])

mpmath.mp.dps = 50
for d, rank in [(1, 1), (2, 2), (3, 3), (6, 6), (5, 2)]:
    r = [np.float32(np.round(2 * g.normal(d, rank))) for _ in range(2)]
    s, m = [x @ x.T for x in r], [g.normal(d), g.normal(d)]  # integers: exactly of that rank
    args = [z.astype(np.float64) for z in (m[0], m[1], s[0], s[1])]
    if rank == d:
        cost = ot.gaussian.bures_wasserstein_distance(*args) ** 2
    else:  # POT's root fails; the eigenvalues of S1 S2 are squares of those of (S1^(1/2) S2 S1^(1/2))^(1/2)
        w = mpmath.eig(mpmath.matrix(args[2].tolist()) * mpmath.matrix(args[3].tolist()), left=False, right=False)
        cost = float(((args[0] - args[1]) ** 2).sum() + np.trace(args[2] + args[3]) - 2 * sum(mpmath.sqrt(max(mpmath.re(x), 0)) for x in w))
    g.save(f"normal{d}x{rank}", m1=m[0], m2=m[1], s1=s[0], s2=s[1], cost=[cost])
g.write()
