"""Golden values of @xavier_init: the bound and deviation that torch.nn.init hands to its random generators; mean squares
through a small network by autograd in float64."""
import numpy as np
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=8)


class Recorder(torch.Tensor):  # keeps what the fill was asked for
    def uniform_(self, low, high, generator=None):
        self.asked = high
        return self

    def normal_(self, mean, std, generator=None):
        self.asked = std
        return self


shapes, bounds, stds = [(1, 1), (3, 2), (400, 100), (768, 3072)], [], []
for fan_in, fan_out in shapes:
    for gain in [1.0, 5 / 3]:
        w = torch.empty(fan_out, fan_in).as_subclass(Recorder)
        torch.nn.init.xavier_uniform_(w, gain)
        bounds.append(w.asked)
        torch.nn.init.xavier_normal_(w, gain)
        stds.append(w.asked)
g.save("torch", bound=bounds, std=stds)

width, N = [5, 8, 3, 8], 4
x, dy = g.normal(N, width[0]), g.normal(N, width[-1])
w = [g.normal(width[i + 1], width[i]) / np.float32(2) for i in range(3)]
h = [torch.from_numpy(x).double().requires_grad_()]
for m in w:
    h.append(torch.tanh(h[-1] @ torch.from_numpy(m).double().T))
for t in h[1:]:
    t.retain_grad()
h[-1].backward(torch.from_numpy(dy).double())
g.save("track", x=x, dy=dy, w=np.concatenate([m.ravel() for m in w]), forward=[(t**2).mean().item() for t in h],
       backward=[(t.grad**2).mean().item() for t in h])
g.write()
