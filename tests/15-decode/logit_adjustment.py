"""Golden values of @logit_adjustment: loss and gradient by torch's cross_entropy and autograd on z + tau ln pi; the EM of
Saerens et al. with NumPy, as likelihood of a mixture whose components are p / pi. Run by `make golden`."""
import numpy as np
import torch

from golden import Golden

g = Golden(__file__, seed=45)
for case, (N, K, tau) in enumerate([(1, 2, 1.0), (7, 5, 0.7), (13, 3, -1.0), (5, 11, 1.5)]):
    z, y = g.normal(N, K) * np.float32(2), g.rng.integers(0, K, N)
    if N > 3:
        y[2] = -100
    prior = g.rng.dirichlet(np.ones(K)).astype(np.float32)
    t = torch.tensor(z.astype(float), requires_grad=True)
    loss = torch.nn.functional.cross_entropy(t + tau * torch.tensor(prior.astype(float)).log(), torch.tensor(y),
                                             reduction="none", ignore_index=-100)
    (loss.sum() / (y != -100).sum()).backward()
    g.save(f"{case}", N=[N], K=[K], tau=[tau], z=z, y=y, prior=prior, loss=loss, dz=t.grad,
           posthoc=z.astype(float) - tau * np.log(prior.astype(float)))
for case, (N, K) in enumerate([(40, 2), (60, 4)]):
    old = g.rng.dirichlet(3 * np.ones(K)).astype(np.float32)
    z = 2 * g.normal(N, K)
    p = (np.exp(z) / np.exp(z).sum(1, keepdims=True)).astype(np.float32)
    density = p.astype(float) / old
    new = old.astype(float)
    for _ in range(20000):
        new = (density * new / (density @ new)[:, None]).mean(0)
    g.save(f"em{case}", p=p, old=old, new=new)
g.write()
