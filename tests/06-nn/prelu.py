"""Golden values of @prelu: torch's prelu and maximum over the pieces, with autograd in float64."""
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=31)
for name, shape in (("dense", (5, 3)), ("image", (2, 3, 7))):
    x, dy, a = (torch.from_numpy(g.normal(*s)) for s in (shape, shape, (3,)))
    x.reshape(-1)[1] = 0.0
    xd, ad = x.double().requires_grad_(), a.double().requires_grad_()
    y = torch.nn.functional.prelu(xd, ad)
    y.backward(dy.double())
    g.save(name, x=x, a=a, dy=dy, y=y, dx=xd.grad, da=ad.grad)
for K in (1, 2, 5):
    z, dy = torch.from_numpy(g.normal(6, K)), torch.from_numpy(g.normal(6))
    zd = z.double().requires_grad_()
    y = zd.max(-1).values
    y.backward(dy.double())
    g.save(f"maxout{K}", z=z, dy=dy, y=y, dz=zd.grad)
g.write()
