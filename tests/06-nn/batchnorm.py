"""Golden values of @batchnorm: torch.nn.functional.batch_norm in float64 with autograd, training and inference, on the
float32 inputs that the test reads back."""
import numpy as np
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=13)
for N, C, S in [(2, 1, 1), (5, 3, 1), (2, 65, 1), (1, 2, 7), (3, 5, 2), (2, 1, 19)]:
    x, w, b, dy = 2 * g.normal(N, C, S) + 1, g.normal(C), g.normal(C), g.normal(N, C, S)
    mean, var = g.normal(C), np.abs(g.normal(C)) + 0.1
    g.save(f"{N}x{C}x{S}", x=x, w=w, b=b, dy=dy, mean=mean, var=var)
    for training in [True, False]:
        xd, wd, bd, m, v = (torch.from_numpy(a).double() for a in (x, w, b, mean, var))
        for t in (xd, wd, bd):
            t.requires_grad_()
        y = torch.nn.functional.batch_norm(xd, m, v, wd, bd, training, momentum=0.1, eps=1e-5)
        y.backward(torch.from_numpy(dy).double())
        g.save(f"{N}x{C}x{S}/" + ("train" if training else "eval"), y=y, dx=xd.grad, dw=wd.grad, db=bd.grad,
               **(dict(mean=m, var=v) if training else {}))
g.write()
