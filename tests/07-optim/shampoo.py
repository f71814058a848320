"""Golden values of @shampoo: 50 steps of pytorch_optimizer's Shampoo (sums, no momentum) in double; averages, grafting, momentum, decay and rare
roots with SciPy's fractional_matrix_power."""
import numpy as np
import torch
from pytorch_optimizer import Shampoo
from scipy.linalg import fractional_matrix_power

from golden import Golden

g = Golden(__file__, seed=84)
single = lambda x: float(np.float32(x))
for name, shape, lr, wd, ridge in (("wide", (3, 5), 0.1, 0.0, 1e-4), ("tall", (4, 2), 0.3, 0.2, 1e-2), ("row", (1, 3), 0.1, 0.0, 1e-4), ("one", (1, 1), 0.1, 0.0, 1e-4)):
    w0, grads = g.normal(*shape), g.normal(5, *shape)
    lr, wd, ridge = single(lr), single(wd), single(ridge)
    w = torch.nn.Parameter(torch.from_numpy(w0).double())
    opt = Shampoo([w], lr=lr, weight_decay=wd, weight_decouple=True, matrix_eps=ridge)
    path = []
    for t in range(50):
        w.grad = torch.from_numpy(grads[t % 5]).double()
        opt.step()
        path.append(w.detach().clone())
    g.save(name, shape=list(shape), config=[lr, 0.0, wd, 1.0, ridge, 0.999, 1, 0], w0=w0, g=grads, w=torch.stack([path[k] for k in (0, 1, 9, 49)]))

for name, shape, lr, mu, wd, keep, ridge, b2, every, graft in (("sgd", (3, 4), 0.1, 0.9, 0.1, 0.9, 1e-3, 0.9, 3, 1), ("adam", (2, 5), 0.02, 0.5, 0.0, 0.95, 1e-3, 0.99, 4, 2)):
    w, grads = g.normal(*shape), g.normal(5, *shape)
    config = [single(v) for v in (lr, mu, wd, keep, ridge, b2)] + [every, graft]
    lr, mu, wd, keep, ridge, b2 = config[:6]
    g.save(name, shape=list(shape), config=config, w0=w, g=grads)
    w = w.astype(np.float64)
    L, R, m, v, path = np.zeros((shape[0],) * 2), np.zeros((shape[1],) * 2), 0 * w, 0 * w, []
    for t in range(1, 51):
        G = grads[(t - 1) % 5].astype(np.float64)
        L, R, v = keep * L + (1 - keep) * G @ G.T, keep * R + (1 - keep) * G.T @ G, b2 * v + (1 - b2) * G**2
        if (t - 1) % every == 0:
            PL, PR = (fractional_matrix_power(A + ridge * np.eye(len(A)), -0.25) for A in (L, R))
        u = PL @ G @ PR
        to = G if graft == 1 else G / (np.sqrt(v / (1 - b2**t)) + 1e-8)
        m = mu * m + u * np.linalg.norm(to) / np.linalg.norm(u)
        w = w - lr * wd * w - lr * m
        path.append(w)
    g.save(name, w=np.stack([path[k] for k in (0, 1, 9, 49)]))
g.write()
