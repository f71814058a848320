"""Golden values of @lagrange: SciPy's SLSQP on quadratic programs, polished to full precision by the linear system of the
constraints that are active at its answer; the multipliers from that system."""
import numpy as np
from scipy.optimize import minimize

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=31)
for n, k, e in [(1, 1, 0), (2, 3, 0), (3, 4, 1), (5, 8, 2), (6, 12, 0)]:
    m = g.normal(n, n).astype(np.float64)
    q, c, rows = np.float32(m @ m.T + 0.5 * np.eye(n)), 3 * g.normal(n), g.normal(k, n)
    start = g.normal(n)
    d = lambda a: np.asarray(a, dtype=np.float64)
    q = np.float32((q + q.T) / 2)
    h = d(rows) @ d(start) + np.where(np.arange(k) < e, 0, np.abs(g.normal(k)))
    f = lambda x: 0.5 * x @ d(q) @ x + d(c) @ x
    cons = [{"type": "eq" if i < e else "ineq", "fun": lambda x, i=i: h[i] - d(rows)[i] @ x} for i in range(k)]
    r = minimize(f, d(start), method="SLSQP", constraints=cons, jac=lambda x: d(q) @ x + d(c), options={"ftol": 1e-12, "maxiter": 500})
    active = [i for i in range(k) if i < e or h[i] - d(rows)[i] @ r.x < 1e-6]
    a = d(rows)[active]
    kkt = np.block([[d(q), a.T], [a, np.zeros((len(active),) * 2)]])
    both = np.linalg.solve(kkt, np.concatenate([-d(c), h[active]]))
    mu = np.zeros(k)
    mu[active] = both[n:]
    assert np.abs(both[:n] - r.x).max() < 1e-5 and (mu[e:] > -1e-9).all()
    g.save(f"{n}x{k}", q=q, c=c, g=rows, h_room=h - d(rows) @ d(start), start=start, x=both[:n], mu=mu, value=[f(both[:n])])
g.write()
