"""Golden values of @least_squares: the same float32 problems solved by mpmath with 60 digits. A coefficient stands here
as three floats whose sum has all digits of a double."""
import mpmath
import numpy as np
from statsmodels.datasets import longley

from golden import Golden

g = Golden(__file__, seed=37)
mpmath.mp.dps = 60


def exact(x, y, weight=None):
    a, b = mpmath.matrix(x.astype(float).tolist()), mpmath.matrix(y.astype(float).tolist())
    if weight is not None:
        for i, w in enumerate(weight):
            b[i] *= w
    v = mpmath.diag([mpmath.mpf(float(w)) for w in weight]) if weight is not None else mpmath.eye(len(y))
    return mpmath.lu_solve(a.T * v * a, a.T * b)


def save(name, x, y, weight=None):
    parts = []
    for w in exact(x, y, weight):
        hi = np.float32(float(w))
        mid = np.float32(float(w - mpmath.mpf(float(hi))))
        lo = np.float32(float(w - mpmath.mpf(float(hi)) - mpmath.mpf(float(mid))))
        parts.append([hi, mid, lo])
    g.save(name, x=x, y=y, w=parts, **({} if weight is None else {"weight": weight}))


def ones(x):
    return np.column_stack([x, np.ones(len(x), np.float32)]).astype(np.float32)


data = longley.load_pandas()
save("longley", ones(data.exog.to_numpy(np.float32)), data.endog.to_numpy(np.float32))
t = np.linspace(1, 1.5, 25).astype(np.float32)
save("powers", np.column_stack([t.astype(float) ** k for k in range(11)]).astype(np.float32), np.sin(3 * t))
x = g.normal(20, 3)
x[:, 1] = x[:, 0] * (1 + 1e-6 * g.normal(20))
save("collinear", ones(x), g.normal(20))
save("scales", ones(g.normal(20, 3) * np.float32([1e-6, 1, 1e6])), g.normal(20))
save("plain", g.normal(1, 1), g.normal(1))
save("weighted", ones(g.normal(13, 2)), g.normal(13), np.abs(g.normal(13)))
g.write()
