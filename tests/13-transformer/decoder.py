"""Golden values of @decoder: torch.nn.TransformerDecoder in float64 with a padded memory, post-norm with ReLU and pre-norm
with GELU and a last norm, gradients of the memory too. Writes decoder.txt."""
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text
from layout import decoder_layer, norm, randomize, weights_and_grads

g = Golden(__file__, seed=1303)
B, T, S, C, H, F, L = 2, 4, 3, 4, 2, 6, 2
x0, mem0, dy = g.normal(B, T, C), g.normal(B, S, C), g.normal(B, T, C)
hidden = torch.tensor([[0, 0, 0], [0, 0, 1]]).bool()
g.save("in", x=x0, mem=mem0, dy=dy, hidden=hidden.int())
causal = torch.ones(T, T).triu(1).bool()
for name, first, act in [("post", False, "relu"), ("pre", True, "gelu")]:
    layer = torch.nn.TransformerDecoderLayer(C, H, F, dropout=0.0, activation=act, batch_first=True, norm_first=first)
    m = torch.nn.TransformerDecoder(layer, L, norm=torch.nn.LayerNorm(C) if first else None)
    randomize(g, m)
    x, mem = (torch.from_numpy(a).double().requires_grad_() for a in (x0, mem0))
    y = m(x, mem, tgt_mask=causal, memory_key_padding_mask=hidden)
    y.backward(torch.from_numpy(dy).double())
    parts = [p for l in m.layers for p in decoder_layer(l)] + ([norm(m.norm)] if first else [])
    g.save(name, y=y, dx=x.grad, dmem=mem.grad, **weights_and_grads(parts))
g.write()
