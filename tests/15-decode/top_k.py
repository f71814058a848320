"""Golden values of @top_k: transformers' TopKLogitsWarper on rows with ties and -inf, and torch.topk."""
import numpy as np
import torch
from transformers import TopKLogitsWarper

from golden import Golden

g = Golden(__file__, seed=16)
for row in range(12):
    n = (1, 2, 3, 7, 50, 65)[row % 6]
    z = g.normal(n) * np.float32(2)
    if row >= 6:
        z = np.round(z)  # ties
        z[g.coin(n, 0.2) == 1] = -np.inf
        z[0] = 0.0
    g.save(f"{row}", z=z)
    for k in (1, 2, 5, 40, 100):
        t = torch.from_numpy(z)[None].double()
        kept = TopKLogitsWarper(k)(None, t)[0]
        p = torch.softmax(t[0], 0)
        g.save(f"{row}/{k}", kept=kept, mass=[p[kept > -np.inf].sum()], values=torch.topk(t[0], min(k, n)).values)
g.write()
