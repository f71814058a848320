"""Golden values of @kan: the basis by scipy's BSpline.basis_element, the layer by Cox and de Boor's recursion over all
functions in torch, float64, with autograd."""
import numpy as np
import torch
from scipy.interpolate import BSpline

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=61)
grids = {"even": np.arange(12) * 0.4 - 2.0, "uneven": np.array([-3, -2, -1.5, -1, -0.9, 0.3, 0.5, 1.0, 2.0, 3.0, 3.5])}
for name, knots in grids.items():
    t = knots.astype(np.float32)
    inside = g.rng.uniform(t[0], t[-1], 11)
    x = np.concatenate([t, inside, [t[0] - 1, t[-1] + 0.5]]).astype(np.float32)
    value, slope = [], []
    for k in range(len(t) - 4):
        knot = t[k:k + 5].astype(float)
        b = BSpline.basis_element(knot, extrapolate=False)
        value.append(np.nan_to_num(b(x.astype(float))))
        slope.append(np.nan_to_num(b.derivative()(x.astype(float))))
    value, slope = np.array(value), np.array(slope)
    end = (x < t[0]) | (x >= t[-1])  # half open at the last knot
    value[:, end] = slope[:, end] = 0
    g.save(f"basis/{name}", t=t, x=x, value=value.T, slope=slope.T)


def basis(x, t):  # x (N,), t (M,): all functions of degree 3
    b = ((x[:, None] >= t[:-1]) & (x[:, None] < t[1:])).double()
    for d in range(1, 4):
        left = (x[:, None] - t[:-d - 1]) / (t[d:-1] - t[:-d - 1])
        right = (t[d + 1:] - x[:, None]) / (t[d + 1:] - t[1:-d])
        b = left * b[:, :-1] + right * b[:, 1:]
    return b


I, O, G, N, l1 = 3, 2, 4, 7, 0.3
t = np.stack([np.sort(g.normal(G + 7)) for _ in range(I)])
t += 0.05 * np.arange(G + 7)
t = t.astype(np.float32)
data = {"x": g.normal(N, I), "c": g.normal(O, I, G + 3), "b": g.normal(O, I), "s": g.normal(O, I)}
dy = g.normal(N, O)
for penalty in (0.0, l1):
    v = {k: torch.from_numpy(a).double().requires_grad_() for k, a in data.items()}
    tt = torch.from_numpy(t).double()
    phi = torch.stack([v["b"][:, i, None] * torch.nn.functional.silu(v["x"][:, i])
                       + v["s"][:, i, None] * (v["c"][:, i] @ basis(v["x"][:, i], tt[i]).T) for i in range(I)], 1)
    y = phi.sum(1).T  # phi (O,I,N)
    loss = (y * torch.from_numpy(dy).double()).sum() + penalty * phi.abs().mean(-1).sum()
    loss.backward()
    name = "l1" if penalty else "layer"
    w = np.concatenate([data[k].ravel() for k in "cbs"])
    dw = np.concatenate([v[k].grad.numpy().ravel() for k in "cbs"])
    if not penalty:
        g.save(name, t=t, x=data["x"], w=w, dy=dy, y=y.detach(), edges=phi.detach().abs().mean(-1))
    g.save(name, dx=v["x"].grad, dw=dw)
g.write()
