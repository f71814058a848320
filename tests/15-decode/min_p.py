"""Golden values of @min_p: transformers' MinP, Typical, Epsilon and Eta warpers in float64; top-n-sigma from NumPy."""
import numpy as np
import torch
from transformers import EpsilonLogitsWarper, EtaLogitsWarper, MinPLogitsWarper, TypicalLogitsWarper

from golden import Golden

g = Golden(__file__, seed=18)
for row in range(10):
    n = (2, 3, 7, 50, 65)[row % 5]
    z = g.normal(n) * np.float32(2)
    if row >= 5:
        z[g.coin(n, 0.2) == 1] = -np.inf
        z[0] = 0.5
    t = torch.from_numpy(z)[None].double()
    g.save(f"{row}", z=z)
    for i, (ratio, mass, epsilon, sigma) in enumerate([(0.05, 0.2, 1e-3, 1.0), (0.3, 0.9, 2e-2, 0.3), (0.9, 0.99, 0.3, 3.0)]):
        for keep in (1, 3):
            kept = lambda w: w(None, t)[0] > -np.inf
            g.save(f"{row}/{i}/{keep}", min_p=kept(MinPLogitsWarper(ratio, min_tokens_to_keep=keep)),
                   typical=kept(TypicalLogitsWarper(mass, min_tokens_to_keep=keep)),
                   epsilon=kept(EpsilonLogitsWarper(epsilon, min_tokens_to_keep=keep)),
                   eta=kept(EtaLogitsWarper(epsilon, min_tokens_to_keep=keep)))
        finite = z[z > -np.inf].astype(np.float64)
        g.save(f"{row}/{i}", sigma=z >= finite.max() - sigma * finite.std())
g.write()
