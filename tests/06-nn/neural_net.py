"""Golden values of @neural_net: numpy.interp at points between, at and beyond the knots."""
import numpy as np

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=22)
for n in [2, 3, 13]:
    x, y = (2 * g.normal(n)).astype(np.float32), g.normal(n)
    order = np.argsort(x)
    at = np.concatenate([x, np.linspace(x.min() - 1, x.max(), 37)]).astype(np.float32)
    g.save(f"{n}", x=x, y=y, at=at, f=np.interp(at.astype(float), x[order].astype(float), y[order].astype(float)))
g.write()
