"""Golden values of @sparsemax: no library at hand has it, so this is the paper's algorithm 1 in float64 (sort, cumulative
sums, the last k that stays positive), where llm.h drops entries until nothing changes; gradients by autograd through it."""
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text


def sparsemax(z):  # one row
    s, _ = torch.sort(z, descending=True)
    k = torch.arange(1, len(z) + 1, dtype=z.dtype)
    total = torch.cumsum(s, 0)
    size = int((1 + k * s > total).sum())
    return torch.clamp(z - (total[size - 1] - 1) / size, min=0)


g = Golden(__file__, seed=3)
for rows, n, spread in [(1, 1, 1.0), (2, 2, 0.3), (3, 7, 0.5), (2, 16, 0.1), (4, 33, 1.0), (1, 100, 0.02)]:
    x, dp = spread * g.normal(rows, n), g.normal(rows, n)
    xd = torch.from_numpy(x).double().requires_grad_()
    p = torch.stack([sparsemax(row) for row in xd])
    p.backward(torch.from_numpy(dp).double())
    g.save(f"{rows}x{n}", x=x, dp=dp, p=p, dx=xd.grad)
g.write()
