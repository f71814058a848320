"""Golden values of @sampling: the final distributions of transformers' warpers in transformers' order, and of the same
rules written with NumPy in llama.cpp's order (top-n-sigma, top-k, typical, top-p, min-p, temperature)."""
import numpy as np
import torch
from transformers import (EpsilonLogitsWarper, EtaLogitsWarper, LogitsProcessorList, MinPLogitsWarper,
                          TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper, TypicalLogitsWarper)

from golden import Golden

g = Golden(__file__, seed=19)
SETTINGS = [dict(temperature=0.7, top_k=20, top_p=0.9), dict(temperature=1.5, top_p=0.8, min_p=0.05),
            dict(temperature=1.3, top_k=8, typical=0.7, epsilon=1e-2, eta=2e-2)]
LLAMA = [dict(temperature=0.7, top_k=20, top_p=0.9), dict(temperature=1.5, top_p=0.8, min_p=0.05),
         dict(temperature=1.3, top_k=12, typical=0.7, top_n_sigma=1.5)]


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def llama(z, c):
    z = z.astype(np.float64).copy()

    def only(kept):
        z[[i for i in range(len(z)) if i not in set(kept)]] = -np.inf

    def nucleus(order, mass):
        p, total, kept = softmax(z), 0.0, []
        for i in order:
            kept.append(i)
            total += p[i]
            if total >= mass:
                break
        return kept
    if "top_n_sigma" in c:
        only(np.flatnonzero(z >= z.max() - c["top_n_sigma"] * z.std()))
    if "top_k" in c:
        only(np.argsort(-z)[:c["top_k"]])
    if "typical" in c:
        p = softmax(z)
        with np.errstate(divide="ignore", invalid="ignore"):
            h = -np.nansum(p * np.log(p))
            only(nucleus(np.argsort(np.abs(-np.log(p) - h)), c["typical"]))
    if "top_p" in c:
        only(nucleus(np.argsort(-z), c["top_p"]))
    if "min_p" in c:
        p = softmax(z)
        only(np.flatnonzero(p >= c["min_p"] * p.max()))
    return softmax(z / c["temperature"])


for row in range(4):
    z = g.normal(40) * np.float32(2)
    g.save(f"{row}", z=z)
    for i, c in enumerate(SETTINGS):
        w = LogitsProcessorList([TemperatureLogitsWarper(c["temperature"])])
        for key, cls in (("top_k", TopKLogitsWarper), ("top_p", TopPLogitsWarper), ("min_p", MinPLogitsWarper),
                         ("typical", TypicalLogitsWarper), ("epsilon", EpsilonLogitsWarper), ("eta", EtaLogitsWarper)):
            if key in c:
                w.append(cls(c[key]))
        g.save(f"{row}/{i}", transformers=torch.softmax(w(None, torch.from_numpy(z)[None].double())[0], 0),
               llama=llama(z, LLAMA[i]))
g.write()
