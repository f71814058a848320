"""Golden values of @backprop: torch in float64, gradients and 20 steps of SGD."""
import numpy as np
import torch

from golden import Golden

g = Golden(__file__, seed=39)
phis = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu}
for k, (name, loss_kind, sizes, N) in enumerate([("tanh", "xent", (3, 4, 3, 2), 5), ("sigmoid", "mse", (2, 5, 1), 7),
                                                 ("relu", "xent", (4, 7, 6, 3), 11), ("tanh", "mse", (1, 1), 1)]):
    w = [(0.6 * g.normal(o, i), 0.3 * g.normal(o)) for i, o in zip(sizes, sizes[1:])]
    x = g.normal(N, sizes[0])
    y = np.eye(sizes[-1], dtype=np.float32)[g.rng.integers(0, sizes[-1], N)] if loss_kind == "xent" else g.normal(N, sizes[-1])
    params = [torch.from_numpy(np.float32(a)).double().requires_grad_() for pair in w for a in pair]
    X, Y, phi = torch.from_numpy(x).double(), torch.from_numpy(y).double(), phis[name]

    def loss_of(X, Y):
        a = X
        for l in range(len(sizes) - 1):
            a = a @ params[2 * l].T + params[2 * l + 1]
            if l + 2 < len(sizes) or loss_kind == "mse":
                a = phi(a)
        return torch.nn.functional.cross_entropy(a, Y) if loss_kind == "xent" else ((a - Y)**2).sum() / len(Y)

    flat = lambda: torch.cat([p.detach().ravel() for p in params])
    loss = loss_of(X, Y)
    grads = torch.autograd.grad(loss, params)
    square = [sum(float((d**2).sum()) for d in torch.autograd.grad(loss_of(X[n:n + 1], Y[n:n + 1]), params)) for n in range(N)]
    g.save(f"{k}", w=flat(), x=x, y=y, loss=loss, dw=torch.cat([d.ravel() for d in grads]), square=square)
    sgd = torch.optim.SGD(params, lr=0.2)
    for _ in range(20):
        sgd.zero_grad()
        loss_of(X, Y).backward()
        sgd.step()
    g.save(f"{k}", after=flat())
g.write()
