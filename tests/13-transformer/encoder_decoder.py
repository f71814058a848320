"""Golden values of @encoder_decoder: torch.nn.Transformer in float64 between embeddings with sinusoids and a head, with
padding on both sides; three tables and one. Writes encoder_decoder.txt."""
import numpy as np
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text
from layout import decoder_layer, encoder_layer, norm, randomize, weights_and_grads

g = Golden(__file__, seed=1304)
B, S, T, C, H, F = 2, 4, 3, 4, 2, 5
PAD, START = 0, 1
source = np.array([[2, 5, 3, 4], [4, 2, 0, 0]])
target = np.array([[3, 2, 4], [5, 2, 0]])
g.save("in", source=source, target=target)
angle = np.arange(max(S, T))[:, None] / 10000 ** (2 * np.arange(C // 2) / C)
pe = torch.from_numpy(np.stack([np.sin(angle), np.cos(angle)], -1).reshape(-1, C))


class Model(torch.nn.Module):
    def __init__(self, tied, first):
        super().__init__()
        self.source = torch.nn.Embedding(6 if tied else 7, C)
        self.target = self.source if tied else torch.nn.Embedding(6, C)
        self.head = self.source if tied else torch.nn.Linear(C, 6, bias=False)
        self.t = torch.nn.Transformer(C, H, 2, 1, F, 0.0, "relu", batch_first=True, norm_first=first)
        if not first:
            self.t.encoder.norm = self.t.decoder.norm = None
        self.t.encoder.enable_nested_tensor = False


for name, tied, first, smoothing in [("three", False, False, 0.0), ("one", True, True, 0.1)]:
    m = randomize(g, Model(tied, first))
    scale = C**0.5 if tied else 1.0
    s, t = torch.from_numpy(source), torch.from_numpy(target)
    shifted = torch.cat([torch.full((B, 1), START), t[:, :-1]], 1)
    y = m.t(scale * m.source(s) + pe[:S], scale * m.target(shifted) + pe[:T], tgt_mask=torch.ones(T, T).triu(1).bool(),
            src_key_padding_mask=s == PAD, memory_key_padding_mask=s == PAD)
    z = y @ m.head.weight.T
    loss = torch.nn.functional.cross_entropy(z.reshape(B * T, -1), t.reshape(-1), ignore_index=PAD,
                                             label_smoothing=smoothing)
    loss.backward()
    tables = [m.source.weight] if tied else [m.source.weight, m.target.weight, m.head.weight]
    parts = [(tables, [])]
    for stack, layer in [(m.t.encoder, encoder_layer), (m.t.decoder, decoder_layer)]:
        parts += [p for l in stack.layers for p in layer(l)] + ([norm(stack.norm)] if first else [])
    g.save(name, logits=z, loss=loss, **weights_and_grads(parts))
g.write()
