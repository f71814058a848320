"""Golden values of @pcgrad: the projection of pytorch_optimizer's PCGrad (the authors' algorithm) with the orders it drew; MGDA and CAGrad
by SciPy on the primal problem of CAGrad, and on the hull; GradNorm's and uncertainty's gradients by torch autograd."""
import random

import numpy as np
import torch
from pytorch_optimizer.optimizer.pcgrad import PCGrad
from scipy.optimize import minimize

from golden import Golden

g = Golden(__file__, seed=82)
random.seed(3)
for T, n in ((2, 3), (3, 5), (5, 7), (4, 2)):
    grads = g.normal(T, n) + 0.3 * np.float32(1)
    grads[0] *= 3
    tensors = [torch.from_numpy(a).double() for a in grads]
    orders = []
    shuffle = random.shuffle

    def recorded(a):
        shuffle(a)
        own = next(k for k, t in enumerate(a) if t is tensors[len(orders)])
        a.insert(0, a.pop(own))  # the paper leaves task i itself out; the code visits it, which does nothing at first
        orders.append([next(k for k, t in enumerate(tensors) if t is x) for x in a])

    random.shuffle = recorded
    opt = PCGrad(torch.optim.SGD([torch.nn.Parameter(torch.zeros(n, dtype=torch.float64))], lr=1.0), reduction="sum")
    out = opt.project_conflicting(list(tensors), [torch.ones(n)] * T)
    random.shuffle = shuffle

    G = grads.astype(np.float64)
    simplex = dict(bounds=[(0, 1)] * T, constraints={"type": "eq", "fun": lambda w: w.sum() - 1}, method="SLSQP",
                   options=dict(ftol=1e-15, maxiter=2000))
    mgda = minimize(lambda w: w @ (G @ G.T) @ w, np.full(T, 1 / T), **simplex).x
    # CAGrad is the d within c |g0| of g0 whose worst inner product with a task is largest
    g0, c = G.mean(0), 0.5
    best = None
    for start in range(5):
        x0 = np.append(g0 + 0.1 * start * g.rng.standard_normal(n), 0.0)
        r = minimize(lambda x: -x[-1], x0, method="SLSQP", options=dict(ftol=1e-15, maxiter=2000), constraints=[
            {"type": "ineq", "fun": lambda x: G @ x[:-1] - x[-1]},
            {"type": "ineq", "fun": lambda x: c**2 * (g0 @ g0) - (x[:-1] - g0) @ (x[:-1] - g0)}])
        if r.success and (best is None or r.fun < best.fun):
            best = r
    g.save(f"{T}x{n}", g=grads, order=orders, out=out, mgda=mgda @ G, worst=[-best.fun], cagrad=best.x[:-1])

T, lr, alpha = 3, 0.02, 1.5
norm, loss, first = np.abs(g.normal(T)) + 0.2, np.abs(g.normal(T)) + 0.5, np.abs(g.normal(T)) + 1.0
w = torch.tensor(np.abs(g.normal(T)) + 0.3, dtype=torch.float64)
w0 = (w * T / w.sum()).float().double()
w = w0.clone().requires_grad_()
t = [torch.from_numpy(a).double() for a in (norm, loss, first)]
rate = t[1] / t[2] / (t[1] / t[2]).mean()
target = ((w * t[0]).mean() * rate**alpha).detach()
(w * t[0] - target).abs().sum().backward()
w1 = w.detach() - lr * w.grad
g.save("gradnorm", norm=norm, loss=loss, first=first, w0=w0, w=w1 * T / w1.sum())
s = torch.from_numpy(g.normal(T)).double().requires_grad_()
total = (torch.exp(-s) * t[1] + s).sum()
total.backward()
g.save("uncertainty", s=s, ds=s.grad, total=[total.item()])
g.write()
