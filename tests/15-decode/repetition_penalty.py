"""Golden values of @repetition_penalty: transformers' RepetitionPenaltyLogitsProcessor; llama.cpp's three penalties written
here from its rule with a Counter; rep-n by sets of tuples. Run by `make golden`."""
from collections import Counter

import numpy as np
import torch
from transformers import RepetitionPenaltyLogitsProcessor

from golden import Golden

g = Golden(__file__, seed=43)
for case, (V, T, theta) in enumerate([(1, 1, 1.3), (7, 11, 1.2), (13, 2, 0.8), (31, 60, 1.5), (50, 17, 1.0)]):
    z, text = g.normal(V) * np.float32(3), g.rng.integers(0, V, T)
    z[g.rng.random(V) < 0.1] = 0
    hf = RepetitionPenaltyLogitsProcessor(theta)(torch.tensor(text)[None], torch.tensor(z.astype(float))[None])[0]
    three = z.astype(float)
    for v, c in Counter(text[-8:].tolist()).items():
        three[v] = three[v] * np.float32(theta) if three[v] <= 0 else three[v] / np.float32(theta)
        three[v] -= 0.25 * c + 0.75 * (c > 0)
    rate = [1 - len({tuple(text[i:i + n]) for i in range(T + 1 - n)}) / (T + 1 - n) if T >= n else 0 for n in range(1, 6)]
    g.save(f"{case}", V=[V], text=text, theta=[theta], z=z, hf=hf, three=three, rate=rate)
g.write()
