"""Golden values of @gpt3: transformers' GPTNeoForCausalLM in float64, which alternates full and local layers. It does
not divide scores by sqrt(D) and has no biases of queries, keys and values: its queries get that factor, ours biases 0.
Run by `make golden`; writes gpt3.txt."""
import sys

del sys.path[0]  # or `import safetensors` finds a script of this folder
import numpy as np
import torch
from transformers import GPTNeoConfig, GPTNeoForCausalLM

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=31)
V, T, C, H, L, B, W = 7, 6, 4, 2, 3, 2, 2
model = GPTNeoForCausalLM(GPTNeoConfig(
    vocab_size=V, max_position_embeddings=T, hidden_size=C, num_layers=L, num_heads=H, window_size=W,
    attention_types=[[["global", "local"], 1], [["global"], 1]], intermediate_size=4 * C, attn_implementation="eager",
    bos_token_id=0, eos_token_id=0)).eval().double()
for name, p in model.named_parameters():
    gain = 1.0 if ".ln_" in name and name.endswith("weight") else 0.0
    p.data = torch.from_numpy(gain + np.round(12 * g.normal(*p.shape)) / 32).double()


def flat(f):
    t, zero = model.transformer, torch.zeros(3 * C).double()
    matrices, vectors = [f(t.wte.weight), f(t.wpe.weight)], []
    for b in t.h:
        a = b.attn.attention
        factor = (C / H)**(0.5 if f is value else -0.5)  # q = q' / sqrt(D)
        matrices += [factor * f(a.q_proj.weight)] + [f(m.weight) for m in (a.k_proj, a.v_proj, a.out_proj, b.mlp.c_fc,
                                                                           b.mlp.c_proj)]
        vectors += [zero] + [f(p) for p in (a.out_proj.bias, b.ln_1.weight, b.ln_1.bias, b.mlp.c_fc.bias,
                                            b.mlp.c_proj.bias, b.ln_2.weight, b.ln_2.bias)]
    vectors += [f(t.ln_f.weight), f(t.ln_f.bias)]
    return torch.cat([x.reshape(-1) for x in matrices + vectors])


def value(p):
    return p.detach()


ids = torch.from_numpy(g.rng.integers(0, V, (B, T)))
h = model.transformer(ids).last_hidden_state
loss = model(ids, labels=ids).loss
loss.backward()
# gradients of the biases that GPT-Neo does not have are not compared: 0 in both
g.save("tiny", weights=flat(value), ids=ids, h=h, loss=loss, grads=flat(lambda p: p.grad))
g.write()
