"""Golden values of @f_divergence: SciPy's rel_entr and jensenshannon, plain sums, torch autograd through softmax."""
import numpy as np
import torch
from scipy import special
from scipy.spatial.distance import jensenshannon

from golden import Golden

g = Golden(__file__, seed=20)
ALPHA = -0.7
FORMS = [lambda p, q: (p * (p / q).log()).sum(-1), lambda p, q: (q * (q / p).log()).sum(-1),
         lambda p, q: 0.5 * ((p * (2 * p / (p + q)).log()).sum(-1) + (q * (2 * q / (p + q)).log()).sum(-1)),
         lambda p, q: 0.5 * (p - q).abs().sum(-1), lambda p, q: ((p - q) ** 2 / q).sum(-1), lambda p, q: ((p - q) ** 2 / p).sum(-1),
         lambda p, q: ((p.sqrt() - q.sqrt()) ** 2).sum(-1),
         lambda p, q: ((p**ALPHA * q ** (1 - ALPHA)).sum(-1) - 1) / (ALPHA * (ALPHA - 1))]
for n, v in [(1, 2), (3, 5), (2, 17)]:
    p = np.float32(special.softmax(g.normal(n, v).astype(float), 1))
    z, dd = g.normal(n, v), g.normal(n)
    g.save(f"{n}x{v}", p=p, z=z, q=np.float32(special.softmax(z.astype(float), 1)), dd=dd)
    P = torch.from_numpy(p.astype(float) / p.astype(float).sum(1, keepdims=True))
    for k, form in enumerate(FORMS):
        t = torch.from_numpy(z).double().requires_grad_()
        d = form(P, torch.softmax(t, 1))
        (d * torch.from_numpy(dd).double()).sum().backward()
        q = torch.softmax(t, 1).detach().numpy()
        if k == 0:
            assert np.allclose(d.detach(), special.rel_entr(P.numpy(), q).sum(1))
        if k == 2:
            assert np.allclose(d.detach(), jensenshannon(P.numpy(), q, axis=1) ** 2)
        g.save(f"{n}x{v}/{k}", d=d, dz=t.grad)
g.write()
