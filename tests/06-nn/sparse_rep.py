"""Golden values of @sparse_rep: torch's topk and autograd of the penalties in float64; S by NumPy from Rolls and Tovee's
a = mean(r)^2 / mean(r^2), S = (1 - a) / (1 - 1/n)."""
import numpy as np
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=71)
N, U, k = 5, 7, 3
x, dy = g.normal(N, U), g.normal(N, U)
x[1, 2] = x[1, 5] = x[1].max() + 1  # a tie at the top
a = np.maximum(x, 0)


def sparseness(r, axis):
    n = r.shape[axis]
    return (1 - np.abs(r).mean(axis) ** 2 / (r ** 2).mean(axis)) / (1 - 1 / n)


ad = a.astype(np.float64)
g.save("measure", x=x, a=a, lifetime=sparseness(ad, 0), population=sparseness(ad, 1))

xd = torch.from_numpy(x).double().requires_grad_()
value, at = torch.topk(xd, k, dim=1)
y = torch.zeros(N, U, dtype=torch.float64).scatter(1, at, value)
y.backward(torch.from_numpy(dy).double())
g.save("winners", dy=dy, y=y, dx=xd.grad)

p = torch.from_numpy(1 / (1 + np.exp(-x))).float()
pd = p.double().requires_grad_()
rho, q = 0.1, pd.mean(0)
kl = 0.7 * (rho * torch.log(rho / q) + (1 - rho) * torch.log((1 - rho) / (1 - q))).sum()
kl.backward()
g.save("kl", p=p, value=[kl.item()], dp=pd.grad)
l1d = torch.from_numpy(x).double().requires_grad_()
l1 = 0.7 * l1d.abs().sum() / N
l1.backward()
g.save("l1", value=[l1.item()], dx=l1d.grad)
g.write()
