"""Golden values of @conv2d: torch.nn.functional.conv2d in float64 with autograd over a grid of strides, paddings,
dilations and groups, on the float32 inputs that the test reads back."""
import torch
from torch.nn.functional import conv2d, pad

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=15)
cases = [  # N C H W O, then by axis: kernel, stride, pad, pad_end, dilation; groups
    (1, 1, 1, 1, 1, (1, 1), (1, 1), (0, 0), (0, 0), (1, 1), 1),
    (1, 3, 5, 4, 2, (3, 3), (1, 1), (1, 1), (1, 1), (1, 1), 1),
    (1, 2, 7, 5, 3, (3, 2), (2, 3), (1, 0), (1, 0), (1, 1), 1),
    (1, 2, 7, 6, 2, (2, 3), (1, 1), (2, 2), (2, 2), (3, 2), 1),
    (1, 4, 4, 5, 6, (3, 3), (2, 1), (0, 2), (0, 2), (1, 2), 2),
    (1, 3, 6, 5, 3, (3, 3), (1, 2), (1, 1), (1, 1), (1, 1), 3),
    (2, 5, 3, 3, 4, (1, 1), (1, 1), (0, 0), (0, 0), (1, 1), 1),
    (1, 2, 1, 9, 2, (1, 3), (1, 1), (0, 4), (0, 0), (1, 2), 1),
    (1, 1, 2, 3, 1, (4, 5), (3, 1), (3, 2), (1, 3), (1, 1), 1),
]
for k, (N, C, H, W, O, kernel, stride, before, behind, dilation, groups) in enumerate(cases):
    x, w, b = g.normal(N, C, H, W), g.normal(O, C // groups, *kernel), g.normal(O)
    xd, wd, bd = (torch.from_numpy(a).double().requires_grad_() for a in (x, w, b))
    padded = pad(xd, (before[1], behind[1], before[0], behind[0]))
    y = conv2d(padded, wd, bd, stride, 0, dilation, groups)
    dy = g.normal(*y.shape)
    y.backward(torch.from_numpy(dy).double())
    g.save(f"{k}", shape=[N, C, H, W, O, *kernel, *stride, *before, *behind, *dilation, groups], size=y.shape[2:], x=x,
           w=w, b=b, dy=dy, y=y, dx=xd.grad, dw=wd.grad, db=bd.grad)
g.write()
