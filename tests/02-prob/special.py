"""Golden values of @special, from mpmath with 50 digits. Doubles are stored as the sum of two floats."""
import mpmath as mp
import numpy as np

from golden import Golden

mp.mp.dps = 50
g = Golden(__file__, seed=2)


def save(name, inputs, values):
    """Inputs become floats, so that both sides see the same number; values are hi + lo, good to 2^-48."""
    hi = np.array([np.float32(float(v)) for v in values])
    lo = np.array([np.float32(float(v - mp.mpf(float(h)))) for v, h in zip(values, hi)])
    g.save(name, **inputs, hi=hi, lo=lo)


def f32(values):
    return np.array(values, np.float32)


x = f32([1e-30, 1e-3, 0.1, 0.5, 0.99, 1, 1.5, 2, 2.001, 3, 7.25, 15.5, 16, 17.3, 100, 1e5, 1e10])
m = [mp.mpf(float(v)) for v in x]
save("lgamma", {"x": x}, [mp.loggamma(v) for v in m])
save("digamma", {"x": x}, [mp.digamma(v) for v in m])
save("trigamma", {"x": x[1:]}, [mp.psi(1, v) for v in m[1:]])

pairs = [(5, 5.5), (5, 4), (1e6, 1.001e6), (1e6, 1e6 - 1), (3, 100), (1e-20, 2), (100, 3), (7, 7), (12, 10), (11, 9)]
a, b = f32([p[0] for p in pairs]), f32([p[1] for p in pairs])
save("deviance", {"x": a, "m": b}, [mp.mpf(float(x)) * mp.log(mp.mpf(float(x)) / float(y)) + mp.mpf(float(y)) - float(x)
                                    for x, y in zip(a, b)])

pairs = [(0.5, 1e-6), (0.5, 0.3), (0.5, 2), (0.5, 32), (0.5, 800), (1e-3, 1e-8), (1e-3, 0.5), (1, 1), (1, 40), (2.5, 3.5),
         (2.5, 3.4), (10, 1), (10, 0.001), (10, 60), (100, 90), (100, 103), (100, 300), (1000, 1000), (1e4, 1.02e4), (1e4, 9e3)]
a, x = f32([p[0] for p in pairs]), f32([p[1] for p in pairs])
A, X = [[mp.mpf(float(v)) for v in w] for w in (a, x)]
save("gamma_p", {"a": a, "x": x}, [mp.log(mp.gammainc(u, 0, v, regularized=True)) for u, v in zip(A, X)])
save("gamma_q", {}, [mp.log(mp.gammainc(u, v, mp.inf, regularized=True)) for u, v in zip(A, X)])

cases = [(0.5, 0.5, 0.1), (0.5, 0.5, 0.9), (2, 3, 0.4), (2, 3, 0.001), (2, 3, 0.999), (1e-2, 5, 1e-4), (5, 1e-2, 0.7), (1, 1, 0.3),
         (30, 20, 0.6), (30, 20, 0.2), (30, 20, 0.95), (500, 300, 0.62), (500, 300, 0.5), (500, 300, 0.7), (1, 1000, 1e-3),
         (1e4, 1e4, 0.5), (1e4, 1e4, 0.49), (0.5, 2.5, 1e-8)]
a, b, x = (f32([c[k] for c in cases]) for k in range(3))
A, B, X = [[mp.mpf(float(v)) for v in w] for w in (a, b, x)]


def part(a, b, lo, hi):
    return mp.betainc(a, b, lo, hi, regularized=True)


def tail(a, b, x):
    """The small tail of a beta by its series, which mpmath's difference of two would lose."""
    front = x**a * (1 - x)**b / (a * mp.beta(a, b))
    return front * mp.hyp2f1(a + b, 1, a + 1, x)


mp.mp.dps = 400
save("beta_i", {"a": a, "b": b, "x": x}, [mp.log(tail(u, v, w)) for u, v, w in zip(A, B, X)])
save("beta_c", {}, [mp.log(tail(v, u, 1 - w)) for u, v, w in zip(A, B, X)])
mp.mp.dps = 50


def student(v, z):
    """P(|T| > z) for v degrees of freedom: the density's integral, which has no large terms."""
    def density(t):
        return mp.exp(mp.loggamma((v + 1) / 2) - mp.loggamma(v / 2) - mp.log(v * mp.pi) / 2 - (v + 1) / 2 * mp.log1p(t * t / v))
    return 2 * mp.quad(density, [z + mp.mpf(k) / max(z, 1) for k in (0, 0.5, 1, 2, 4, 8, 16, 32, 64, 128)])


mp.mp.dps = 60
cases = [(v, z) for v in (1e4, 1e6, 1e8, 1e12, 1e15, 1e18, 1e38) for z in (0.01, 1.25, 2, 8, 25)]
v, z = (f32([c[k] for c in cases]) for k in range(2))
save("student", {"v": v, "z": z}, [mp.log(student(mp.mpf(float(a)), mp.mpf(float(b)))) for a, b in zip(v, z)])
mp.mp.dps = 50
z = f32([-38, -8, -3, -1, -0.01, 0, 0.5, 2, 8, -200])
save("normal", {"z": z}, [mp.log(mp.erfc(-mp.mpf(float(v)) / mp.sqrt(2)) / 2) for v in z])
g.write()
