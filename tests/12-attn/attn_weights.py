"""Golden values of @attn_weights: torch.softmax with temperature and with a sink logit joined to each row, values read out
and autograd, in float64; head statistics from scipy.stats.entropy. Run by `make golden`; writes attn_weights.txt."""
import numpy as np
import scipy.stats
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=36)
for B, H, Tq, Tk, temp in [(1, 1, 1, 1, 1.0), (2, 2, 3, 5, 0.5), (1, 3, 2, 17, 2.0)]:
    at, D = f"{B}x{H}x{Tq}x{Tk}", 3
    s, sink, v, do = g.normal(B, H, Tq, Tk), g.normal(H), g.normal(B, H, Tk, D), g.normal(B, H, Tq, D)
    g.save(at, s=s, sink=sink, v=v, do=do)
    for name in ("plain", "sink", "one"):
        x, z = torch.from_numpy(s).double().requires_grad_(), torch.from_numpy(sink).double().requires_grad_()
        extra = {"plain": torch.full_like(z, float("-inf")), "sink": z, "one": torch.zeros_like(z)}[name]
        rows = torch.cat([x / temp, extra.view(1, H, 1, 1).expand(B, H, Tq, 1)], -1)
        p = torch.softmax(rows, -1)[..., :-1]
        out = p @ torch.from_numpy(v).double()
        out.backward(torch.from_numpy(do).double())
        g.save(f"{at}/{name}", p=p, lse=torch.logsumexp(rows, -1), out=out, ds=x.grad)
        if name == "sink":
            g.save(f"{at}/{name}", dsink=z.grad)
        if name != "one":
            continue
        q = (p / p.sum(-1, keepdim=True)).detach().numpy()
        entropy = scipy.stats.entropy(q, axis=-1)
        distance = np.abs(np.arange(Tq)[:, None] + 2 - np.arange(Tk)[None])
        g.save(at, entropy=entropy.mean((0, 2)), keys=np.exp(entropy).mean((0, 2)),
               span=(q * distance).sum(-1).mean((0, 2)))
g.write()
