"""Golden values of @special_inverse, from SciPy. Doubles are stored as the sum of two floats."""
import numpy as np
from scipy import special

from golden import Golden

g = Golden(__file__, seed=4)


def pair(v):
    hi = np.asarray(v, np.float64).astype(np.float32)
    return {"hi": hi, "lo": (v - hi.astype(np.float64)).astype(np.float32)}


p = np.array([1e-30, 1e-10, 1e-5, 0.01, 0.07, 0.08, 0.3, 0.5, 0.51, 0.9, 0.925, 0.93, 0.999, 0.99999994], np.float32)
g.save("normal", p=p, **pair(special.ndtri(p.astype(np.float64))))

a, q = [w.astype(np.float64).ravel() for w in np.meshgrid(np.float32([0.05, 0.5, 1, 2.5, 30, 1e4]),
                                                           np.float32([1e-8, 0.025, 0.4, 0.5, 0.6, 0.975, 0.9999999]))]
g.save("gamma", a=a, p=q, **pair(special.gammaincinv(a, q)))

cases = [(x, y, z) for x, y in [(0.5, 0.5), (1, 1), (2, 3), (0.1, 4), (40, 2), (300, 700)] for z in (1e-6, 0.025, 0.5, 0.6, 0.975, 0.99999)]
a, b, q = np.float32(np.array(cases).T).astype(np.float64)
g.save("beta", a=a, b=b, p=q, **pair(special.betaincinv(a, b, q)))
g.write()
