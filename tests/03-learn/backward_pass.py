"""Golden values of @backward_pass: one graph with every operation, by torch.autograd in float64."""
import torch

from golden import Golden

g = Golden(__file__, seed=36)
for N in (1, 4, 9):
    names = ["x", "w", "row", "col", "v"]
    arrays = [g.normal(N, 3), g.normal(3, 5), g.normal(1, 5), g.normal(N, 1), g.normal(5, 4)]
    x, w, row, col, v = (torch.from_numpy(a).double().requires_grad_() for a in arrays)
    t = g.rng.integers(0, 4, N)
    h = torch.tanh(x @ w + row)
    k = torch.exp(h * 0.5) / (1.5 + h * h) - col * h            # h is read four times
    m = torch.log(2.0 + torch.relu(k)) + k.sum(0, keepdim=True).expand(N, 5)
    logits = (m.reshape(5 * N, 1).reshape(N, 5)) @ v + h.detach()[:, :1] * 3.0
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(t))
    seed = g.normal(N, 4)
    leaves = (x, w, row, col, v)
    by_loss = torch.autograd.grad(loss, leaves, retain_graph=True)
    by_seed = torch.autograd.grad(logits, leaves, torch.from_numpy(seed).double())
    g.save(f"{N}", t=t, seed=seed, loss=loss, **dict(zip(names, arrays)), **{"d" + n: d for n, d in zip(names, by_loss)},
           **{"s" + n: d for n, d in zip(names, by_seed)})
g.write()
