"""Golden values of @gpt1_finetune: transformers' OpenAIGPTDoubleHeadsModel in float64, and its trunk under a linear
head. Run by `make golden`; writes gpt1_finetune.txt."""
import sys

del sys.path[0]  # or `import safetensors` finds a script of this folder
import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import OpenAIGPTConfig, OpenAIGPTDoubleHeadsModel

from golden import Golden  # tests/golden.py: writes named arrays as text
from tiny_gpt1 import flat, randomize  # tests/tiny_gpt1.py

g = Golden(__file__, seed=22)
V, T, C, E = 9, 6, 4, 2
EXTRACT = V - 1

for name, K, each in [("classify", 3, 1), ("similar", 2, 2), ("choose", 3, 3)]:
    config = OpenAIGPTConfig(vocab_size=V, n_positions=T, n_embd=C, n_layer=1, n_head=2, summary_first_dropout=0.0,
                             attn_implementation="eager")
    model = OpenAIGPTDoubleHeadsModel(config).eval()
    randomize(g, model)
    R = E * each
    at = g.rng.integers(2, T, R)
    rows = g.rng.integers(0, V - 1, (R, T))
    labels = rows.copy()
    for r in range(R):
        rows[r, at[r]:] = EXTRACT
        labels[r, :] = rows[r]
        labels[r, at[r] + 1:] = -100
    label = torch.from_numpy(g.rng.integers(0, K, E))
    ids, labels = torch.from_numpy(rows), torch.from_numpy(labels)
    if name == "choose":  # (examples, answers, places)
        head = model.multiple_choice_head.summary.weight
        model.multiple_choice_head.summary.bias.data.zero_()  # one for all answers: softmax does not see it
        out = model(ids.reshape(E, K, T), mc_token_ids=torch.from_numpy(at).reshape(E, K), mc_labels=label,
                    labels=labels.reshape(E, K, T))
        score, lm, task = out.mc_logits, out.loss, out.mc_loss
    else:
        head = torch.from_numpy(np.round(12 * g.normal(K, C)) / 32).double().requires_grad_()
        h = model.transformer(ids).last_hidden_state
        f = h[torch.arange(R), torch.from_numpy(at)].reshape(E, each, C).sum(1)
        score = f @ head.T
        task = cross_entropy(score, label)
        lm = cross_entropy(model.lm_head(h)[:, :-1].reshape(-1, V), labels[:, 1:].reshape(-1))
    (task + 0.5 * lm).backward()
    g.save(name, weights=flat(model, lambda p: p.detach(), [head]), rows=rows, at=at, label=label, score=score,
           task=task, lm=lm, grads=flat(model, lambda p: p.grad, [head]))
g.write()
