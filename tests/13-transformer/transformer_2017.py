"""Golden values of @transformer_2017: ten steps of training in PyTorch, float64, without dropout: torch.nn.Transformer,
one table, smoothed labels, Adam and the schedule of the paper. Writes transformer_2017.txt."""
import numpy as np
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text
from layout import decoder_layer, encoder_layer, flat, randomize

g = Golden(__file__, seed=1307)
B, S, T, C, H, F, V, L = 2, 4, 3, 4, 2, 16, 6, 1
PAD, START, WARMUP = 0, 1, 200
source, target = np.array([[2, 5, 3, 4], [4, 2, 0, 0]]), np.array([[3, 2, 4], [5, 2, 0]])
angle = np.arange(max(S, T))[:, None] / 10000 ** (2 * np.arange(C // 2) / C)
pe = torch.from_numpy(np.stack([np.sin(angle), np.cos(angle)], -1).reshape(-1, C))


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(V, C)
        self.t = torch.nn.Transformer(C, H, L, L, F, 0.0, "relu", batch_first=True)
        self.t.encoder.norm = self.t.decoder.norm = None
        self.t.encoder.enable_nested_tensor = False

    def forward(self, s, shifted):
        embed = [C**0.5 * self.table(ids) + pe[: ids.shape[1]] for ids in (s, shifted)]
        y = self.t(*embed, tgt_mask=torch.ones(T, T).triu(1).bool(), src_key_padding_mask=s == PAD,
                   memory_key_padding_mask=s == PAD)
        return y @ self.table.weight.T


m = randomize(g, Model())
parts = [([m.table.weight], [])]
parts += encoder_layer(m.t.encoder.layers[0]) + decoder_layer(m.t.decoder.layers[0])
g.save("in", source=source, target=target, weights=flat(parts, lambda p: p.detach().clone()))
s, t = torch.from_numpy(source), torch.from_numpy(target)
shifted = torch.cat([torch.full((B, 1), START), t[:, :-1]], 1)
opt = torch.optim.Adam(m.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)
rate = torch.optim.lr_scheduler.LambdaLR(
    opt, lambda k: C**-0.5 * min((k + 1) ** -0.5, (k + 1) * WARMUP**-1.5))
losses = []
for step in range(10):
    opt.zero_grad()
    loss = torch.nn.functional.cross_entropy(m(s, shifted).reshape(B * T, V), t.reshape(-1), ignore_index=PAD,
                                             label_smoothing=0.1)
    loss.backward()
    opt.step()
    rate.step()
    losses.append(loss.item())
g.save("out", losses=losses, weights=flat(parts, lambda p: p.detach()))
g.write()
