"""Golden values of @linear_map: NumPy and torch in float64, null spaces by SciPy (an orthonormal basis, so that the test
compares the projections onto it)."""
import numpy as np
import scipy.linalg
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=21)
for b, m, n in [(1, 1, 1), (2, 3, 2), (3, 5, 7), (4, 11, 6)]:
    w, x, dy = g.normal(m, n), g.normal(b, n), g.normal(b, m)
    wt, xt = (torch.from_numpy(a).double().requires_grad_() for a in (w, x))
    y = xt @ wt.T
    y.backward(torch.from_numpy(dy).double())
    g.save(f"{b}x{m}x{n}", w=w, x=x, dy=dy, y=y, back=dy.astype(np.float64) @ w.astype(np.float64), dx=xt.grad, dw=wt.grad)
for m, n, rank in [(3, 5, 2), (6, 4, 3), (5, 5, 4), (2, 7, 1), (4, 3, 3)]:
    w = np.float32(np.round(2 * g.normal(m, rank)) @ np.round(2 * g.normal(rank, n)))
    space = scipy.linalg.null_space(w.astype(np.float64), rcond=1e-9)
    assert space.shape[1] == n - rank
    g.save(f"null{m}x{n}", w=w, projection=space @ space.T)
g.write()
