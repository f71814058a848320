"""Golden values of @momentum: torch.optim.SGD with each of its options and optax.sgd, 50 steps in float64; accelerated
descent written from Nesterov's two sequences in the form without y."""
import jax

jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import numpy as np
import optax
import torch

from golden import Golden

g = Golden(__file__, seed=706)
steps = 50
for n in (1, 3, 5):
    g.save(f"{n}", w0=g.normal(n), g=g.normal(steps, n))
cases = {  # lr, momentum, dampening, decay, nesterov, maximize
    "plain": (1, 0.1, 0.9, 0, 0, 0, 0), "damped": (3, 0.2, 0.8, 0.3, 0, 0, 0), "nesterov": (5, 0.05, 0.9, 0, 0, 1, 0),
    "decay": (3, 0.1, 0.95, 0, 0.2, 0, 0), "all": (5, 0.1, 0.7, 0, 0.1, 1, 1), "damped-decay": (1, 0.1, 0.5, 0.6, 0.3, 0, 1),
}
arrays = lambda n, k: np.array(g.lines[f"{n}/{k}"].split()[2:], dtype=np.float32)
for name, (n, lr, mu, damp, wd, nesterov, maximize) in cases.items():
    w0, grads = arrays(n, "w0"), arrays(n, "g").reshape(steps, n)
    f = [float(np.float32(x)) for x in (lr, mu, damp, wd)]
    w = torch.nn.Parameter(torch.from_numpy(w0).double())
    opt = torch.optim.SGD([w], lr=f[0], momentum=f[1], dampening=f[2], weight_decay=f[3], nesterov=bool(nesterov), maximize=bool(maximize))
    path = []
    for t in range(steps):
        w.grad = torch.from_numpy(grads[t]).double()
        opt.step()
        path.append(w.detach().clone())
    g.save(name, n=[n], config=f + [nesterov, maximize], path=torch.stack(path))

for nesterov in (False, True):  # optax.sgd
    w0, grads = arrays(5, "w0"), arrays(5, "g").reshape(steps, 5)
    w, opt = jnp.asarray(w0, jnp.float64), optax.sgd(float(np.float32(0.1)), momentum=float(np.float32(0.9)), nesterov=nesterov)
    state = opt.init(w)
    for t in range(steps):
        update, state = opt.update(jnp.asarray(grads[t], jnp.float64), state, w)
        w = optax.apply_updates(w, update)
    g.save(f"optax{int(nesterov)}", w=np.asarray(w))

h, w0 = np.array([1, 0.3, 0.01], np.float32), np.array([1, -2, 3], np.float32)
before = w = w0.astype(float)
t, path = 1.0, []
for _ in range(60):  # x_k+1 = y_k - g(y_k), y_k = x_k + (t_k-1 - 1)/t_k (x_k - x_k-1)
    t_old, t = t, (1 + np.sqrt(1 + 4 * t * t)) / 2
    beta = 0.0 if not path else (t_prev - 1) / t_old
    y = w + beta * (w - before)
    before, w = w, y - h.astype(float) * y
    t_prev = t_old
    path.append(w)
g.save("fista", h=h, w0=w0, path=np.stack(path))
g.write()
