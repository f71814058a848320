"""Golden values of @spd, from NumPy in double."""
import numpy as np

from golden import Golden

g = Golden(__file__, seed=3)
for n in [1, 2, 3, 7]:
    m, b = g.normal(n, n + 1).astype(np.float64), g.normal(n)
    a = (m @ m.T).astype(np.float32)
    d = a.astype(np.float64)
    g.save(f"{n}", a=a, b=b, factor=np.linalg.cholesky(d), x=np.linalg.solve(d, b), inverse=np.linalg.inv(d),
           logdet=[np.linalg.slogdet(d)[1]], quadratic=[b @ np.linalg.solve(d, b)])
g.write()
