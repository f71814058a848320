"""Golden values of @top_p: transformers' TopPLogitsWarper in float64. Rows with ties have at most 16 entries: torch.sort
keeps the order of equal ones only up to there, and which of them survive at the edge follows from it."""
import numpy as np
import torch
from transformers import TopPLogitsWarper

from golden import Golden

g = Golden(__file__, seed=17)
for row in range(14):
    n = (1, 2, 3, 7, 20, 50, 65)[row % 7]
    z = g.normal(n) * np.float32(2)
    if row >= 7:
        z = z[:16]
        n = len(z)
        z = np.round(z)
        z[g.coin(n, 0.2) == 1] = -np.inf
        z[0] = 0.0
    g.save(f"{row}", z=z)
    for p in (0.05, 0.5, 0.9, 0.99, 1.0):
        for keep in (1, 3):
            t = torch.from_numpy(z)[None].double()
            g.save(f"{row}/{p}/{keep}", kept=TopPLogitsWarper(p, min_tokens_to_keep=keep)(None, t)[0] > -np.inf)
g.write()
