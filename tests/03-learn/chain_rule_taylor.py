"""Golden values of @chain_rule_taylor: coefficients by mpmath, which differentiates numerically with 60 digits."""
import mpmath as mp

from golden import Golden

g = Golden(__file__, seed=32)
mp.mp.dps = 60
at, K = mp.mpf("0.5"), 8
poly = lambda t: at + 2 * t - t**2 + t**3 / 4 + t**5
cases = {"exp": mp.exp, "log": mp.log, "sin": mp.sin, "cos": mp.cos, "tanh": mp.tanh, "pow": lambda v: v**mp.mpf("-1.5"),
         "div": lambda v: mp.cos(v) / v, "mul": lambda v: v * mp.sin(v), "expsin": lambda v: mp.exp(mp.sin(v))}
for name, f in cases.items():
    g.save(name, c=[float(c) for c in mp.taylor(lambda t: f(poly(t)), 0, K)])
g.write()
