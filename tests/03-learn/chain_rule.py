"""Golden values of @chain_rule: slopes and second derivatives of twelve functions by SymPy, the tie of max by torch."""
import sympy as sp
import torch

from golden import Golden

g = Golden(__file__, seed=31)
x, y = sp.symbols("x y")
functions = [sp.exp(sp.sin(x)), sp.log(1 + x**2), sp.sin(x) / x, sp.tanh(x**3 - x), x**sp.Rational(5, 2), sp.exp(-x * x) * sp.cos(3 * x),
             1 / (1 + sp.exp(-x)), sp.sqrt(x + sp.log(x + 1)), sp.sin(sp.cos(sp.sin(x))), x**x, (x**2 + 1)**-3, sp.tanh(sp.exp(x) / (1 + x))]
at = [0.3, 0.7, 1.1, 1.9]
for k, f in enumerate(functions):
    for name, e in (("v", f), ("d", sp.diff(f, x))):
        g.save(f"{k}", **{name: [float(e.subs(x, sp.Float(repr(p), 30))) for p in at]})

# all second derivatives of one function of two variables
f = sp.exp(x * y) * sp.sin(x + y**2) + sp.log(x) * y**3
for i, (a, b) in enumerate([(x, x), (x, y), (y, y)]):
    g.save(f"second{i}", f=[float(sp.diff(f, a, b).subs({x: p, y: 0.5 * p + 0.1})) for p in at])

a = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
b = torch.tensor([2.0, 2.0, 2.0], dtype=torch.float64, requires_grad=True)
torch.maximum(a, b).sum().backward()
g.save("max", a=a.grad, b=b.grad)

sizes = [3, 5, 2, 4]
jac = [g.normal(o, i) for i, o in zip(sizes, sizes[1:])]
full = jac[2].astype(float) @ jac[1].astype(float) @ jac[0].astype(float)
for i, m in enumerate(jac):
    g.save("stages", **{f"j{i}": m})
g.save("stages", full=full)
g.write()
