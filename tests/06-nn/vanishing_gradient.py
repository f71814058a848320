"""Golden values of @vanishing_gradient: the fixed point and the slope by scipy.integrate.quad and brentq; singular values of
a network's Jacobian by torch.autograd and numpy."""
import numpy as np
import torch
from scipy.integrate import quad
from scipy.optimize import brentq

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=23)


def normal(f, r):
    return quad(lambda z: np.exp(-z * z / 2) / np.sqrt(2 * np.pi) * f(r * z), -12, 12, epsabs=1e-13, epsrel=1e-12, limit=200)[0]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


FORMS = {"tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2), "sigmoid": (sigmoid, lambda x: sigmoid(x) * (1 - sigmoid(x)))}
rows = []
for name, sw2 in [("tanh", 1.5), ("tanh", 4.0), ("sigmoid", 1.0), ("sigmoid", 20.0)]:
    phi, slope = FORMS[name]
    q = brentq(lambda q: sw2 * normal(lambda x: phi(x) ** 2, np.sqrt(q)) - q, 1e-2, 50, xtol=1e-13)
    rows += [q, sw2 * normal(lambda x: slope(x) ** 2, np.sqrt(q))]
g.save("chi", q_and_chi=rows)
for skip in (0, 1):
    L, n = 3, 5
    x, w = g.normal(n), (g.normal(L, n, n) / np.float32(2)).astype(np.float32)

    def net(v):
        for l in range(L):
            v = torch.tanh(torch.from_numpy(w[l]).double() @ v) + skip * v
        return v

    jacobian = torch.autograd.functional.jacobian(net, torch.from_numpy(x).double()).numpy()
    g.save(f"jacobian/{skip}", x=x, w=w, s=np.linalg.svd(jacobian, compute_uv=False))
g.write()
