"""Golden values of @matmul. Run by `make golden`; writes matmul.txt beside this file."""
import sys

sys.path.pop(0)  # this folder: torch would take its json.py for Python's
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=11)

# torch.nn.functional.linear and autograd in float64, on the float32 inputs that the test reads back
for n, c, o in [(1, 1, 1), (1, 19, 11), (5, 9, 2), (25, 8, 9), (26, 7, 3)]:
    x, w, b, dy = g.normal(n, c), g.normal(o, c), g.normal(o), g.normal(n, o)
    xd, wd, bd = (torch.from_numpy(a).double().requires_grad_() for a in (x, w, b))
    y = torch.nn.functional.linear(xd, wd, bd)
    y.backward(torch.from_numpy(dy).double())
    g.save(f"{n}x{c}x{o}", x=x, w=w, b=b, dy=dy, y=y, dx=xd.grad, dw=wd.grad, db=bd.grad)

g.write()
