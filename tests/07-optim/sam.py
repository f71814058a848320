"""Golden values of @sam: 20 steps of pytorch_optimizer's SAM (after davda54's) on a net of 3-4-2 with momentum, in double; ASAM's eta and
m-sharpness, which it lacks, written out with autograd; LookSAM's two vectors; the exact trace of the Hessian."""
import torch
from pytorch_optimizer import SAM

from golden import Golden

g = Golden(__file__, seed=83)
torch.set_default_dtype(torch.float64)
N, sizes = 6, [(4, 3), (4,), (2, 4), (2,)]
x, label = g.normal(N, 3), g.rng.integers(0, 2, N)
w0 = g.normal(26)
X, Y = torch.from_numpy(x).double(), torch.from_numpy(label)


def split(flat):
    out, at = [], 0
    for s in sizes:
        n = 1
        for k in s:
            n *= k
        out.append(flat[at:at + n].reshape(s))
        at += n
    return out


def loss(p, rows=slice(None)):
    return torch.nn.functional.cross_entropy(torch.tanh(X[rows] @ p[0].T + p[1]) @ p[2].T + p[3], Y[rows])


flat = lambda ts: torch.cat([t.detach().reshape(-1) for t in ts])
f32 = lambda v: float(torch.tensor(v, dtype=torch.float32))
g.save("net", x=x, label=label, w0=w0)
for name, rho, adaptive in (("sam", 0.05, False), ("adaptive", 0.5, True)):
    params = [torch.nn.Parameter(t.clone()) for t in split(torch.from_numpy(w0).double())]
    opt = SAM(params, torch.optim.SGD, rho=f32(rho), adaptive=adaptive, lr=f32(0.1), momentum=f32(0.9))
    path = []
    for t in range(20):
        def closure():
            opt.zero_grad()
            value = loss(params)
            value.backward()
            return value
        closure()
        opt.step(closure)
        path.append(flat(params))
    g.save(name, w=torch.stack([path[k] for k in (0, 1, 19)]))

# eta and micro-batches of 4 and 2 examples, one gradient
w = torch.from_numpy(w0).double()
total, rho, eta = torch.zeros(26), f32(0.3), f32(0.2)
for rows in (slice(0, 4), slice(4, 6)):
    v = w.clone().requires_grad_()
    (gr,) = torch.autograd.grad(loss(split(v), rows), v)
    T = w.abs() + eta
    v = (w + rho * T * T * gr / (T * gr).norm()).requires_grad_()
    (gr,) = torch.autograd.grad(loss(split(v), rows), v)
    total += gr * len(X[rows]) / N
v = w.clone().requires_grad_()
(plain,) = torch.autograd.grad(loss(split(v)), v)
gv = total - (total @ plain) / plain.norm() ** 2 * plain
H = torch.autograd.functional.hessian(lambda u: loss(split(u)), w)
g.save("eta", g=total, loss=[loss(split(w)).item()], look=gv, again=plain + 0.7 * plain.norm() / gv.norm() * gv, plain=plain)
g.save("hessian", trace=[torch.trace(H).item()], spread=[(2 * ((H**2).sum() - (torch.diag(H) ** 2).sum())).sqrt().item()])
g.write()
