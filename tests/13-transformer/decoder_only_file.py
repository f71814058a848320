"""Golden values of @decoder_only_file: tiny Llamas as the files of llama2.c, versions 0, 1 and 2, written here with struct,
and their logits from transformers' LlamaForCausalLM, whose queries and keys turn halves: their rows are put in that order.
Weights are bytes times 1/64 or 1/128, so that all versions hold the same. Writes decoder_only_file.txt and the corpus of
the fuzz target."""
import os
import struct
import sys

sys.path.pop(0)  # of this folder: its safetensors.py is not the library that transformers asks for

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=135)
V, T, L, H, K, C, F, GROUP = 5, 4, 2, 2, 1, 8, 4, 4
D = C // H


def matrix(rows, cols):
    """Bytes and the scales of their groups."""
    q = g.rng.integers(-40, 41, rows * cols)
    s = np.where(g.rng.random(rows * cols // GROUP) < 0.5, 1 / 64, 1 / 128)
    return q, s


def value(m, rows):
    return (m[0] * np.repeat(m[1], GROUP)).reshape(rows, -1)


def gains():
    return 1 + np.round(8 * g.normal(C)) / 32


layers = [dict(norm1=gains(), q=matrix(C, C), k=matrix(K * D, C), v=matrix(K * D, C), o=matrix(C, C), norm2=gains(),
               gate=matrix(F, C), down=matrix(C, F), up=matrix(F, C)) for _ in range(L)]
rows = dict(q=C, k=K * D, v=K * D, o=C, gate=F, down=C, up=F)
embed, head, norm = matrix(V, C), matrix(V, C), gains()
MATRICES = ["q", "k", "v", "o", "gate", "down", "up"]


def floats(a):
    return np.asarray(a, np.float32).tobytes()


def plain(m):
    return floats(value(m, 1))


def blocks(m):
    return m[0].astype(np.int8).tobytes() + floats(m[1])


def legacy(tied):
    out = struct.pack("<7i", C, F, L, H, K, V if tied else -V, T) + plain(embed)
    for k in ["norm1", "q", "k", "v", "o", "norm2", "gate", "down", "up"]:
        for l in layers:
            out += plain(l[k]) if k in rows else floats(l[k])
    out += floats(norm) + floats(np.full(T * D, 9.0))  # the tables of rotations: not to be read
    return out + (b"" if tied else plain(head))


def named(version, tied):
    out = b"24ka" + struct.pack("<i7iB", version, C, F, L, H, K, V, T, tied)
    out += struct.pack("<i", GROUP) if version == 2 else b""
    out += b"\0" * (256 - len(out))
    put = blocks if version == 2 else plain
    for k in ["norm1", "norm2"]:
        out += b"".join(floats(l[k]) for l in layers)
    out += floats(norm) + put(embed)
    for k in MATRICES:
        out += b"".join(put(l[k]) for l in layers)
    return out + (b"" if tied else put(head))


def halves(w, heads):
    return w.reshape(heads, D // 2, 2, C).transpose(0, 2, 1, 3).reshape(heads * D, C)


ids = np.array([[1, 4, 2, 0], [0, 3, 3, 1]])
g.save("in", ids=ids)
for tied in (True, False):
    m = LlamaForCausalLM(LlamaConfig(
        vocab_size=V, hidden_size=C, intermediate_size=F, num_hidden_layers=L, num_attention_heads=H,
        num_key_value_heads=K, max_position_embeddings=T, rms_norm_eps=1e-5, tie_word_embeddings=tied, bos_token_id=0,
        eos_token_id=0, attn_implementation="eager")).double().eval()
    put = lambda p, a: p.data.copy_(torch.from_numpy(a))
    put(m.model.embed_tokens.weight, value(embed, V))
    put(m.lm_head.weight, value(embed if tied else head, V))
    put(m.model.norm.weight, norm)
    for b, l in zip(m.model.layers, layers):
        a, f = b.self_attn, b.mlp
        put(a.q_proj.weight, halves(value(l["q"], C), H))
        put(a.k_proj.weight, halves(value(l["k"], K * D), K))
        for p, k in [(a.v_proj, "v"), (a.o_proj, "o"), (f.gate_proj, "gate"), (f.down_proj, "down"), (f.up_proj, "up")]:
            put(p.weight, value(l[k], rows[k]))
        put(b.input_layernorm.weight, l["norm1"])
        put(b.post_attention_layernorm.weight, l["norm2"])
    g.save("tied" if tied else "untied", logits=m(torch.from_numpy(ids)).logits)
files = {"v0_tied": legacy(True), "v0_untied": legacy(False), "v1_tied": named(1, True), "v2_untied": named(2, False)}
corpus = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fuzz", "corpus", "decoder_only_file")
os.makedirs(corpus, exist_ok=True)
for name, data in files.items():
    g.save(name, file=np.frombuffer(data, np.uint8))
    if name in ("v0_untied", "v2_untied"):
        open(os.path.join(corpus, name), "wb").write(data)
g.write()
