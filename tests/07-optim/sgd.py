"""Golden values of @sgd: torch.optim.SGD (no momentum) and torch.optim.swa_utils in float64; SciPy's solver for the
discrete Lyapunov equation S = M S M' + lr^2 C."""
import numpy as np
import scipy.linalg
import torch

from golden import Golden

g = Golden(__file__, seed=702)
for n, lr, wd, maximize in ((1, 0.1, 0.0, False), (3, 0.03, 0.5, False), (5, 0.2, 0.1, True), (7, 0.05, 0.0, True)):
    w0, grads = g.normal(n), g.normal(30, n)
    f = [float(np.float32(x)) for x in (lr, wd)]
    w = torch.nn.Parameter(torch.from_numpy(w0).double())
    opt = torch.optim.SGD([w], lr=f[0], weight_decay=f[1], maximize=maximize)
    mean = torch.optim.swa_utils.AveragedModel(torch.nn.ParameterList([w]))
    ema = torch.optim.swa_utils.AveragedModel(torch.nn.ParameterList([w]), multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    path = []
    for t in range(30):
        w.grad = torch.from_numpy(grads[t]).double()
        opt.step()
        path.append(w.detach().clone())
        for a in (mean, ema):
            a.update_parameters(torch.nn.ParameterList([w]))
    g.save(f"{n}", config=f + [float(maximize)], w0=w0, g=grads, path=torch.stack(path), mean=next(mean.parameters()), ema=next(ema.parameters()))

for n, lr in ((1, 0.3), (2, 0.5), (5, 0.1)):
    a, c = g.normal(n, n + 2), g.normal(n, n)
    A, C = (a @ a.T / n).astype(np.float32), (c @ c.T).astype(np.float32)
    M = np.eye(n) - np.float32(lr).astype(float) * A.astype(float)
    assert abs(np.linalg.eigvalsh(M)).max() < 1
    S = scipy.linalg.solve_discrete_lyapunov(M, float(np.float32(lr)) ** 2 * C.astype(float))
    g.save(f"cloud/{n}", A=A, C=C, lr=[np.float32(lr)], S=S)
g.write()
