"""Golden values of @wasserstein_exact: POT's network simplex (ot.emd) and SciPy's linear_sum_assignment, in float64."""
import numpy as np
import ot
import scipy.optimize

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=7)


def masses(n):
    m = np.round(10 * g.rng.random(n)).astype(np.float32) + (np.arange(n) == 0)
    return m / m.sum(dtype=np.float32)


def unit(m):
    m = m.astype(np.float64)
    return m / m.sum()


for n, m in [(1, 1), (1, 3), (4, 1), (2, 2), (3, 5), (7, 7), (11, 6), (13, 17)]:
    x, y, a, b = g.normal(n, 2), g.normal(m, 2), masses(n), masses(m)
    cost = ot.dist(x.astype(np.float64), y.astype(np.float64))
    g.save(f"{n}x{m}", x=x, y=y, a=a, b=b, cost=cost)
    plan = ot.emd(unit(a), unit(b), cost)
    g.save(f"{n}x{m}", weighted=[(plan * cost).sum()], plan=plan, plain=[ot.emd2([], [], cost)])

for n, m in [(1, 1), (1, 4), (3, 3), (5, 9), (12, 12)]:
    cost = g.normal(n, m)  # of both signs
    row, to = scipy.optimize.linear_sum_assignment(cost.astype(np.float64))
    g.save(f"assign{n}x{m}", cost=cost, to=to, total=[cost.astype(np.float64)[row, to].sum()])
g.write()
