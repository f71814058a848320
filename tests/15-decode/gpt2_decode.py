"""Golden values of @gpt2_decode: greedy generation by transformers in float64. Writes gpt2_decode.txt."""
import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=15)
V, T, L, H, C, F = 7, 12, 2, 2, 6, 8
MATRICES = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
VECTORS = ["ln_1.weight", "ln_1.bias", "attn.c_attn.bias", "attn.c_proj.bias", "ln_2.weight", "ln_2.bias",
           "mlp.c_fc.bias", "mlp.c_proj.bias"]
config = GPT2Config(vocab_size=V, n_positions=T, n_embd=C, n_layer=L, n_head=H, n_inner=F, bos_token_id=None,
                    eos_token_id=None, attn_implementation="eager")
model = GPT2LMHeadModel(config).double().eval()
for p in model.parameters():
    p.data = torch.from_numpy(np.round(24 * g.normal(*p.shape)) / 64)

t = model.transformer
parts = [t.wte.weight, t.wpe.weight]
for h in t.h:  # the flat order of llm_gpt2_bind; Conv1D is [in, out]
    parts += [h.get_parameter(m + ".weight").T for m in MATRICES]
for h in t.h:
    parts += [h.get_parameter(v) for v in VECTORS]
parts += [t.ln_f.weight, t.ln_f.bias]

prompt = torch.from_numpy(g.rng.integers(0, V, (1, 3)))
with torch.no_grad():
    tokens = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=T - 3, do_sample=False,
                            pad_token_id=0)
    logits = model(tokens).logits
g.save("greedy", weights=torch.cat([p.reshape(-1) for p in parts]), tokens=tokens, logits=logits)

g.write()
