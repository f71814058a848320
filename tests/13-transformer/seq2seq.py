"""Golden values of @seq2seq and @seq2seq_gru: torch.nn.GRU in float64, alone, and as two nets with and without Luong's
attention between them. Writes seq2seq.txt and seq2seq_gru.txt."""
import os

import numpy as np
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text
from layout import randomize

C, H, VS, VT, START = 3, 4, 7, 6, 1


def cell(g):
    return [g.weight_ih_l0, g.weight_hh_l0, g.bias_ih_l0, g.bias_hh_l0]


def cat(ts, f):
    return torch.cat([f(t).reshape(-1) for t in ts])


def both(ts):
    return dict(weights=cat(ts, lambda p: p.detach()), grads=cat(ts, lambda p: p.grad))


g = Golden(os.path.join(os.path.dirname(__file__), "seq2seq_gru.py"), seed=1310)
m = randomize(g, torch.nn.GRU(C, H, batch_first=True), 1.0)
x, h0, dh = (torch.from_numpy(g.normal(*s)).double().requires_grad_() for s in ((1, 5, C), (1, 1, H), (1, 5, H)))
y, _ = m(x, h0)
y.backward(dh.detach())
g.save("gru", x=x, h0=h0, dh=dh, h=y, dx=x.grad, dh0=h0.grad, **both(cell(m)))
g.write()


class Model(torch.nn.Module):
    def __init__(self, attention):
        super().__init__()
        self.source, self.target = torch.nn.Embedding(VS, C), torch.nn.Embedding(VT, C)
        self.encoder, self.decoder = torch.nn.GRU(C, H, batch_first=True), torch.nn.GRU(C, H, batch_first=True)
        self.join = torch.nn.Linear(2 * H, H, bias=False) if attention else None
        self.head = torch.nn.Linear(H, VT)

    def forward(self, s, shifted):
        h, last = self.encoder(self.source(s))
        y, _ = self.decoder(self.target(shifted), last)
        if self.join is not None:
            a = torch.softmax(y @ h.transpose(1, 2), -1)
            y = torch.tanh(self.join(torch.cat([a @ h, y], -1)))
        return self.head(y)


g = Golden(__file__, seed=1311)
source, target = np.array([[2, 5, 3, 6, 4]]), np.array([[3, 2, 5, 4]])
g.save("in", source=source, target=target)
for name, attention, reverse in [("plain", False, False), ("reversed", False, True), ("attention", True, False)]:
    m = randomize(g, Model(attention), 1.0)
    s, t = torch.from_numpy(source[:, ::-1].copy() if reverse else source), torch.from_numpy(target)
    z = m(s, torch.cat([torch.full((1, 1), START), t[:, :-1]], 1))
    loss = torch.nn.functional.cross_entropy(z[0], t[0], reduction="sum")
    loss.backward()
    parts = [m.source.weight, m.target.weight] + cell(m.encoder) + cell(m.decoder)
    g.save(name, logits=z, loss=loss, **both(parts + ([m.join.weight] if attention else []) +
                                             [m.head.weight, m.head.bias]))
g.write()
