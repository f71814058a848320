"""Golden values of @adagrad: torch.optim.Adagrad with each of its options and with sparse gradients, 50 steps in float64;
the full-matrix form with NumPy's eigh; FTRL-Proximal in NumPy by minimising its objective (bisection on the derivative)."""
import numpy as np
import torch

from golden import Golden

g = Golden(__file__, seed=707)
steps = 50
cases = {  # n, lr, lr_decay, weight_decay, eps, initial, maximize
    "plain": (1, 0.01, 0, 0, 1e-10, 0, 0), "options": (3, 0.3, 0.1, 0.2, 1e-3, 0.5, 0), "up": (5, 0.1, 0, 0.1, 1e-10, 0.1, 1),
}
for name, (n, lr, lrd, wd, eps, init, maximize) in cases.items():
    w0, grads = g.normal(n), g.normal(steps, n)
    f = [float(np.float32(x)) for x in (lr, lrd, wd, eps, init)]
    w = torch.nn.Parameter(torch.from_numpy(w0).double())
    opt = torch.optim.Adagrad([w], lr=f[0], lr_decay=f[1], weight_decay=f[2], eps=f[3], initial_accumulator_value=f[4], maximize=bool(maximize))
    path = []
    for t in range(steps):
        w.grad = torch.from_numpy(grads[t]).double()
        opt.step()
        path.append(w.detach().clone())
    g.save(name, n=[n], config=f + [maximize], w0=w0, g=grads, path=torch.stack(path), s=opt.state[w]["sum"])

rows, d, m = 6, 2, 2
w0, grads = g.normal(rows, d), g.normal(30, m, d)
index = np.stack([g.rng.choice(rows, m, replace=False) for _ in range(30)])
w = torch.nn.Parameter(torch.from_numpy(w0).double())
opt = torch.optim.Adagrad([w], lr=float(np.float32(0.1)), lr_decay=float(np.float32(0.05)))
for t in range(30):
    w.grad = torch.sparse_coo_tensor(torch.from_numpy(index[t])[None], torch.from_numpy(grads[t]).double(), (rows, d))
    opt.step()
g.save("sparse", w0=w0, g=grads, index=index, w=w)

for n in (1, 2, 5):
    w0, mix, S = g.normal(n), g.normal(n, n), np.zeros((n, n))
    grads = (g.normal(12, n) @ mix).astype(np.float32)
    w, path = w0.astype(float), []
    for t in range(12):
        gr = grads[t].astype(float)
        S += np.outer(gr, gr)
        e, V = np.linalg.eigh(S)
        w = w - 0.1 * np.linalg.solve((V * np.sqrt(np.maximum(e, 0))) @ V.T + 0.01 * np.eye(n), gr)
        path.append(w)
    g.save(f"full/{n}", w0=w0, g=grads, path=np.stack(path))

alpha, beta, l1, l2, n = 0.3, 1.0, 0.4, 0.1, 4
a, b, u, v = (float(np.float32(x)) for x in (alpha, beta, l1, l2))
grads, ws, w = g.normal(40, n), [], np.zeros(n)
total, quad, lin, sq = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
for t in range(40):
    gr = grads[t].astype(float)
    sigma = (np.sqrt(sq + gr**2) - np.sqrt(sq)) / a
    sq, total, quad, lin = sq + gr**2, total + gr, quad + sigma, lin + sigma * w
    w = np.zeros(n)
    for i in range(n):  # minimise total w + sum sigma (w - w_s)^2 / 2 + (beta/alpha + l2) w^2 / 2 + l1 |w|
        slope = lambda x: total[i] + quad[i] * x - lin[i] + (b / a + v) * x
        if slope(0.0) > u or slope(0.0) < -u:
            sign = -np.sign(slope(0.0))
            lo, hi = (0.0, 100.0) if sign > 0 else (-100.0, 0.0)
            for _ in range(200):
                mid = (lo + hi) / 2
                lo, hi = (mid, hi) if slope(mid) + sign * u < 0 else (lo, mid)
            w[i] = lo
    ws.append(w)
g.save("ftrl", config=[alpha, beta, l1, l2], g=grads, path=np.stack(ws))
g.write()
