"""Golden values of @seq2seq_additive and its backward: torch's autograd in float64 over a bidirectional torch.nn.GRU, an
additive search and a torch.nn.GRUCell. Writes both files."""
import os

import numpy as np
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text
from layout import randomize

C, H, A, VS, VT, START = 3, 4, 5, 7, 6, 1


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.source, self.target = torch.nn.Embedding(VS, C), torch.nn.Embedding(VT, C)
        self.encoder = torch.nn.GRU(C, H, bidirectional=True)
        self.decoder = torch.nn.GRUCell(C + 2 * H, H)
        self.first, self.w = torch.nn.Linear(H, H), torch.nn.Linear(H, A)
        self.u, self.v = torch.nn.Linear(2 * H, A, bias=False), torch.nn.Linear(A, 1, bias=False)
        self.head = torch.nn.Linear(3 * H + C, VT)

    def forward(self, source, shifted):
        h, last = self.encoder(self.source(source))
        s, logits, atts = torch.tanh(self.first(last[1])), [], []
        for token in shifted:
            a = torch.softmax(self.v(torch.tanh(self.w(s) + self.u(h)))[:, 0], 0)
            c, e = a @ h, self.target(token)
            s = self.decoder(torch.cat([e, c])[None], s[None])[0]
            logits.append(self.head(torch.cat([s, c, e])))
            atts.append(a)
        return torch.stack(logits), torch.stack(atts)


g = Golden(__file__, seed=1331)
m = randomize(g, Model(), 1.0)
source, target = torch.tensor([2, 5, 3, 6, 4]), torch.tensor([3, 2, 5, 4])
z, att = m(source, torch.cat([torch.tensor([START]), target[:-1]]))
loss = torch.nn.functional.cross_entropy(z, target, reduction="sum")
loss.backward()
e, d = m.encoder, m.decoder
parts = [m.source.weight, m.target.weight, e.weight_ih_l0, e.weight_hh_l0, e.bias_ih_l0, e.bias_hh_l0,
         e.weight_ih_l0_reverse, e.weight_hh_l0_reverse, e.bias_ih_l0_reverse, e.bias_hh_l0_reverse, d.weight_ih,
         d.weight_hh, d.bias_ih, d.bias_hh, m.first.weight, m.first.bias, m.w.weight, m.u.weight, m.v.weight, m.w.bias,
         m.head.weight, m.head.bias]
weights, grads = (torch.cat([f(p).reshape(-1) for p in parts]) for f in (lambda p: p.detach(), lambda p: p.grad))
g.save("in", source=source, target=target)
g.save("model", weights=weights, logits=z, att=att, loss=loss)
g.write()
g = Golden(os.path.join(os.path.dirname(__file__), "seq2seq_additive_backward.py"), seed=0)
g.save("in", source=source, target=target)
g.save("model", weights=weights, grads=grads)
g.write()
