"""Golden values of @autodiff_array: torch.autograd and torch.func.jvp in float64."""
import torch

from golden import Golden

g = Golden(__file__, seed=38)
names, arrays = ["x", "w", "row", "col"], [g.normal(3, 4), g.normal(4, 4), g.normal(1, 4), g.normal(3, 1)]
tangents, seed = [g.normal(*a.shape) for a in arrays], g.normal(4, 1)


def net(x, w, row, col):
    h = torch.tanh(x @ w + row)
    k = torch.exp(h) / (h * h + 1.5)**0.75 - col * h
    m = torch.log(torch.relu(k) + 2.0)
    y = m.T @ (k - k.sum(0, keepdim=True))
    return y.sum(1, keepdim=True) + m.sum()


d = tuple(torch.from_numpy(a).double().requires_grad_() for a in arrays)
z = net(*d)
grads = torch.autograd.grad(z, d, torch.from_numpy(seed).double())
jvp = torch.func.jvp(net, tuple(t.detach() for t in d), tuple(torch.from_numpy(v).double() for v in tangents))[1]
g.save("net", seed=seed, z=z, jvp=jvp, **dict(zip(names, arrays)), **{"v" + n: v for n, v in zip(names, tangents)},
       **{"d" + n: v for n, v in zip(names, grads)})
g.write()
