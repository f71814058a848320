"""Golden values of @gpt2: transformers' GPT2LMHeadModel in float64. Run by `make golden`; writes gpt2.txt."""
import sys

del sys.path[0]  # or `import safetensors` finds a script of this folder
import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=13)

# the flat order of llm_gpt2_bind; GPT-2's Conv1D stores its matrices [in, out]
V, T, L, H, C, F, B = 7, 5, 2, 2, 6, 8, 3
MATRICES = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
NAMES = ["transformer.wte.weight", "transformer.wpe.weight"]
NAMES += [f"transformer.h.{l}.{m}.weight" for l in range(L) for m in MATRICES]
for l in range(L):
    for m in ["ln_1.weight", "ln_1.bias", "attn.c_attn.bias", "attn.c_proj.bias", "ln_2.weight", "ln_2.bias",
              "mlp.c_fc.bias", "mlp.c_proj.bias"]:
        NAMES.append(f"transformer.h.{l}.{m}")
NAMES += ["transformer.ln_f.weight", "transformer.ln_f.bias"]


def flat(tensors):
    return torch.cat([(tensors[n].T if any(f"{m}.weight" in n for m in MATRICES) else tensors[n]).reshape(-1)
                      for n in NAMES])


config = GPT2Config(vocab_size=V, n_positions=T, n_embd=C, n_layer=L, n_head=H, n_inner=F,
                    bos_token_id=0, eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0,
                    attn_pdrop=0.0, attn_implementation="eager")
model = GPT2LMHeadModel(config).train()
for p in model.parameters():  # nothing 0 or 1, so that no term of a gradient hides
    p.data = torch.from_numpy(np.round(24 * g.normal(*p.shape)) / 64)
weights = flat(dict(model.named_parameters()))
model = model.double()

ids = g.rng.integers(0, V, (B, T))
labels = np.roll(ids, -1, axis=1)
labels[:, -1] = -100  # nothing follows the last token
labels[1, 2:4] = -100
logits = model(torch.from_numpy(ids)).logits
loss = torch.nn.functional.cross_entropy(logits.reshape(-1, V), torch.from_numpy(labels).reshape(-1))
loss.backward()
grads = flat({n: p.grad for n, p in model.named_parameters()})
g.save("tiny", weights=weights, ids=ids, targets=labels, logits=logits, loss=loss, grads=grads)

# five steps of AdamW, decay on matrices only, without clipping
decay = [p for p in model.parameters() if p.dim() == 2]
rest = [p for p in model.parameters() if p.dim() != 2]
optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=5e-2,
                              betas=(0.9, 0.95), eps=1e-8)
losses = []
for step in range(5):
    optimizer.zero_grad()
    logits = model(torch.from_numpy(ids)).logits
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, V), torch.from_numpy(labels).reshape(-1))
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
g.save("steps", losses=losses)

g.write()
