"""Golden values of @dry: transformers' NoRepeatNGramLogitsProcessor, and llama.cpp's DRY written here from its rule: match
lengths by comparing tuples, the last breaker as a limit. Run by `make golden`."""
import math

import numpy as np
import torch
from transformers import NoRepeatNGramLogitsProcessor

from golden import Golden

g = Golden(__file__, seed=44)


def dry(z, text, m, b, allowed, last_n, breakers):
    z, text = z.astype(float), [int(t) for t in text][-last_n if last_n else 0:]
    T = len(text)
    if T <= allowed:
        return z
    limit = next((i for i, t in enumerate(reversed(text)) if t in breakers), T)
    cost = {}
    for j in range(1, T):
        n = max(L for L in range(j + 1) if text[j - L:j] == text[T - L:])
        n = min(n, limit)
        if n >= allowed and text[j] not in breakers:
            cost[text[j]] = max(cost.get(text[j], 0), n - allowed)
    most = int(88.7228391 / math.log(b)) if b > 1.000001 else math.inf
    for v, n in cost.items():
        z[v] -= m * float(b) ** min(n, most)
    return z


for case, (V, T, n, allowed, last_n, breakers) in enumerate([
        (1, 1, 1, 0, 0, []), (3, 2, 3, 1, 0, []), (3, 40, 3, 2, 0, []), (2, 30, 4, 3, 17, []), (5, 60, 2, 1, 0, [4]),
        (4, 50, 3, 0, 20, [1, 3]), (1, 9, 12, 2, 0, []), (30, 25, 1, 2, 5, [0]), (2, 60, 5, 2, 0, [])]):
    z, text = g.normal(V) * np.float32(3), g.rng.integers(0, V, T)
    if case == 8:
        text = np.array(([0, 1] * 30)[:T])
    ban = NoRepeatNGramLogitsProcessor(n)(torch.tensor(text)[None], torch.tensor(z.astype(float))[None])[0]
    g.save(f"{case}", V=[V], n=[n], allowed=[allowed], last=[last_n], breakers=breakers, text=text, z=z, ban=ban,
           dry=dry(z, text, 0.75, 1.25, allowed, last_n, breakers))
g.save("overflow", text=[0] * 120, want=dry(np.zeros(1), [0] * 120, 0.5, 2.5, 2, 0, []))
g.write()
