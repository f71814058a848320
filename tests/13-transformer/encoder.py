"""Golden values of @encoder: torch.nn.TransformerEncoder in float64, post-norm with ReLU and pre-norm with GELU and a last
norm, with padding. Writes encoder.txt."""
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text
from layout import encoder_layer, norm, randomize, weights_and_grads

g = Golden(__file__, seed=1302)
B, T, C, H, F, L = 2, 5, 4, 2, 6, 2
x0, dy = g.normal(B, T, C), g.normal(B, T, C)
hidden = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]]).bool()
g.save("in", x=x0, dy=dy, hidden=hidden.int())
for name, first, act in [("post", False, "relu"), ("pre", True, "gelu")]:
    layer = torch.nn.TransformerEncoderLayer(C, H, F, dropout=0.0, activation=act, batch_first=True, norm_first=first)
    m = torch.nn.TransformerEncoder(layer, L, norm=torch.nn.LayerNorm(C) if first else None, enable_nested_tensor=False)
    randomize(g, m)
    x = torch.from_numpy(x0).double().requires_grad_()
    y = m(x, src_key_padding_mask=hidden)
    y.backward(torch.from_numpy(dy).double())
    parts = [p for l in m.layers for p in encoder_layer(l)] + ([norm(m.norm)] if first else [])
    g.save(name, y=y, dx=x.grad, **weights_and_grads(parts))
g.write()
