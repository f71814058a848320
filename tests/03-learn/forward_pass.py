"""Golden values of @forward_pass: a net of three layers with a column that scales rows, by torch in float64."""
import torch

from golden import Golden

g = Golden(__file__, seed=35)
for N in (1, 5, 13):
    x, w1, b1 = g.normal(N, 3), g.normal(3, 7), g.normal(1, 7)
    w2, s, w3, b3 = g.normal(7, 6), g.normal(N, 1), g.normal(6, 4), g.normal(1, 4)
    t = g.rng.integers(0, 4, N)
    d = [torch.from_numpy(a).double() for a in (x, w1, b1, w2, s, w3, b3)]
    logits = torch.relu(torch.tanh(d[0] @ d[1] + d[2]) @ d[3]) * d[4] @ d[5] + d[6]
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(t))
    g.save(f"{N}", x=x, w1=w1, b1=b1, w2=w2, s=s, w3=w3, b3=b3, t=t, logits=logits, loss=loss)
g.write()
