"""Golden values of @conditional_gaussian, from NumPy with an explicit inverse."""
import numpy as np

from golden import Golden

g = Golden(__file__, seed=9)
for c, (a, b) in enumerate([(1, 1), (2, 1), (1, 4), (3, 2)]):
    d = a + b
    m = g.normal(d, d + 1).astype(float)
    cov, mean, x, order = np.float32(m @ m.T), g.normal(d), g.normal(b), g.rng.permutation(d)
    s, u = cov.astype(float)[np.ix_(order, order)], mean.astype(float)[order]
    k = s[:a, a:] @ np.linalg.inv(s[a:, a:])
    g.save(str(c), A=[a], mean=mean, cov=cov, order=order, x=x, mean_a=u[:a] + k @ (x - u[a:]), cov_a=s[:a, :a] - k @ s[a:, :a])
g.write()
