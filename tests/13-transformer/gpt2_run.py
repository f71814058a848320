"""Golden values of @gpt2_run: a PyTorch training in float64. The text has T + 1 tokens, so that every window is the whole
of it and no random number matters. Run by `make golden`; writes gpt2_run.txt."""
import sys

del sys.path[0]  # or `import safetensors` finds a script of this folder
import math

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=135)
V, T, L, H, C, F, B, STEPS, LR = 5, 4, 1, 2, 4, 6, 2, 40, 0.05
MATRICES = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
VECTORS = ["ln_1.weight", "ln_1.bias", "attn.c_attn.bias", "attn.c_proj.bias", "ln_2.weight", "ln_2.bias",
           "mlp.c_fc.bias", "mlp.c_proj.bias"]
model = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_positions=T, n_embd=C, n_layer=L, n_head=H, n_inner=F,
                                   bos_token_id=0, eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
                                   attn_implementation="eager")).double()
for p in model.parameters():
    p.data = torch.from_numpy(np.round(24 * g.normal(*p.shape)) / 64)
t = model.transformer
parts = [t.wte.weight, t.wpe.weight] + [t.h[0].get_parameter(m + ".weight").T for m in MATRICES]
parts += [t.h[0].get_parameter(v) for v in VECTORS] + [t.ln_f.weight, t.ln_f.bias]
text = g.rng.integers(0, V, T + 1)
g.save("in", weights=torch.cat([p.reshape(-1) for p in parts]), text=text)

ids = torch.from_numpy(np.stack([text[:-1]] * B))
targets = torch.from_numpy(np.stack([text[1:]] * B))
matrices = [p for p in model.parameters() if p.dim() == 2]
vectors = [p for p in model.parameters() if p.dim() == 1]
opt = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}], lr=LR,
                        betas=(0.9, 0.99), eps=1e-8)
losses, norms = [], []
for step in range(STEPS):
    warm = STEPS // 20
    lr = LR * (step + 1) / warm if step < warm else \
        0.1 * LR + 0.45 * LR * (1 + math.cos(math.pi * (step - warm) / (STEPS - warm)))
    for group in opt.param_groups:
        group["lr"] = lr
    opt.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(ids).logits.reshape(-1, V), targets.reshape(-1))
    loss.backward()
    norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
    opt.step()
    losses.append(loss.item())
g.save("run", losses=losses, norms=norms)

g.write()
