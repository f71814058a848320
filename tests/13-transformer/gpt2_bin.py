"""Golden values of @gpt2_bin: a tiny GPT2LMHeadModel as the files of llm.c, versions 1, 3 and 5, written here with struct, and
its logits from transformers. The weights are multiples of 1/64, so that bfloat16 holds them exactly. Writes gpt2_bin.txt
and the corpus of the fuzz target."""
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


def groups(padded):
    wte = np.full((padded, C), 9.0)  # rows that no token uses
    wte[:V] = t.wte.weight.detach().numpy()
    yield wte
    yield t.wpe.weight
    for f in [lambda b: b.ln_1.weight, lambda b: b.ln_1.bias, lambda b: b.attn.c_attn.weight.T, lambda b: b.attn.c_attn.bias,
              lambda b: b.attn.c_proj.weight.T, lambda b: b.attn.c_proj.bias, lambda b: b.ln_2.weight,
              lambda b: b.ln_2.bias, lambda b: b.mlp.c_fc.weight.T, lambda b: b.mlp.c_fc.bias,
              lambda b: b.mlp.c_proj.weight.T, lambda b: b.mlp.c_proj.bias]:
        for b in t.h:
            yield f(b)
    yield t.ln_f.weight
    yield t.ln_f.bias


def file(version):
    padded = V if version == 1 else PADDED
    head = [20240326, version, T, V, L, H, C] + ([] if version == 1 else [padded])
    out = struct.pack("<256i", *head, *[0] * (256 - len(head)))
    for a in groups(padded):
        for x in np.asarray(a.detach() if hasattr(a, "detach") else a).ravel():
            bits = struct.pack("<f", x)
            out += bits[2:] if version == 5 else bits
    return out


corpus = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fuzz", "corpus", "gpt2_bin")
os.makedirs(corpus, exist_ok=True)
for version in (1, 3, 5):
    data = file(version)
    g.save("v%d" % version, file=np.frombuffer(data, np.uint8))
    if version == 5:
        open(os.path.join(corpus, "bfloat16"), "wb").write(data)
ids = np.array([[1, 4, 2], [0, 3, 3]])
g.save("out", ids=ids, logits=m(torch.from_numpy(ids)).logits)
g.write()
