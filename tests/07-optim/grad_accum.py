"""Golden values of @grad_accum: the gradient of one large batch of a linear softmax model, padded rows ignored, by torch."""
import torch

from golden import Golden

g = Golden(__file__, seed=70)
for rows, width, vocab, kept in ((6, 3, 5, 0.5), (12, 4, 7, 0.8), (9, 1, 2, 0.3)):
    x, w = g.normal(rows, width), g.normal(vocab, width)
    y = g.rng.integers(0, vocab, rows)
    y[g.coin(rows, 1 - kept) == 1] = -100
    y[0] = 0
    wd = torch.from_numpy(w).double().requires_grad_()
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(x).double() @ wd.T, torch.from_numpy(y))
    loss.backward()
    g.save(f"{rows}", x=x, w=w, y=y, loss=[loss.item()], dw=wd.grad)
g.write()
