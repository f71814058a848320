"""Golden values of @medusa: heads, loss and gradients by torch. Run by `make golden`."""
import numpy as np
import torch

from golden import Golden

g = Golden(__file__, seed=49)
for case, (K, B, T, C, V) in enumerate([(1, 1, 3, 2, 3), (3, 2, 5, 4, 7), (2, 1, 2, 3, 2)]):
    N = B * T
    h, ids = g.normal(N, C), g.rng.integers(0, V, (B, T))
    w1, b, w2 = g.normal(K, C, C), g.normal(K, C), g.normal(K, V, C)
    w = np.concatenate([np.concatenate([w1[k].ravel(), b[k], w2[k].ravel()]) for k in range(K)])
    t = [torch.tensor(a.astype(float), requires_grad=True) for a in (h, w1, b, w2)]
    logits, loss, mean = [], 0, []
    for k in range(K):
        z = (t[0] + torch.nn.functional.silu(t[0] @ t[1][k].T + t[2][k])) @ t[3][k].T
        logits.append(z)
        shift = 2 + k
        if T > shift:
            zk = z.view(B, T, V)[:, :T - shift].reshape(-1, V)
            mean.append(torch.nn.functional.cross_entropy(zk, torch.tensor(ids[:, shift:]).reshape(-1)))
            loss = loss + 0.8 ** k * mean[-1]
        else:
            mean.append(torch.zeros(()))
    if T > 2:
        loss.backward()
    else:
        loss = torch.zeros(())
    grad = [a.grad if a.grad is not None else torch.zeros_like(a) for a in t]
    dw = np.concatenate([np.concatenate([grad[1][k].ravel(), grad[2][k], grad[3][k].ravel()]) for k in range(K)])
    g.save(f"{case}", shape=[K, B, T, C, V], h=h, ids=ids, w=w, logits=torch.stack(logits), loss=[float(loss)],
           mean=torch.stack(mean), dw=dw, dh=grad[0])
g.write()
