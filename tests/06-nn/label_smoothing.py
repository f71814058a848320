"""Golden values of @label_smoothing: torch.nn.functional.cross_entropy, with label_smoothing and ignore_index, and with
explicit target rows, in float64 with autograd on the float32 inputs that the test reads back."""
import numpy as np
import torch
from torch.nn.functional import cross_entropy, log_softmax

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=14)
for N, K, e in [(1, 1, 0.1), (4, 2, 0.1), (5, 7, 0.1), (3, 31, 0.4), (2, 5, 0)]:
    z, y = 3 * g.normal(N, K), g.rng.integers(0, K, N)
    if N > 3:
        y[1] = -100
    prior = g.rng.dirichlet(np.ones(K))
    g.save(f"{N}x{K}", z=z, y=y, prior=prior, e=[e])

    def run(name, loss):
        zd = torch.from_numpy(z).double().requires_grad_()
        row = loss(zd)
        (row.sum() / (y != -100).sum()).backward()
        g.save(f"{N}x{K}/{name}", loss=row, dz=zd.grad)

    def explicit(others):
        t = np.zeros((N, K))
        for n in range(N):
            if y[n] != -100:
                t[n] = e * others(y[n])
                t[n, y[n]] += 1 - e
        return lambda zd: -(torch.from_numpy(t) * log_softmax(zd, 1)).sum(1)

    run("all", lambda zd: cross_entropy(zd, torch.from_numpy(y), reduction="none", label_smoothing=e))
    if K > 1:
        run("others", explicit(lambda k: (np.arange(K) != k) / (K - 1)))
    run("prior", explicit(lambda k: prior.astype(np.float32).astype(np.float64)))
g.write()
