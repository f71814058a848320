"""Golden values of @eigh: scipy.linalg.eigh (LAPACK's dsyevr, another algorithm), and mpmath at 60 digits for matrices on
which routines differ. Doubles are saved as two floats, value = high + low, which keeps 14 digits."""
import mpmath
import numpy as np
import scipy.linalg

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=3)


def halves(x):
    high = np.asarray(x, np.float64).astype(np.float32)
    return {"high": high, "low": (x - high.astype(np.float64)).astype(np.float32)}


def save(name, a, vectors=True, values=None):
    a = a.astype(np.float64)
    w, v = scipy.linalg.eigh(a)
    g.save(name, a=a)
    g.save(f"{name}/w", **halves(w if values is None else values))
    if vectors:
        v = v.T * np.sign(v[np.abs(v).argmax(0), np.arange(len(w))])[:, None]
        g.save(f"{name}/v", **halves(v))


for n in [1, 2, 3, 5, 8, 13]:
    x = g.normal(n, n)
    save(str(n), x + x.T)
x = np.float32(np.round(4 * g.normal(3, 9)))
save("low", x.T @ x, vectors=False)  # rank 3 of 9

mpmath.mp.dps = 60


def exact(a):
    return sorted(float(e) for e in mpmath.eigsy(mpmath.matrix(a.astype(np.float64).tolist()), eigvals_only=True))


hilbert = np.float32([[1 / (i + j + 1) for j in range(10)] for i in range(10)])
wilkinson = np.float32(np.diag(np.abs(np.arange(-10, 11))) + np.eye(21, k=1) + np.eye(21, k=-1))
save("hilbert", hilbert, vectors=False, values=exact(hilbert))
save("wilkinson", wilkinson, vectors=False, values=exact(wilkinson))
g.write()
