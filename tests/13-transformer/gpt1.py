"""Golden values of @gpt1: transformers' OpenAIGPTLMHeadModel in float64. Run by `make golden`; writes gpt1.txt."""
import sys

del sys.path[0]  # or `import safetensors` finds a script of this folder
import torch
from transformers import OpenAIGPTConfig, OpenAIGPTLMHeadModel

from golden import Golden  # tests/golden.py: writes named arrays as text
from tiny_gpt1 import flat, randomize  # tests/tiny_gpt1.py

g = Golden(__file__, seed=21)
V, T, C, B = 9, 5, 6, 3
model = OpenAIGPTLMHeadModel(OpenAIGPTConfig(vocab_size=V, n_positions=T, n_embd=C, n_layer=2, n_head=2,
                                             attn_implementation="eager")).eval()
randomize(g, model)
ids = torch.from_numpy(g.rng.integers(0, V, (B, T)))
labels = ids.clone()
labels[1, 2:4] = -100
h = model.transformer(ids).last_hidden_state
loss = model(ids, labels=labels).loss
(0.5 * loss).backward()
targets = torch.cat([labels[:, 1:], torch.full((B, 1), -100)], 1)
g.save("tiny", weights=flat(model, lambda p: p.detach()), ids=ids, targets=targets, h=h, loss=loss,
       grads=flat(model, lambda p: p.grad))
g.write()
