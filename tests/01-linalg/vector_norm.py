"""Golden values of @vector_norm: NumPy's linalg.norm and torch's normalize with autograd in float64; projections onto the L1
ball by bisection on the threshold, where llm.h sorts."""
import numpy as np
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=24)
for name, x in [("one", g.normal(1)), ("seven", g.normal(7)), ("large", 1e30 * g.normal(5)), ("small", 1e-30 * g.normal(6)),
                ("both", np.float32([1e30, -3e30, 1e-30, 2.0, 0.0]))]:
    x = np.float32(x)
    d = x.astype(np.float64)
    big = np.abs(d).max()  # NumPy's own powers overflow in double for p = 40
    lp = [big * np.linalg.norm(d / big, p) for p in (1.0, 1.5, 2.0, 3.0, 40.0)]
    g.save(name, x=x, norms=[np.linalg.norm(d, 1), np.linalg.norm(d), np.linalg.norm(d, np.inf)], lp=lp)
a = g.normal(4, 7)
g.save("matrix", a=a, norms=[np.linalg.norm(a.astype(np.float64), p) for p in (1, np.inf, "fro")])

for rows, n in [(1, 1), (2, 3), (3, 11)]:
    x, du = g.normal(rows, n), g.normal(rows, n)
    xt = torch.from_numpy(x).double().requires_grad_()
    u = torch.nn.functional.normalize(xt, dim=-1, eps=1e-12)
    u.backward(torch.from_numpy(du).double())
    g.save(f"unit{rows}x{n}", x=x, du=du, u=u, length=xt.norm(dim=-1), dx=xt.grad)

for n, radius in [(1, 0.5), (2, 1.0), (7, 1.0), (20, 3.0), (20, 100.0), (9, 0.0)]:
    a = g.normal(n)
    low, high = 0.0, float(np.abs(a).max())
    shrink = lambda t: np.sign(a) * np.maximum(np.abs(a.astype(np.float64)) - t, 0)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.abs(shrink(middle)).sum() > radius else (low, middle)
    g.save(f"ball{n}r{radius:g}", a=a, y=a if np.abs(a).sum() <= radius else shrink(high))
g.write()
