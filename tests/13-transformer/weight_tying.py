"""Golden values of @weight_tying: PyTorch with one parameter used twice, in float64, and the best symmetric logits for a
bigram table by SciPy. Run by `make golden`; writes weight_tying.txt."""
import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=137)
V, C, N = 7, 4, 5
e0, f0 = np.round(16 * g.normal(V, C)) / 16, np.round(16 * g.normal(V, C)) / 16
ids, target = g.rng.integers(0, V, N), g.rng.integers(0, V, N)
g.save("in", embed=e0, head=f0, ids=ids, target=target)
for name, tied, s_in, s_out in [("tied", True, 1.0, 1.0), ("scaled", True, 2.0, 0.5), ("untied", False, 2.0, 0.5)]:
    e, f = (torch.from_numpy(a).double().requires_grad_() for a in (e0, f0))
    x = s_in * torch.nn.functional.embedding(torch.from_numpy(ids), e)
    x.retain_grad()
    z = s_out * torch.tanh(x) @ (e if tied else f).T  # a nonlinearity in between, so that dh and dx differ
    torch.nn.functional.cross_entropy(z, torch.from_numpy(target), reduction="sum").backward()
    g.save(name, logits=z, dembed=e.grad, **({} if tied else {"dhead": f.grad}))

# an asymmetric source: the best any symmetric table of logits can do, a convex problem, against the entropy
V = 5
count = np.round(100 * g.rng.dirichlet(np.full(V, 0.3), V)) + 1
total, upper = count.sum(), np.triu_indices(V)


def loss(u):
    z = np.zeros((V, V))
    z[upper] = u
    z = z + z.T - np.diag(np.diag(z))
    lse = logsumexp(z, axis=1)
    p = np.exp(z - lse[:, None])
    d = (count.sum(1)[:, None] * p - count) / total
    d = d + d.T - np.diag(np.diag(d))
    return (count * (lse[:, None] - z)).sum() / total, d[upper]


best = minimize(loss, np.zeros(len(upper[0])), jac=True, method="BFGS", options={"gtol": 1e-9})
entropy = -(count * np.log(count / count.sum(1)[:, None])).sum() / total
g.save("bigram", count=count, symmetric=best.fun, entropy=entropy)
print("symmetric", best.fun, "entropy", entropy)

g.write()
