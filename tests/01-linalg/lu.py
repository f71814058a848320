"""Golden values of @lu: SciPy's LAPACK (getrf, getrs) and NumPy's slogdet in float64."""
import numpy as np
import scipy.linalg

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=22)
for n, k in [(1, 1), (2, 2), (3, 1), (7, 3), (12, 1)]:
    a, b = g.normal(n, n), g.normal(n, k)
    lu, swaps = scipy.linalg.lu_factor(a.astype(np.float64))
    order = np.arange(n)
    for i, j in enumerate(swaps):
        order[[i, j]] = order[[j, i]]
    sign, log = np.linalg.slogdet(a.astype(np.float64))
    x = scipy.linalg.lu_solve((lu, swaps), b.astype(np.float64))
    g.save(f"{n}x{k}", a=a, b=b, lu=lu, order=order, x=x, det=[sign, log])
g.write()
