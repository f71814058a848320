"""Golden values of @logit_bias: transformers' SequenceBiasLogitsProcessor and UnbatchedClassifierFreeGuidanceLogitsProcessor
(with a stub for its model). Run by `make golden`."""
import types

import numpy as np
import torch
from transformers import SequenceBiasLogitsProcessor, UnbatchedClassifierFreeGuidanceLogitsProcessor

from golden import Golden

g = Golden(__file__, seed=46)
for case, (V, T) in enumerate([(3, 1), (7, 5), (4, 12)]):
    z, ids = g.normal(V) * np.float32(2), g.rng.integers(0, V, T)
    sequences = [tuple(ids[-n:].tolist()) + (int(g.rng.integers(0, V)),) for n in range(1, T + 1)][:3]
    sequences += [(1,), (0, 2), (1, 0, 1), tuple([0] * (T + 2))]
    sequences = list(dict.fromkeys(sequences))
    bias = [float(np.float32(b)) for b in 3 * g.rng.standard_normal(len(sequences))]
    bias[0] = -100.0
    out = SequenceBiasLogitsProcessor([[list(s), b] for s, b in zip(sequences, bias)])(
        torch.tensor(ids)[None], torch.tensor(z)[None])[0]
    g.save(f"{case}", V=[V], ids=ids, z=z, bias=bias, size=[len(s) for s in sequences], sequence=sum(map(list, sequences), []),
           out=out)
for case, (V, s) in enumerate([(2, 1.5), (9, 3.0), (13, 1.25), (5, 0.0)]):
    c, u = g.normal(V) * np.float32(2), g.normal(V) * np.float32(3)

    def model(*args, **kwargs):
        return types.SimpleNamespace(logits=torch.tensor(u.astype(float))[None, None], get=lambda *a: None)
    processor = UnbatchedClassifierFreeGuidanceLogitsProcessor(s, model, use_cache=False)
    out = processor(torch.tensor([[0]]), torch.tensor(c.astype(float))[None])[0]
    g.save(f"guidance{case}", s=[s], c=c, u=u, out=out)
g.write()
