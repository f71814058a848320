"""Golden values of @adamw: 50 steps of torch.optim.AdamW in float64 on gradients of three scales, states included, and of
schedule-free AdamW, written from its algorithm with x, y, z stored apart (llm.h stores two of them)."""
import numpy as np
import torch

from golden import Golden

g = Golden(__file__, seed=77)
for n, lr, b1, b2, eps, wd in ((1, 1e-3, 0.9, 0.999, 1e-8, 0.01), (5, 3e-2, 0.8, 0.95, 1e-3, 0.3), (7, 1e-1, 0.5, 0.9, 1e-8, 0.0)):
    w0, grads = g.normal(n), g.normal(50, n) * np.float32(10.0) ** np.arange(-2, n - 2, dtype=np.float32)
    w = torch.nn.Parameter(torch.from_numpy(w0).double())
    f = [float(np.float32(x)) for x in (lr, b1, b2, eps, wd)]
    opt = torch.optim.AdamW([w], lr=f[0], betas=(f[1], f[2]), eps=f[3], weight_decay=f[4])
    path = []
    for t in range(50):
        w.grad = torch.from_numpy(grads[t]).double()
        opt.step()
        path.append(w.detach().clone())
    s = opt.state[w]
    g.save(f"{n}", config=f, w0=w0, g=grads, path=torch.stack(path), m=s["exp_avg"], v=s["exp_avg_sq"])

    x = y = z = w0.astype(np.float64)
    v, total = np.zeros(n), 0.0
    xs, ys = [], []
    for t in range(1, 51):
        gamma = f[0] * min(1.0, t / 10)
        gr = grads[t - 1].astype(np.float64)
        v = f[2] * v + (1 - f[2]) * gr**2
        z = z - gamma * gr / (np.sqrt(v / (1 - f[2] ** t)) + f[3]) - gamma * f[4] * y
        total += gamma**2
        c = gamma**2 / total
        x = (1 - c) * x + c * z
        y = (1 - f[1]) * z + f[1] * x
        xs.append(x), ys.append(y)
    g.save(f"{n}/free", x=xs[-1], y=np.stack([ys[0], ys[9], ys[-1]]))

w0, grads = g.normal(9), g.normal(50, 9)  # a matrix (2, 3) that decays; its bias (2) and a gain that do not
f = [float(np.float32(x)) for x in (1e-2, 0.9, 0.99, 1e-8, 0.5, 3e-2)]
matrix, rest = (torch.nn.Parameter(torch.from_numpy(a).double()) for a in (w0[:6], w0[6:]))
groups = [{"params": [matrix], "weight_decay": f[4]}, {"params": [rest], "weight_decay": 0.0, "lr": f[5]}]
opt = torch.optim.AdamW(groups, lr=f[0], betas=(f[1], f[2]), eps=f[3])
for t in range(50):
    matrix.grad, rest.grad = (torch.from_numpy(a).double() for a in (grads[t, :6], grads[t, 6:]))
    opt.step()
g.save("groups", config=f, w0=w0, g=grads, w=torch.cat([matrix, rest]))
g.write()
