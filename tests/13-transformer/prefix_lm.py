"""Golden values of @prefix_lm: torch.nn.TransformerEncoder in float64 over rows of source and target with a prefix mask,
padding between them; bidirectional with pre-norm, and causal with post-norm. The same rows without their padding."""
import numpy as np
import torch
import torch.nn as nn

from golden import Golden  # tests/golden.py: writes named arrays as text
from layout import encoder_layer, flat, norm, randomize, weights_and_grads

B, S, T, V, C, F, START = 3, 4, 3, 6, 4, 5, 1
source = np.array([[2, 5, 3, 4], [4, 2, 0, 0], [0, 0, 0, 0]])
target = np.array([[3, 5, 2], [4, 2, 0], [5, 0, 0]])


def sines(places):
    t, k = np.arange(places)[:, None], np.arange(C // 2)[None, :]
    angle = t / 10000.0 ** (2 * k / C)
    return torch.from_numpy(np.stack([np.sin(angle), np.cos(angle)], -1).reshape(places, C))


class Model(nn.Module):
    def __init__(self, pre):
        super().__init__()
        self.table = nn.Embedding(V, C)
        layer = nn.TransformerEncoderLayer(C, 2, F, 0.0, "relu", batch_first=True, norm_first=pre)
        self.stack = nn.TransformerEncoder(layer, 2, nn.LayerNorm(C) if pre else None, enable_nested_tensor=False)

    def forward(self, s, t, causal):  # one row, as long as it is
        row = torch.tensor(np.concatenate([s, [START], t[:-1]]))
        n = len(s)
        x = 2.0 * self.table(row) + sines(len(row))
        i, j = np.mgrid[:len(row), :len(row)]
        seen = (j <= i) if causal else (j <= np.maximum(i, n - 1))
        y = self.stack(x[None], mask=torch.from_numpy(~seen))
        return y[0, n:] @ self.table.weight.T


g = Golden(__file__, seed=1330)
g.save("in", source=source, target=target)
for name, causal in [("prefix", False), ("causal", True)]:
    m = randomize(g, Model(not causal))
    z = [m(s[s > 0], t, causal) for s, t in zip(source, target)]
    labels = torch.from_numpy(np.where(target == 0, -100, target))
    loss = nn.functional.cross_entropy(torch.cat(z), labels.reshape(-1))
    loss.backward()
    parts = [([m.table.weight], [])] + [p for l in m.stack.layers for p in encoder_layer(l)]
    if not causal:
        parts.append(norm(m.stack.norm))
    g.save(name, logits=torch.stack(z), loss=loss, **weights_and_grads(parts))
g.write()
