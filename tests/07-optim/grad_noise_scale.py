"""Golden values of @grad_noise_scale: NumPy's covariance of per-example gradients from torch, their lengths for a dense layer,
B_noise with a Hessian, and SciPy's fit of the trade-off."""
import numpy as np
import torch
from scipy.optimize import least_squares

from golden import Golden

g = Golden(__file__, seed=86)
for n, P in ((2, 1), (5, 3), (40, 7)):
    G = g.normal(n, P) + np.float32(0.3) * g.normal(P)
    d = G.astype(np.float64)
    S, mean = np.cov(d.T).reshape(P, P), d.mean(0)
    q = g.normal(P, P).astype(np.float64)
    H = (q @ q.T).astype(np.float32).astype(np.float64)
    g.save(f"{n}x{P}", g=G, H=H, mean=mean, simple=[mean @ mean - np.trace(S) / n, np.trace(S)],
           full=[np.trace(H @ S) / (mean @ H @ mean)])

N, C, O = 5, 3, 4
x, t = g.normal(N, C), g.normal(N, O)
layer = torch.nn.Linear(C, O).double()
dys, squares = [], []
for i in range(N):
    layer.zero_grad()
    y = layer(torch.from_numpy(x[i:i + 1]).double())
    y.retain_grad()
    torch.cosh(y - torch.from_numpy(t[i:i + 1])).sum().backward()
    dys.append(y.grad[0].numpy())
    squares.append([layer.weight.grad.pow(2).sum().item(), layer.bias.grad.pow(2).sum().item()])
dys, squares = np.array(dys), np.array(squares)
g.save("dense", x=x, dy=dys, weight=squares[:, 0], both=squares.sum(1))

B = np.array([8.0, 16, 64, 100, 512])
steps = 120 * (1 + 70 / B) * np.exp(0.05 * g.normal(5))
fit = least_squares(lambda p: (p[0] + p[1] / B) / steps - 1, [100.0, 1e4], x_scale=[100, 1e4], xtol=1e-15, ftol=1e-15, gtol=1e-15).x
g.save("fit", batch=B, steps=steps, found=[fit[0], fit[1], fit[1] / fit[0]])
g.write()
