"""Golden values of @maml: jax.grad through k inner steps in double, by weights and by rates; Hessian-vector products by jax.jvp of jax.grad."""
import jax
import jax.numpy as jnp
import numpy as np

from golden import Golden

jax.config.update("jax_enable_x64", True)
g = Golden(__file__, seed=90)


def forward(w, x, sizes, act):
    at, a = 0, x
    for l in range(1, len(sizes)):
        W = w[at:at + sizes[l] * sizes[l - 1]].reshape(sizes[l], sizes[l - 1])
        b = w[at + W.size:at + W.size + sizes[l]]
        at += W.size + sizes[l]
        a = a @ W.T + b
        if l + 1 < len(sizes):
            a = act(a)
    return a


def loss(w, x, y, sizes, act):
    z = forward(w, x, sizes, act)
    if y.ndim == 1:
        return -jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], 1).mean()
    return 0.5 * ((z - y) ** 2).sum(1).mean()


for name, sizes, act, labels in (("sine", (1, 4, 3, 1), jnp.tanh, False), ("class", (3, 4, 3), jnp.tanh, True), ("relu", (2, 5, 2), jax.nn.relu, False),
                                 ("linear", (2, 1), jnp.tanh, False)):
    P = sum(o * (i + 1) for i, o in zip(sizes, sizes[1:]))
    w, v, rate = g.normal(P), g.normal(P), (np.abs(g.normal(P)) * 0.1).astype(np.float32)
    data = []
    for N in (5, 4):
        x = g.normal(N, sizes[0])
        data.append((x, g.rng.integers(0, sizes[-1], N) if labels else g.normal(N, sizes[-1])))
    (xs, ys), (xq, yq) = data
    f = lambda p, x, y: loss(p, jnp.asarray(x, "float64"), jnp.asarray(y), sizes, act)
    wd, vd, rd = (jnp.asarray(a, "float64") for a in (w, v, rate))
    g.save(name, w=w, v=v, rate=rate, xs=xs, ys=ys, xq=xq, yq=yq, hv=jax.jvp(jax.grad(lambda p: f(p, xs, ys)), (wd,), (vd,))[1])

    def outer(p, r, k, stop=False):
        for _ in range(k):
            step = jax.grad(lambda q: f(q, xs, ys))(p)
            p = p - r * (jax.lax.stop_gradient(step) if stop else step)
        return f(p, xq, yq)

    for k in (0, 1, 3):
        g.save(f"{name}/{k}", loss=[outer(wd, rd, k)], dw=jax.grad(outer)(wd, rd, k), drate=jax.grad(outer, 1)(wd, rd, k),
               first=jax.grad(outer)(wd, rd, k, True))
g.write()
