"""Golden values of @gradient_descent: torch.optim.SGD in float64, 20 steps on given gradients; Rosenbrock's and Beale's
functions with torch's own derivatives; minima under L1 and in a box by coordinate descent in doubles."""
import numpy as np
import torch

from golden import Golden

g = Golden(__file__, seed=701)
for n, lr in ((1, 0.1), (3, 0.03), (17, 1.5)):
    w0, grads = g.normal(n), g.normal(20, n)
    w = torch.nn.Parameter(torch.from_numpy(w0).double())
    opt = torch.optim.SGD([w], lr=float(np.float32(lr)))
    path = []
    for t in range(20):
        w.grad = torch.from_numpy(grads[t]).double()
        opt.step()
        path.append(w.detach().clone())
    g.save(f"{n}", lr=[np.float32(lr)], w0=w0, g=grads, path=torch.stack(path))

x = g.normal(6, 2)
f = {"rosenbrock": lambda p: (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2,
     "beale": lambda p: (1.5 - p[0] + p[0] * p[1]) ** 2 + (2.25 - p[0] + p[0] * p[1] ** 2) ** 2
     + (2.625 - p[0] + p[0] * p[1] ** 3) ** 2}
for name, fn in f.items():
    points = [torch.from_numpy(p).double().requires_grad_() for p in x]
    values = [fn(p) for p in points]
    g.save(name, x=x, f=[v.item() for v in values], g=torch.stack([torch.autograd.grad(v, p)[0] for v, p in zip(values, points)]))

X, y = g.normal(12, 4), g.normal(12)
A, b = X.astype(float).T @ X, X.astype(float).T @ y
for name in ("l1", "box"):
    w = np.zeros(4)
    for _ in range(5000):
        for j in range(4):
            r = b[j] - A[j] @ w + A[j, j] * w[j]
            w[j] = np.sign(r) * max(abs(r) - 3.0, 0) / A[j, j] if name == "l1" else np.clip(r / A[j, j], -0.05, 0.1)
    g.save(name, w=w)
g.save("prox", A=A, b=b)
g.write()
