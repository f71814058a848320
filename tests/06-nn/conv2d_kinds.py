"""Golden values of @conv2d_kinds: torch.nn.functional.conv_transpose2d and a padded conv1d in float64 with autograd."""
import torch
from torch.nn.functional import conv1d, conv_transpose2d, pad

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=17)
cases = [  # N, inputs, h, w, outputs, kernel, stride, pad, output_padding, dilation, groups
    (1, 1, 1, 1, 1, 3, 2, 1, 1, 1, 1),
    (2, 3, 3, 2, 2, 2, 2, 0, 0, 1, 1),
    (1, 2, 3, 4, 4, 3, 2, 1, 1, 1, 2),
    (2, 2, 2, 3, 3, 4, 3, 1, 2, 1, 1),
    (1, 3, 4, 4, 2, 3, 1, 1, 0, 2, 1),
]
for k, (N, I, h, w_, O, kernel, stride, p, more, dilation, groups) in enumerate(cases):
    x, w, b = g.normal(N, I, h, w_), g.normal(I, O // groups, kernel, kernel), g.normal(O)
    xd, wd, bd = (torch.from_numpy(a).double().requires_grad_() for a in (x, w, b))
    y = conv_transpose2d(xd, wd, bd, stride, p, more, groups, dilation)
    dy = g.normal(*y.shape)
    y.backward(torch.from_numpy(dy).double())
    g.save(f"{k}", shape=[N, O, *y.shape[2:], I, kernel, stride, p, dilation, groups], x=x, w=w, b=b, dy=dy, y=y,
           dx=xd.grad, dw=wd.grad, db=bd.grad)

x, w, b = g.normal(2, 3, 11), g.normal(4, 3, 3), g.normal(4)
g.save("causal", x=x, w=w, b=b,
       y=conv1d(pad(torch.from_numpy(x).double(), (4, 0)), torch.from_numpy(w).double(), torch.from_numpy(b).double(),
                dilation=2))
g.write()
