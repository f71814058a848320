"""Golden values of @autodiff: jax.grad, jax.hessian and jax.jvp in float64."""
import jax
import jax.numpy as jnp
import numpy as np

from golden import Golden

jax.config.update("jax_enable_x64", True)
g = Golden(__file__, seed=37)


def rosenbrock(x):
    return jnp.sum(100.0 * (x[1:] - x[:-1]**2)**2 + (1.0 - x[:-1])**2)


x, v = g.normal(4), g.normal(4)
f = lambda z: rosenbrock(z)
xd, vd = jnp.array(x, jnp.float64), jnp.array(v, jnp.float64)
g.save("rosenbrock", x=x, v=v, f=f(xd), grad=jax.grad(f)(xd), hvp=jax.hessian(f)(xd) @ vd, jvp=jax.jvp(f, (xd,), (vd,))[1])


def mlp(p):  # 2-3-1: softplus of the output, inputs fixed
    w, b, u = p[:6].reshape(3, 2), p[6:9], p[9:12]
    h = jnp.tanh(w @ jnp.array([0.5, -1.25]) + b)
    return jnp.log(1.0 + jnp.exp(u @ h))


x, v = g.normal(12), g.normal(12)
xd, vd = jnp.array(x, jnp.float64), jnp.array(v, jnp.float64)
g.save("mlp", x=x, v=v, f=mlp(xd), grad=jax.grad(mlp)(xd), hvp=jax.hessian(mlp)(xd) @ vd)


def loop(a):  # runs until the value is large: how often depends on a
    z, n = a, 0
    while float(jax.lax.stop_gradient(z).astype(float)) < 10.0:
        z, n = z * z + jnp.sin(z) + 0.3, n + 1
    return z, n


for k, a in enumerate([0.9, 1.4, 2.6, 11.0]):
    a = np.float32(a)
    # traced values cannot steer a while loop, so the count is found first and the loop unrolled
    n = loop(jnp.array(float(a), jnp.float64))[1]

    def unrolled(z):
        for _ in range(n):
            z = z * z + jnp.sin(z) + 0.3
        return z

    g.save(f"loop{k}", a=[a], n=[n], z=unrolled(float(a)), dz=jax.grad(unrolled)(float(a)))


def many(x):  # 2 -> 3
    return jnp.array([jnp.cos(x[0]) * x[1], x[0] / x[1], jnp.maximum(x[0], x[1])**1.5])


x = np.array([1.25, 0.5], np.float32)
g.save("many", x=x, jac=jax.jacobian(many)(jnp.array(x, jnp.float64)))
g.write()
