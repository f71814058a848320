"""Golden values of @sampling_text: transformers' own list of processors (generate's _get_logits_processor), and the rules of
llama.cpp and vLLM written here, in their orders. Run by `make golden`."""
import types
from collections import Counter

import numpy as np
import torch
from transformers import GenerationConfig, GenerationMixin

from golden import Golden

g = Golden(__file__, seed=50)
V, STOP = 30, [3, 7]
BIAS = {5: 1.5, 11: -2.0, 0: -100.0}


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def transformers(z, text, prompt, c):
    gc = GenerationConfig(do_sample=True, repetition_penalty=c["repetition"], no_repeat_ngram_size=c["ngram"],
                          temperature=c["temperature"], top_k=c["top_k"], top_p=c["top_p"], min_p=c["min_p"] or None,
                          min_new_tokens=c["min_new"], sequence_bias=[[[v], b] for v, b in BIAS.items()])
    gc._eos_token_tensor = torch.tensor(STOP)
    kinds = type("T", (GenerationMixin,), dict(config=types.SimpleNamespace(is_encoder_decoder=False)))
    processors = kinds._get_logits_processor(kinds.__new__(kinds), gc, input_ids_seq_length=prompt, device="cpu", model_kwargs={})
    # float32 inside min_new_tokens' and the filters' masks is fine; the values stay double
    return torch.softmax(processors(torch.tensor(text)[None], torch.tensor(z)[None].double())[0], 0).numpy()


def start(z, text, prompt, c):
    z = z.astype(float)
    for v, b in BIAS.items():
        z[v] += b
    if len(text) < prompt + c["min_new"]:
        z[STOP] = -np.inf
    return z


def keep(z, kept):
    z[[i for i in range(len(z)) if i not in set(kept)]] = -np.inf


def nucleus(z, mass):
    p, total, kept = softmax(z), 0.0, []
    for i in np.argsort(-z):
        kept.append(i)
        total += p[i]
        if total >= mass:
            break
    keep(z, kept)


def min_p(z, share):
    p = softmax(z)
    keep(z, np.flatnonzero(p >= share * p.max()))


def llama(z, text, prompt, c):
    z = start(z, text, prompt, c)
    for v, n in Counter(text[-c["last_n"]:]).items():
        z[v] = z[v] * c["repetition"] if z[v] <= 0 else z[v] / c["repetition"]
        z[v] -= n * c["frequency"] + c["presence"]
    T, cost = len(text), {}
    for j in range(1, T):
        n = max(L for L in range(j + 1) if text[j - L:j] == text[T - L:])
        if n >= 2:
            cost[text[j]] = max(cost.get(text[j], 0), n - 2)
    for v, n in cost.items():
        z[v] -= c["dry"] * 1.75 ** n
    keep(z, np.argsort(-z)[:c["top_k"]])
    nucleus(z, c["top_p"])
    if c["min_p"]:
        min_p(z, c["min_p"])
    return softmax(z / c["temperature"])


def vllm(z, text, prompt, c):
    z = start(z, text, prompt, c)
    for v in set(text):
        z[v] = z[v] / c["repetition"] if z[v] > 0 else z[v] * c["repetition"]
    for v, n in Counter(text[prompt:]).items():
        z[v] -= n * c["frequency"] + c["presence"]
    z /= c["temperature"]
    if c["min_p"]:
        min_p(z, c["min_p"])
    keep(z, np.argsort(-z)[:c["top_k"]])
    nucleus(z, c["top_p"])
    return softmax(z)


SETTINGS = [dict(repetition=1.25, frequency=0.25, presence=0.5, ngram=2, last_n=6, dry=0.8, min_new=0, temperature=1.5, top_k=20,
                 top_p=0.9, min_p=0.05),
            dict(repetition=1.125, frequency=-0.5, presence=0.0, ngram=3, last_n=64, dry=0.5, min_new=40, temperature=0.75,
                 top_k=12, top_p=0.95, min_p=0.0)]
for row in range(6):
    T, prompt = int(g.rng.integers(4, 30)), 3
    text = g.rng.integers(0, 6 if row % 2 else V, T).tolist()
    z = 3 * g.normal(V)
    g.save(f"{row}", text=text, z=z)
    for i, c in enumerate(SETTINGS):
        g.save(f"{row}/{i}", transformers=transformers(z, text, prompt, c), llama=llama(z, text, prompt, c),
               api=vllm(z, text, prompt, c))
g.write()
