"""Golden values of @causal_lm_gpt2: transformers' GPT2LMHeadModel in float64, trained with clipping, and the gradient of
each place's loss in the vectors that enter the first block. Writes causal_lm_gpt2.txt."""
import sys

del sys.path[0]  # or `import safetensors` finds a script of this folder
import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=29)
V, T, L, H, C, F, B = 5, 6, 2, 2, 4, 6, 3
config = GPT2Config(vocab_size=V, n_positions=T, n_embd=C, n_layer=L, n_head=H, n_inner=F, bos_token_id=0,
                    eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, attn_implementation="eager")
model = GPT2LMHeadModel(config).train()
for p in model.parameters():
    p.data = torch.from_numpy(np.round(64 * g.normal(*p.shape)) / 64)
named = dict(model.named_parameters())
M = ["attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"]
S = ["ln_1.weight", "ln_1.bias", "attn.c_attn.bias", "attn.c_proj.bias", "ln_2.weight", "ln_2.bias", "mlp.c_fc.bias",
     "mlp.c_proj.bias"]
NAMES = ["transformer.wte.weight", "transformer.wpe.weight"]  # the order of llm_gpt2_bind
NAMES += [f"transformer.h.{l}.{name}" for part in (M, S) for l in range(L) for name in part]
NAMES += ["transformer.ln_f.weight", "transformer.ln_f.bias"]


def flat():  # Conv1D stores its matrices [in, out]
    turned = [named[n].T if n.endswith(tuple(M)) else named[n] for n in NAMES]
    return torch.cat([p.detach().reshape(-1).clone() for p in turned])


weights = flat()
model = model.double()
named = dict(model.named_parameters())
ids = g.rng.integers(0, V, (B, T))
mask = g.coin((B, T), 0.7)
g.save("in", weights=weights, ids=ids, mask=mask)


def nll(z, target):
    return torch.nn.functional.cross_entropy(z.reshape(-1, V), torch.as_tensor(target).reshape(-1))


# how much place j matters to the loss of place t, whose target is the token in the next column, the last one's the first
row = torch.from_numpy(ids[:1])
target = np.roll(ids[0], -1)
reach = np.zeros((T, T))
for t in range(T):
    x = model.transformer.wte(row).detach().requires_grad_(True)
    only = np.full(T, -100)
    only[t] = target[t]
    nll(model(inputs_embeds=x).logits, only).backward()
    reach[t] = x.grad[0].norm(dim=-1).numpy()
model.zero_grad()
g.save("reach", target=target, reach=reach)

decay = [p for p in model.parameters() if p.dim() == 2]
rest = [p for p in model.parameters() if p.dim() != 2]
start = {n: p.detach().clone() for n, p in named.items()}
for name, counted in [("all", np.ones((B, T), int)), ("mask", mask)]:
    for n, p in named.items():
        p.data = start[n].clone()
    labels = np.full((B, T), -100)
    labels[:, :-1] = np.where(counted[:, 1:] > 0, ids[:, 1:], -100)
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}],
                                  lr=2e-2, betas=(0.9, 0.95), eps=1e-8)
    losses = []
    for step in range(4):
        optimizer.zero_grad()
        loss = nll(model(torch.from_numpy(ids)).logits, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # the first two are longer, the others not
        optimizer.step()
        losses.append(loss.item())
    g.save(name, losses=losses)
    if name == "mask":
        g.save(name, weights=flat())
g.write()
