"""Golden values of @entmax: the package `entmax` (entmax15, entmax_bisect, sparsemax) with its gradients, in float64. Run
by `make golden`; writes entmax.txt."""
import sys

import torch

sys.path.pop(0)  # this directory, where this file has the package's name
import entmax  # noqa: E402

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=37)
for rows, n, spread in [(1, 1, 1), (3, 2, 1), (4, 17, 1), (2, 65, 3)]:
    x, dp = (g.normal(rows, n) * spread).astype("float32"), g.normal(rows, n)
    g.save(f"{rows}x{n}", x=x, dp=dp)
    for name, form in [("1.5", lambda z: entmax.entmax15(z, dim=-1)),
                       ("1.25", lambda z: entmax.entmax_bisect(z, alpha=1.25, dim=-1, n_iter=60)),
                       ("3", lambda z: entmax.entmax_bisect(z, alpha=3.0, dim=-1, n_iter=60)),
                       ("2", lambda z: entmax.sparsemax(z, dim=-1))]:
        z = torch.from_numpy(x).double().requires_grad_()
        p = form(z)
        p.backward(torch.from_numpy(dp).double())
        g.save(f"{rows}x{n}/{name}", p=p, dx=z.grad)
g.write()
