"""Golden values of @relu: torch.relu and relu6, autograd on the float32 inputs that the test reads back."""
import numpy as np
import torch
from torch.nn import functional as F

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=18)
for n in [1, 31, 32, 33, 67]:
    x, dy = (4 * g.normal(n)).astype(np.float32), g.normal(n)
    if n > 5:
        x[:5] = [0.0, -0.0, 6.0, 1e-40, -1e-40]
    out = dict(x=x, dy=dy)
    for name, form in [("relu", F.relu), ("relu6", F.relu6)]:
        xd = torch.from_numpy(x.copy()).requires_grad_()
        y = form(xd)
        y.backward(torch.from_numpy(dy))
        out |= {f"{name}_y": y, f"{name}_dx": xd.grad}
    g.save(f"{n}", **out)
g.write()
