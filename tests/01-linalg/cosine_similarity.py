"""Golden values of @cosine_similarity: torch.nn.functional.cosine_similarity with autograd in float64, angles by
mpmath. torch lets the gradient through the clamp of the norms; the gradients here come from the formula with clamp's own."""
import mpmath
import numpy as np
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=25)
mpmath.mp.dps = 50
for n, scale in [(1, 1), (2, 1), (7, 1), (64, 1), (5, 1e-9), (5, 1e15)]:
    a, b = np.float32(scale * g.normal(n)), g.normal(n)
    at, bt = (torch.from_numpy(x).double().requires_grad_() for x in (a, b))
    c = torch.nn.functional.cosine_similarity(at, bt, dim=0, eps=1e-8)
    formula = (at @ bt) / at.norm().clamp(min=1e-8) / bt.norm().clamp(min=1e-8)
    assert abs(c - formula) < 1e-14
    formula.backward()
    ma, mb = (mpmath.matrix([float(x) for x in v]) for v in (a, b))
    angle = mpmath.acos((ma.T * mb)[0] / mpmath.norm(ma) / mpmath.norm(mb)) / mpmath.pi
    g.save(f"{n}s{scale:g}", a=a, b=b, c=[c.item()], da=at.grad * scale, db=bt.grad, angle=[float(mpmath.re(angle))])
a, b = g.normal(5, 9), g.normal(7, 9)
g.save("matrix", a=a, b=b, s=torch.nn.functional.cosine_similarity(torch.from_numpy(a).double()[:, None],
                                                                   torch.from_numpy(b).double()[None], dim=-1))
g.write()
