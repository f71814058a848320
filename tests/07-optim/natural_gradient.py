"""Golden values of @natural_gradient: SciPy's boundary-value solver on the geodesic equations of N(m, s^2), NumPy's solves, SciPy's
least squares by one exact step, exponentiated gradient in plain NumPy."""
import numpy as np
from scipy.integrate import solve_bvp

from golden import Golden

g = Golden(__file__, seed=89)
ts = np.array([0.0, 0.25, 0.5, 0.9, 1.0])
ends = [(0.0, 1.0, 2.0, 1.0), (0.0, 0.5, 1.0, 3.0), (-1.0, 2.0, 0.5, 0.3), (0.0, 1.0, 0.0, 4.0), (3.0, 0.2, -3.0, 0.2)]
paths = []
for m0, s0, m1, s1 in ends:
    # metric diag(1, 2) / s^2: m'' = 2 m' s' / s, s'' = s'^2 / s - m'^2 / (2 s)
    rhs = lambda t, y: np.vstack([y[2], y[3], 2 * y[2] * y[3] / y[1], y[3] ** 2 / y[1] - y[2] ** 2 / (2 * y[1])])
    bc = lambda a, b: np.array([a[0] - m0, a[1] - s0, b[0] - m1, b[1] - s1])
    t = np.linspace(0, 1, 200)
    bump = abs(m1 - m0) / 3 * np.sin(np.pi * t)
    guess = np.vstack([m0 + (m1 - m0) * t, s0 + (s1 - s0) * t + bump, np.full_like(t, m1 - m0), np.gradient(s0 + (s1 - s0) * t + bump, t)])
    r = solve_bvp(rhs, bc, t, guess, tol=1e-9, max_nodes=100000)
    assert r.success
    paths.append(r.sol(ts)[:2].T)
g.save("geodesic", ends=np.array(ends), t=ts, path=np.array(paths))

for n, damping in ((1, 0.5), (4, 0.0), (7, 0.1)):
    q, grad = g.normal(n, n), g.normal(n)
    F = (q @ q.T).astype(np.float32)
    d = float(np.float32(damping))
    g.save(f"solve{n}", F=F, g=grad, damping=[d], x=np.linalg.solve(F.astype(float) + d * np.eye(n), grad.astype(float)))
J, r = g.normal(9, 3), g.normal(9)
A, b, d = J.astype(float).T @ J.astype(float), J.astype(float).T @ r.astype(float), float(np.float32(0.3))
g.save("squares", J=J, r=r, gauss=np.linalg.lstsq(J.astype(float), r.astype(float))[0], levenberg=np.linalg.solve(A + d * np.eye(3), b),
       marquardt=np.linalg.solve(A + d * np.diag(np.diag(A)), b))
p, h, q = (g.rng.random(5).astype(np.float32) for _ in range(3))
p, q = (p / p.sum()).astype(np.float32), (q / q.sum()).astype(np.float32)
e = p.astype(float) * np.exp(-0.7 * h.astype(float))
P, Q = p.astype(float) / p.astype(float).sum(), q.astype(float) / q.astype(float).sum()
g.save("simplex", p=p, g=h, q=q, after=e / e.sum(), angle=[2 * np.arccos(np.sqrt(P * Q).sum())])
g.write()
