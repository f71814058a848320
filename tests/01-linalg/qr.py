"""Golden values of @qr: SciPy's least squares by SVD (gelsd), LAPACK's pivoted QR (geqp3) and NumPy's plain one, in float64
on matrices rounded to float32. A deficient matrix has integer entries, so that rounding does not raise its rank."""
import numpy as np
import scipy.linalg

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=12)
for m, n, k, rank in [(1, 1, 1, 1), (2, 1, 2, 1), (5, 3, 2, 3), (3, 5, 1, 3), (7, 7, 1, 7), (11, 4, 3, 4), (6, 4, 2, 2),
                      (4, 7, 2, 2), (5, 5, 1, 4), (13, 6, 1, 1), (3, 2, 1, 0)]:
    a, b = g.normal(m, n), g.normal(m, k)
    if rank < min(m, n):
        a = np.float32(np.round(3 * g.normal(m, rank)) @ np.round(3 * g.normal(rank, n)))
    x, _, found, _ = scipy.linalg.lstsq(a.astype(np.float64), b.astype(np.float64), cond=1e-6)
    assert found == rank
    r, pivot = scipy.linalg.qr(a.astype(np.float64), pivoting=True, mode="r")
    diagonal = np.abs(np.diag(r[:min(m, n), :min(m, n)]))
    residual = np.sum((a.astype(np.float64) @ x - b) ** 2, axis=0)
    case = f"{m}x{n}x{k}"
    g.save(case, a=a, b=b, x=x, residual=residual, diagonal=diagonal)
    if rank == min(m, n):
        g.save(case, pivot=pivot)
    if m >= n and rank == n:
        q, r = np.linalg.qr(a.astype(np.float64))
        g.save(case, q=q * np.where(np.diag(r) < 0, -1, 1))
g.write()
