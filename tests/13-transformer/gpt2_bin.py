"""Golden values of @gpt2_bin: a tiny GPT2LMHeadModel as the files of llm.c, versions 1, 3 and 5, written here with struct, and
its logits from transformers; one batch with its logits, loss and gradients as llm.c keeps them. The weights are multiples
of 1/64, so that bfloat16 holds them exactly. Writes gpt2_bin.txt, gpt2_state.txt and the corpora of the fuzz targets."""
import os
import struct
import sys

sys.path.pop(0)  # of this folder: its safetensors.py is not the library that transformers asks for

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=134)
V, T, L, H, C, PADDED = 5, 3, 2, 2, 4, 8
m = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_positions=T, n_embd=C, n_layer=L, n_head=H, bos_token_id=0, eos_token_id=0,
                               attn_implementation="eager")).double().eval()
for p in m.parameters():
    p.data = torch.from_numpy(np.round(16 * g.normal(*p.shape)) / 64).double()
t = m.transformer


def groups(padded, of=lambda p: p.detach().numpy(), unused=9.0):
    wte = np.full((padded, C), unused)  # rows that no token uses
    wte[:V] = of(t.wte.weight)
    yield wte
    yield of(t.wpe.weight)
    for f in [lambda b: of(b.ln_1.weight), lambda b: of(b.ln_1.bias), lambda b: of(b.attn.c_attn.weight).T,
              lambda b: of(b.attn.c_attn.bias), lambda b: of(b.attn.c_proj.weight).T, lambda b: of(b.attn.c_proj.bias),
              lambda b: of(b.ln_2.weight), lambda b: of(b.ln_2.bias), lambda b: of(b.mlp.c_fc.weight).T,
              lambda b: of(b.mlp.c_fc.bias), lambda b: of(b.mlp.c_proj.weight).T, lambda b: of(b.mlp.c_proj.bias)]:
        for b in t.h:
            yield f(b)
    yield of(t.ln_f.weight)
    yield of(t.ln_f.bias)


def file(version):
    padded = V if version == 1 else PADDED
    head = [20240326, version, T, V, L, H, C] + ([] if version == 1 else [padded])
    out = struct.pack("<256i", *head, *[0] * (256 - len(head)))
    for a in groups(padded):
        for x in a.ravel():
            bits = struct.pack("<f", x)
            out += bits[2:] if version == 5 else bits
    return out


def corpus(target, name, data):
    folder = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fuzz", "corpus", target)
    os.makedirs(folder, exist_ok=True)
    open(os.path.join(folder, name), "wb").write(data)


for version in (1, 3, 5):
    data = file(version)
    g.save("v%d" % version, file=np.frombuffer(data, np.uint8))
    if version == 5:
        corpus("gpt2_bin", "bfloat16", data)
ids = np.array([[1, 4, 2], [0, 3, 3]])
g.save("out", ids=ids, logits=m(torch.from_numpy(ids)).logits)
g.write()

g = Golden(os.path.join(os.path.dirname(__file__), "gpt2_state.py"), seed=0)
ids, targets = np.array([[1, 4, 2], [0, 3, 3]]), np.array([[4, 2, 0], [3, 3, 1]])
logits = m(torch.from_numpy(ids)).logits
loss = torch.nn.functional.cross_entropy(logits.reshape(-1, V), torch.from_numpy(targets).reshape(-1))
loss.backward()
g.save("model", file=np.frombuffer(file(3), np.uint8))
for version, padded in [(1, V), (2, PADDED)]:
    data = struct.pack("<256i", 20240327, version, 2, T, *[0] * 252)
    data += np.concatenate([ids.ravel(), targets.ravel()]).astype("<i4").tobytes()
    data += np.concatenate([logits.detach().numpy().ravel(), [loss.item()]]).astype("<f4").tobytes()
    data += np.concatenate([a.ravel() for a in groups(padded, lambda p: p.grad.numpy(), 0.0)]).astype("<f4").tobytes()
    if version == 2:
        g.save("v2", file=np.frombuffer(data, np.uint8))
    g.save("v%d" % version, size=len(data))
# a smaller one, all 0: V = 2, one place, one layer of width 2, 84 weights, one row of no token
corpus("gpt2_state", "one", struct.pack("<258i", 20240327, 2, 1, 1, *[0] * 252, 0, 1) + bytes(4 * (2 + 1 + 84 + 2)))
g.write()
