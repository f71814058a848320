"""Golden values of @causal_lm: transformers' GPT2LMHeadModel in float64, and answers scored as lm-evaluation-harness
does it (its HFLM and the results of multiple_choice tasks), text by text. Writes causal_lm.txt."""
import sys

del sys.path[0]  # or `import safetensors` finds a script of this folder
import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=3)
V, T, L, H, C, F = 5, 4, 1, 2, 4, 6
config = GPT2Config(vocab_size=V, n_positions=T, n_embd=C, n_layer=L, n_head=H, n_inner=F, bos_token_id=0,
                    eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, attn_implementation="eager")
model = GPT2LMHeadModel(config).eval()
for p in model.parameters():
    p.data = torch.from_numpy(np.round(64 * g.normal(*p.shape)) / 64)
named = dict(model.named_parameters())
matrices = ["attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"]
vectors = ["ln_1.weight", "ln_1.bias", "attn.c_attn.bias", "attn.c_proj.bias", "ln_2.weight", "ln_2.bias",
           "mlp.c_fc.bias", "mlp.c_proj.bias"]
flat = [named["transformer.wte.weight"], named["transformer.wpe.weight"]]  # the order of llm_gpt2_bind
flat += [named[f"transformer.h.0.{m}"].T for m in matrices] + [named[f"transformer.h.0.{v}"] for v in vectors]
flat += [named["transformer.ln_f.weight"], named["transformer.ln_f.bias"]]
weights = torch.cat([p.detach().reshape(-1).clone() for p in flat])
model = model.double()


def log_softmax(ids):
    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([ids])).logits[0], -1).numpy()


rows = g.rng.integers(0, V, (3, T))
score = np.zeros((3, T))
for b in range(3):
    for t in range(1, T):  # a pass for each prefix
        score[b, t] = log_softmax(rows[b, :t].tolist())[-1, rows[b, t]]
g.save("text", weights=weights, ids=rows, score=score)

# short and long contexts, answers of 1 to 4 tokens; bytes are made up
sizes = [3, 4, 11, 9, 2]
for name, context in [("short", [2]), ("two", [4, 1]), ("long", [0, 3, 2, 1, 4, 2])]:
    total, per_token, per_byte, greedy = [], [], [], []
    answers = [[1], [2, 3], [4, 0, 1], [3, 3, 2, 2], []]
    for _ in range(2):  # the last is what greedy decoding writes
        answers[-1].append(int(log_softmax((context + answers[-1])[-T:])[-1].argmax()))
    for answer, size in zip(answers, sizes):
        given = (context + answer)[-(T + 1):][:-1]  # lm_eval.models.huggingface: _loglikelihood_tokens
        z = log_softmax(given)[-len(answer):]
        total.append(sum(z[t, v] for t, v in enumerate(answer)))
        per_token.append(total[-1] / len(answer))
        per_byte.append(total[-1] / size)
        greedy.append(int(np.array_equal(z.argmax(-1), answer)))
    g.save(name, context=context, answers=sum(answers, []), total=total, per_token=per_token, per_byte=per_byte, greedy=greedy,
           best=[int(np.argmax(x)) for x in (total, per_token, per_byte)])
g.save("answers", start=np.cumsum([0] + [len(a) for a in answers]), bytes=sizes)
g.write()
