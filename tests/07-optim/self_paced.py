"""Golden values of @self_paced: the v steps by SciPy's bounded minimisation of v L + f(v), the implied losses by its quadrature of v*(L);
diversity by trying all choices."""
import itertools

import numpy as np
from scipy.integrate import quad
from scipy.optimize import minimize_scalar

from golden import Golden

g = Golden(__file__, seed=88)


def f(kind, v, lam, lam2):
    if kind == 0:
        return -lam * v
    if kind == 1:
        return lam * (v * v / 2 - v)
    if kind == 2:
        z = 1 - lam
        return z * v - z**v / np.log(z)
    zeta = 1 / (1 / lam2 - 1 / lam)
    return -zeta * np.log(v + zeta / lam)


def step(kind, L, lam, lam2):
    inside = minimize_scalar(lambda v: v * L + f(kind, v, lam, lam2), bounds=(0, 1), method="bounded", options=dict(xatol=1e-12)).x
    return min((0.0, 1.0, inside), key=lambda v: v * L + f(kind, v, lam, lam2))


L = np.array([0.0, 0.03, 0.1, 0.25, 0.4, 0.59, 0.61, 0.9, 3.0], np.float32)
for kind, lam, lam2 in ((0, 0.6, 0.0), (1, 0.6, 0.0), (2, 0.6, 0.0), (3, 0.6, 0.2)):
    a, b = float(np.float32(lam)), float(np.float32(lam2))
    v = [step(kind, float(x), a, b) for x in L]
    implied = [quad(lambda x: step(kind, x, a, b), 0, float(x), points=[p for p in (a, b) if 0 < p < x], limit=200)[0] for x in L]
    g.save(f"{kind}", lam=[lam, lam2], loss=L, v=v, f=[f(kind, x, a, b) for x in (0.0, 0.3, 1.0)], implied=implied)

n, G = 9, 3
for k, (lam, gamma) in enumerate(((0.5, 0.0), (0.5, 0.6), (0.1, 1.0))):
    loss, group = np.abs(g.normal(n)), g.rng.integers(0, G, n)
    lam, gamma = float(np.float32(lam)), float(np.float32(gamma))
    def cost(v):
        v = np.array(v)
        return (v * (loss.astype(float) - lam)).sum() - gamma * sum(np.sqrt(v[group == j].sum()) for j in range(G))
    g.save(f"diverse{k}", lam=[lam, gamma], loss=loss, group=group, v=min(itertools.product((0, 1), repeat=n), key=cost))
g.write()
