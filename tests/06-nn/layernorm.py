"""Golden values of @layernorm: torch.nn.functional.layer_norm and group_norm in float64 with autograd, on the float32
inputs that the test reads back (for C = 768 on a formula, and every 24th result)."""
import numpy as np
import torch
from torch.nn.functional import group_norm, layer_norm

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=9)


def run(norm, x, w, b, dy):
    xd, wd, bd = (torch.from_numpy(a).double().requires_grad_() for a in (x, w, b))
    y = norm(xd, wd, bd)
    y.backward(torch.from_numpy(dy).double())
    return dict(y=y.detach(), dx=xd.grad, dw=wd.grad, db=bd.grad)


for N, C in [(1, 1), (2, 3), (5, 7), (3, 19), (4, 16)]:
    x, w, b, dy = 2 * g.normal(N, C) + 1, g.normal(C), g.normal(C), g.normal(N, C)
    g.save(f"{N}x{C}", x=x, w=w, b=b, dy=dy, plain=layer_norm(torch.from_numpy(x).double(), (C,), eps=1e-5),
           **run(lambda x, w, b: layer_norm(x, (C,), w, b, eps=1e-5), x, w, b, dy))

N, C = 3, 768
i = np.arange(N * C)
x, dy = ((i * 7919 % 2003) / 512 - 1).reshape(N, C), ((i * 104729 % 1009) / 512 - 1).reshape(N, C)
w, b = (i[:C] * 31 % 97) / 64, (i[:C] * 17 % 89) / 64
out = run(lambda x, w, b: layer_norm(x, (C,), w, b, eps=1e-5), *(a.astype(np.float32) for a in (x, w, b, dy)))
g.save("768", **{name: value.ravel()[::24] for name, value in out.items()})

for N, G, C, S in [(1, 1, 1, 2), (2, 1, 4, 3), (2, 2, 6, 5), (3, 4, 4, 7)]:
    x, w, b, dy = g.normal(N, C, S) - 2, g.normal(C), g.normal(C), g.normal(N, C, S)
    g.save(f"group{N}x{G}x{C}x{S}", x=x, w=w, b=b, dy=dy, **run(lambda x, w, b: group_norm(x, G, w, b, eps=1e-5),
                                                                x, w, b, dy))
g.write()
