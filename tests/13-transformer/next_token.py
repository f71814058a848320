"""Golden values of @next_token: transformers' causal loss with labels in float64. Writes next_token.txt."""
import sys

del sys.path[0]  # or `import safetensors` finds a script of this folder
import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=138)
V, T, B = 5, 6, 3
model = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_positions=T, n_embd=4, n_layer=1, n_head=1, bos_token_id=0,
                                   eos_token_id=0)).double()
ids = g.rng.integers(0, V, (B, T))
mask = g.rng.random((B, T)) < 0.7
labels = np.where(mask, ids, -100)
z0 = np.round(16 * g.normal(B, T, V)) / 16
z = torch.from_numpy(z0).double().requires_grad_()
loss = model.loss_function(z, torch.from_numpy(labels), vocab_size=V)
loss.backward()
g.save("loss", logits=z0, ids=ids, mask=mask, loss=loss, dlogits=z.grad)

g.write()
