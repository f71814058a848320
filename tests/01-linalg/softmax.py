"""Golden values of @softmax: PyTorch in float64 on the float32 inputs that the test reads back."""
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=2)

for rows, n, temp in [(1, 1, 1.0), (2, 2, 0.5), (3, 7, 2.0), (2, 8, 1.0), (4, 17, 0.1), (1, 100, 1.0)]:
    x, dy = 4 * g.normal(rows, n), g.normal(rows, n)
    if n > 2:
        x[0, 1::4] = float("-inf")  # masked entries
    if rows > 2:
        x[1] += 10000
    xd = torch.from_numpy(x).double().requires_grad_()
    d = torch.from_numpy(dy).double()
    p = torch.softmax(xd / temp, 1)
    p.backward(d)
    dx, xd.grad = xd.grad, None
    y = torch.log_softmax(xd, 1)
    y.backward(d)
    g.save(f"{rows}x{n}", x=x, dy=dy, p=p, dx=dx, logp=y, dlog=xd.grad)
g.write()
