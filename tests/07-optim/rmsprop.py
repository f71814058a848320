"""Golden values of @rmsprop: torch.optim.RMSprop with each option, Adadelta and Rprop, 50 steps in float64; RMSprop with eps
under the root from optax."""
import jax

jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import numpy as np
import optax
import torch

from golden import Golden

g = Golden(__file__, seed=708)
steps = 50
data = {}
for n in (1, 3, 5):
    data[n] = g.normal(n), g.normal(steps, n) * np.float32(10.0) ** np.arange(-1, n - 1, dtype=np.float32)
    g.save(f"{n}", w0=data[n][0], g=data[n][1])
f32 = lambda x: float(np.float32(x))


def run(name, n, make, **extra):
    w = torch.nn.Parameter(torch.from_numpy(data[n][0]).double())
    opt, path = make([w]), []
    for t in range(steps):
        w.grad = torch.from_numpy(data[n][1][t]).double()
        opt.step()
        if t in (0, 1, 2, 9, 24, 49):
            path.append(w.detach().clone())
    g.save(name, n=[n], path=torch.stack(path), **extra)


for name, (n, lr, a, eps, mu, wd, centered, maximize) in {
    "plain": (1, 0.01, 0.99, 1e-8, 0, 0, 0, 0), "centered": (3, 0.02, 0.9, 1e-3, 0, 0, 1, 0), "momentum": (5, 0.01, 0.95, 1e-8, 0.9, 0, 0, 0),
    "all": (5, 0.01, 0.9, 1e-2, 0.5, 0.1, 1, 1), "decay": (3, 0.01, 0.99, 1e-8, 0, 0.3, 0, 1),
}.items():
    c = [f32(x) for x in (lr, a, eps, mu, wd)]
    run(name, n, lambda p: torch.optim.RMSprop(p, lr=c[0], alpha=c[1], eps=c[2], momentum=c[3], weight_decay=c[4], centered=bool(centered),
                                               maximize=bool(maximize)), config=c + [centered, maximize])
for name, (n, lr, rho, eps, wd) in {"delta": (5, 1.0, 0.9, 1e-6, 0), "delta-decay": (3, 0.5, 0.95, 1e-3, 0.2)}.items():
    c = [f32(x) for x in (lr, rho, eps, wd)]
    run(name, n, lambda p: torch.optim.Adadelta(p, lr=c[0], rho=c[1], eps=c[2], weight_decay=c[3]), config=c)
for name, (n, lr, down, up, least, most) in {"rprop": (5, 0.01, 0.5, 1.2, 1e-6, 50), "rprop-bounds": (3, 0.1, 0.3, 1.5, 0.05, 0.3)}.items():
    c = [f32(x) for x in (lr, down, up, least, most)]
    run(name, n, lambda p: torch.optim.Rprop(p, lr=c[0], etas=(c[1], c[2]), step_sizes=(c[3], c[4])), config=c)

for centered in (0, 1):
    w, opt = jnp.asarray(data[5][0], jnp.float64), optax.rmsprop(f32(0.01), decay=f32(0.9), eps=f32(1e-3), centered=bool(centered), eps_in_sqrt=True)
    state = opt.init(w)
    for t in range(steps):
        update, state = opt.update(jnp.asarray(data[5][1][t], jnp.float64), state, w)
        w = optax.apply_updates(w, update)
    g.save(f"inside{centered}", w=np.asarray(w))
g.write()
