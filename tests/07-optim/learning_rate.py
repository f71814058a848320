"""Golden values of @learning_rate: eigenvalues from NumPy; the smoothed loss from pandas' ewm and slopes from NumPy; 50
steps of optax.contrib.dog in float64; D-Adaptation in NumPy with the products g.s instead of the telescoped squares."""
import jax

jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import numpy as np
import optax
import pandas

from golden import Golden

g = Golden(__file__, seed=704)
for n in (1, 2, 7, 20):
    a = g.normal(n, n)
    A = (a + a.T).astype(np.float32)
    e = np.linalg.eigvalsh(A.astype(float))
    g.save(f"eigen/{n}", A=A, low=[e[0]], high=[e[-1]])

count = 40
rate = 1e-4 * (10.0 / 1e-4) ** (np.arange(count) / (count - 1))
loss = (2.0 / (1 + 200 * rate) + 0.3 + 0.1 * g.normal(count) + np.where(rate > 0.5, rate**2, 0)).astype(np.float32)
smooth = pandas.Series(loss.astype(float)).ewm(alpha=0.3, adjust=True).mean().to_numpy()
best = np.minimum.accumulate(smooth)
end = next(k for k in range(1, count) if smooth[k] > 4 * best[k - 1])
slope = (smooth[2:end] - smooth[: end - 2]) / (np.log(rate[2:end]) - np.log(rate[: end - 2]))
g.save("range", loss=loss, smooth=smooth[:end], end=[end], explodes=[rate[end]], steepest=[rate[1 + 6 + np.argmin(slope[6:])]])  # 0.7^7 is the first below 0.1

for n in (1, 3, 5):
    w0, h = g.normal(n), np.exp(g.normal(n)).astype(np.float32)
    noise = 0.1 * g.normal(50, n)
    w = jnp.asarray(w0, jnp.float64)
    opt = optax.contrib.dog(init_step=("heuristic", 1e-6))
    state, path = opt.init(w), []
    for t in range(50):
        update, state = opt.update(jnp.asarray(h, jnp.float64) * w + noise[t], state, w)
        w = optax.apply_updates(w, update)
        path.append(np.asarray(w))
    g.save(f"dog/{n}", w0=w0, h=h, noise=noise, path=np.stack(path))

    x, s, d, first, weighted = w0.astype(float), np.zeros(n), 1e-6, None, 0.0
    path, ds = [], []
    for t in range(50):
        gr = h.astype(float) * x + noise[t]
        first = first or np.linalg.norm(gr)
        lr = d / first
        weighted += lr * gr @ s
        s = s + lr * gr
        x = w0.astype(float) - s
        d = max(d, weighted / np.linalg.norm(s))
        path.append(x), ds.append(d)
    g.save(f"dadapt/{n}", path=np.stack(path), d=ds)
g.write()
