"""Golden values of @wasserstein_sinkhorn: POT's sinkhorn_log in float64, OT_eps = <P,C> + eps KL(P | a b') from its plan."""
import warnings

import numpy as np
import ot

from golden import Golden  # tests/golden.py: writes named arrays as text

warnings.filterwarnings("ignore")
g = Golden(__file__, seed=9)


def masses(n):
    m = np.round(10 * g.rng.random(n)).astype(np.float32) + (np.arange(n) == 0)
    return m / m.sum(dtype=np.float32)


def solve(x, y, a, b, eps):
    a, b = a.astype(np.float64) / a.sum(dtype=np.float64), b.astype(np.float64) / b.sum(dtype=np.float64)
    cost = ot.dist(x.astype(np.float64), y.astype(np.float64))
    plan = ot.bregman.sinkhorn_log(np.maximum(a, 1e-300), np.maximum(b, 1e-300), cost, eps, stopThr=1e-13, numItermax=20000)
    some = plan > 1e-200
    kl = (plan[some] * np.log(plan[some] / np.outer(a, b)[some])).sum()
    return plan, (plan * cost).sum(), (plan * cost).sum() + eps * kl


for n, m, d, eps in [(1, 1, 1, 1.0), (2, 3, 1, 0.5), (5, 5, 2, 0.3), (7, 4, 3, 2.0), (9, 11, 2, 0.5)]:
    x, y, a, b = g.normal(n, d), g.normal(m, d) + np.float32(0.5), masses(n), masses(m)
    plan, cost, value = solve(x, y, a, b, eps)
    divergence = value - solve(x, x, a, a, eps)[2] / 2 - solve(y, y, b, b, eps)[2] / 2
    g.save(f"{n}x{m}", x=x, y=y, a=a, b=b, eps=[eps], plan=plan, values=[cost, value, divergence])
g.write()
