"""Golden values of @activation: torch.nn.functional in float64 with autograd on the float32 inputs that the test reads
back; the moments by scipy.integrate.quad on the same functions."""
import math

import numpy as np
import torch
from scipy.integrate import quad
from torch.nn import functional as F

from golden import Golden  # tests/golden.py: writes named arrays as text

kinds = [lambda x: x * 1.0, F.relu, F.gelu, lambda x: F.gelu(x, approximate="tanh"), F.silu, torch.sigmoid, torch.tanh,
         lambda x: F.leaky_relu(x, 0.01), lambda x: F.relu(x) ** 2, F.elu, F.selu, F.softplus, F.mish, F.hardsigmoid,
         F.hardswish, F.softsign]  # in the order of the enum

g = Golden(__file__, seed=5)
x = np.concatenate([[0, -0.0, 1e-3, -1e-3, 1, -1, 3, -3, 10, -10, 50, -50], 3 * g.normal(25)]).astype(np.float32)
dy = g.normal(len(x))
moments = []
for kind, phi in enumerate(kinds):
    xd = torch.from_numpy(x).double().requires_grad_()
    y = phi(xd)
    y.backward(torch.from_numpy(dy).double())
    g.save(f"{kind}", y=y, dx=xd.grad)

    def at(z, slope):
        t = torch.tensor(z, dtype=torch.float64, requires_grad=True)
        v = phi(t)
        v.backward()
        return (t.grad if slope else v).item() ** 2 * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    moments += [quad(at, -10, 10, args=(s,), points=[-3, 0, 3], limit=200)[0] for s in (False, True)]
g.save("all", x=x, dy=dy, moments=moments)
g.write()
