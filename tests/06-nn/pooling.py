"""Golden values of @pooling: torch.nn.functional.max_pool2d and avg_pool2d in float64 with autograd, on the float32
inputs that the test reads back."""
import torch
from torch.nn.functional import avg_pool2d, max_pool2d

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=16)
cases = [  # planes H W, then by axis: kernel, stride, pad; ceil, without_pad
    (1, 1, 1, (1, 1), (1, 1), (0, 0), 0, 0),
    (2, 4, 6, (2, 2), (2, 2), (0, 0), 0, 0),
    (3, 5, 7, (2, 3), (2, 2), (0, 0), 1, 0),
    (2, 5, 4, (3, 3), (2, 1), (1, 1), 0, 0),
    (2, 5, 4, (3, 3), (2, 2), (1, 1), 1, 1),
    (1, 6, 6, (3, 2), (2, 3), (1, 0), 1, 0),
    (1, 3, 7, (3, 7), (1, 1), (0, 0), 0, 1),
    (2, 2, 5, (2, 2), (3, 3), (1, 1), 1, 0),
]
for k, (planes, H, W, kernel, stride, pad, ceil, without) in enumerate(cases):
    x = g.normal(1, planes, H, W)
    g.save(f"{k}", shape=[planes, H, W, *kernel, *stride, *pad, ceil, without], x=x)
    for name, f in [("max", lambda t: max_pool2d(t, kernel, stride, pad, ceil_mode=bool(ceil))),
                    ("average", lambda t: avg_pool2d(t, kernel, stride, pad, bool(ceil), not without))]:
        xd = torch.from_numpy(x).double().requires_grad_()
        y = f(xd)
        dy = g.normal(*y.shape)
        y.backward(torch.from_numpy(dy).double())
        g.save(f"{k}/{name}", size=y.shape[2:], dy=dy, y=y, dx=xd.grad)
g.write()
