"""Golden values of @lion: optax.lion and optax.sign_sgd (of a trace) over 50 steps in float64; the cautious mask in NumPy."""
import jax

jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import numpy as np
import optax

from golden import Golden

g = Golden(__file__, seed=711)
steps = 50
f32 = lambda x: float(np.float32(x))
for n, lr, b1, b2, wd in ((1, 1e-3, 0.9, 0.99, 0.0), (3, 0.02, 0.7, 0.95, 0.5), (7, 0.01, 0.5, 0.9, 0.1)):
    w0 = g.normal(n)
    grads = g.normal(steps, n) + np.where(np.arange(n) % 2, 0.5, 0).astype(np.float32)
    if n > 1:
        grads[:, 0] = 0  # sign(0) = 0
    c = [f32(x) for x in (lr, b1, b2, wd)]
    w, opt = jnp.asarray(w0, jnp.float64), optax.lion(c[0], b1=c[1], b2=c[2], weight_decay=c[3])
    state, path = opt.init(w), []
    for t in range(steps):
        update, state = opt.update(jnp.asarray(grads[t], jnp.float64), state, w)
        w = optax.apply_updates(w, update)
        if t in (0, 1, 2, 9, 24, 49):
            path.append(np.asarray(w))
    g.save(f"{n}", config=c, w0=w0, g=grads, path=np.stack(path))

    cautious, m, signum, s = w0.astype(float), np.zeros(n), w0.astype(float), np.zeros(n)
    for t in range(steps):
        gr = grads[t].astype(float)
        u = np.sign(c[1] * m + (1 - c[1]) * gr)
        mask = (u * gr > 0).astype(float)
        mask *= n / (mask.sum() + 1)
        cautious = cautious * (1 - c[0] * c[3]) - c[0] * u * mask
        m = c[2] * m + (1 - c[2]) * gr
        s = c[1] * s + (1 - c[1]) * gr
        signum = signum * (1 - c[0] * c[3]) - c[0] * np.sign(s)
    g.save(f"{n}", cautious=cautious, signum=signum)
g.write()
