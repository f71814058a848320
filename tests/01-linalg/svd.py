"""Golden values of @svd: LAPACK through NumPy in float64 (gesdd, which is another algorithm), and mpmath at 60 digits where
LAPACK itself has no digits left: graded columns. Signs by the same convention."""
import mpmath
import numpy as np

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=13)
for m, n in [(1, 1), (1, 5), (4, 1), (2, 2), (5, 3), (3, 7), (13, 13), (11, 6)]:
    a = g.normal(m, n)
    u, s, vt = np.linalg.svd(a.astype(np.float64), full_matrices=False)
    sign = np.sign(u[np.abs(u).argmax(0), np.arange(len(s))])
    g.save(f"{m}x{n}", a=a, u=u * sign, s=s, v=(sign[:, None] * vt).T, pinv=np.linalg.pinv(a.astype(np.float64)))

hilbert = np.float32([[1 / (i + j + 1) for j in range(8)] for i in range(8)])
low = np.float32(np.round(3 * g.normal(6, 2)) @ np.round(3 * g.normal(2, 4)))
for name, a in [("hilbert", hilbert), ("low", low)]:
    g.save(name, a=a, s=np.linalg.svd(a.astype(np.float64))[1], pinv=np.linalg.pinv(a.astype(np.float64), rcond=1e-6))

graded = np.float32(g.normal(9, 6) * np.float64(10.0) ** (-5 * np.array([3, 5, 0, 1, 4, 2])))
mpmath.mp.dps = 60
exact = mpmath.svd_r(mpmath.matrix(graded.astype(np.float64).tolist()), compute_uv=False)
g.save("graded", a=graded, s=sorted((float(x) for x in exact), reverse=True),
       lapack=np.linalg.svd(graded.astype(np.float64))[1])
g.write()
