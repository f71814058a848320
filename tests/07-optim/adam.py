"""Golden values of @adam: torch.optim.Adam (L2, amsgrad, maximize), NAdam, RAdam, Adamax and optax.adam (eps_root), 50 steps in
float64. The last weight sees a gradient only at every seventh step."""
import jax

jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import numpy as np
import optax
import torch

from golden import Golden

g = Golden(__file__, seed=709)
steps = 50
f32 = lambda x: float(np.float32(x))
data = {}
for n in (1, 3, 5):
    grads = g.normal(steps, n) * np.float32(10.0) ** np.arange(-2, n - 2, dtype=np.float32)
    grads[:, -1] *= np.arange(steps) % 7 == 0 if n > 1 else 1
    data[n] = g.normal(n), grads
    g.save(f"{n}", w0=data[n][0], g=grads)

kinds = {"adam": torch.optim.Adam, "max": torch.optim.Adamax, "nesterov": torch.optim.NAdam, "rectified": torch.optim.RAdam}
for name, (kind, n, lr, b1, b2, eps, wd, maximize, ams) in {
    "adam": ("adam", 5, 1e-3, 0.9, 0.999, 1e-8, 0, 0, 0), "adam-options": ("adam", 3, 0.1, 0.8, 0.95, 1e-2, 0.3, 1, 0),
    "ams": ("adam", 5, 0.01, 0.9, 0.9, 1e-8, 0, 0, 1), "ams-options": ("adam", 1, 0.05, 0.7, 0.8, 1e-3, 0.1, 1, 1),
    "max": ("max", 5, 2e-3, 0.9, 0.999, 1e-8, 0, 0, 0), "max-options": ("max", 3, 0.1, 0.8, 0.9, 1e-2, 0.2, 1, 0),
    "nesterov": ("nesterov", 5, 2e-3, 0.9, 0.999, 1e-8, 0, 0, 0), "nesterov-options": ("nesterov", 3, 0.05, 0.8, 0.95, 1e-2, 0.2, 1, 0),
    "rectified": ("rectified", 5, 1e-3, 0.9, 0.999, 1e-8, 0, 0, 0), "rectified-options": ("rectified", 3, 0.05, 0.8, 0.9, 1e-2, 0.2, 1, 0),
}.items():
    c = [f32(x) for x in (lr, b1, b2, eps, wd)]
    w = torch.nn.Parameter(torch.from_numpy(data[n][0]).double())
    extra = {"amsgrad": bool(ams)} if kind == "adam" else {"momentum_decay": f32(0.02 if wd else 0.004)} if kind == "nesterov" else {}
    opt, path = kinds[kind]([w], lr=c[0], betas=(c[1], c[2]), eps=c[3], weight_decay=c[4], maximize=bool(maximize), **extra), []
    for t in range(steps):
        w.grad = torch.from_numpy(data[n][1][t]).double()
        opt.step()
        if t in (0, 1, 2, 5, 9, 24, 49):
            path.append(w.detach().clone())
    g.save(name, n=[n], config=c + [maximize], path=torch.stack(path))

for name, root in (("optax", 0.0), ("optax-root", 1e-3)):
    w, opt = jnp.asarray(data[5][0], jnp.float64), optax.adam(f32(0.01), b1=f32(0.9), b2=f32(0.99), eps=f32(1e-6), eps_root=f32(root))
    state = opt.init(w)
    for t in range(steps):
        update, state = opt.update(jnp.asarray(data[5][1][t], jnp.float64), state, w)
        w = optax.apply_updates(w, update)
    g.save(name, w=np.asarray(w))
g.write()
