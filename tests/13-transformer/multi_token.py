"""Golden values of @multi_token and @mtp in float64: torch.nn.TransformerEncoderLayer behind a causal mask as heads and
as the layers of DeepSeek-V3's modules, the losses summed, torch's autograd. Writes both files."""
import os

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from golden import Golden  # tests/golden.py: writes named arrays as text
from layout import encoder_layer, flat, norm, randomize

B, T, V, C, H, K = 2, 5, 6, 4, 5, 2
ids = np.array([[3, 5, 1, 4, 2], [2, 4, -100, 5, -100]])
x = torch.from_numpy(ids)
mask = torch.ones(T, T).triu(1).bool()


class Stack(nn.Module):
    def __init__(self, last=True):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(C, 2, H, 0.0, "relu", batch_first=True, norm_first=True)
        self.norm = nn.LayerNorm(C)

    def forward(self, h, last):
        y = self.layer(h, src_mask=mask[:h.shape[1], :h.shape[1]])
        return self.norm(y) if last else y

    def parts(self):
        return encoder_layer(self.layer) + [norm(self.norm)]


class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.merge, self.stack = nn.Linear(2 * C, C, bias=False), Stack()
        self.norm_in, self.norm_token, self.norm_out = (nn.RMSNorm(C, eps=1e-5) for _ in range(3))

    def parts(self):
        gains = [self.norm_in.weight, self.norm_token.weight, self.norm_out.weight]
        return [([self.merge.weight], gains)] + self.stack.parts()


def save(g, parts, table, h, **arrays):
    g.save("in", ids=ids, h=h, table=table)
    g.save("model", weights=flat(parts, lambda p: p.detach()), dh=h.grad, dtable=table.grad,
           grads=flat(parts, lambda p: torch.zeros_like(p) if p.grad is None else p.grad), **arrays)
    g.write()


def start(g):
    return [torch.from_numpy(np.round(16 * g.normal(*s)) / 16).double().requires_grad_() for s in ((B, T, C), (V, C))]


def ce(z, labels):
    return F.cross_entropy(z.reshape(-1, V), labels.reshape(-1))


g = Golden(__file__, seed=1340)
heads = [randomize(g, Stack()) for _ in range(K)]
h, table = start(g)
z = [m(h, True) @ table.T for m in heads]
losses = [ce(z[k][:, :T - 1 - k], x[:, 1 + k:]) for k in range(K)]
sum(losses).backward()
save(g, [p for m in heads for p in m.parts()], table, h, losses=torch.stack(losses),
     last=torch.stack([z[k][0, -1] for k in range(K)]))

g = Golden(os.path.join(os.path.dirname(__file__), "mtp.py"), seed=1341)
modules = [randomize(g, Module()) for _ in range(K)]
h, table = start(g)
state, losses = h, []
for k, m in enumerate(modules, 1):
    n = T - k
    e = F.embedding(x[:, k:].clamp(min=0), table)
    state = m.stack(m.merge(torch.cat([m.norm_in(state[:, :n]), m.norm_token(e)], -1)), False)
    losses.append(ce((m.norm_out(state) @ table.T)[:, :n - 1], x[:, k + 1:]))
(0.5 * losses[0] + 0.25 * losses[1]).backward()
save(g, [p for m in modules for p in m.parts()], table, h, losses=torch.stack(losses), state=state)
