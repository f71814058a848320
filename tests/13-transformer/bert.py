"""Golden values of @bert and @mlm: transformers' BertModel and BertForMaskedLM in float64, tiny, with padding and two
types. What @mlm_score and @mask_predict do with the latter, in NumPy on its logits. Writes bert.txt, mlm.txt,
mlm_score.txt and mask_predict.txt."""
import os
import sys

sys.path.pop(0)  # of this folder: its safetensors.py is not the library that transformers asks for

import numpy as np
import torch
from transformers import BertConfig, BertForMaskedLM, BertModel

from golden import Golden  # tests/golden.py: writes named arrays as text
from layout import flat, linears, norm, randomize

V, P, C, H, F, L, B, T = 9, 6, 4, 2, 5, 2, 2, 5
ids = np.array([[1, 5, 7, 2, 8], [1, 3, 2, 0, 0]])
types = np.array([[0, 0, 0, 1, 1], [0, 1, 1, 0, 0]])
hidden = np.array([[0, 0, 0, 0, 0], [0, 0, 0, 1, 1]])


def config():
    return BertConfig(vocab_size=V, hidden_size=C, num_hidden_layers=L, num_attention_heads=H, intermediate_size=F,
                      hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, max_position_embeddings=P,
                      pad_token_id=None, attn_implementation="eager")


def layers(bert):
    parts = []
    for l in bert.encoder.layer:
        a = l.attention
        parts += [linears(a.self.query, a.self.key, a.self.value, a.output.dense), norm(a.output.LayerNorm),
                  linears(l.intermediate.dense, l.output.dense), norm(l.output.LayerNorm)]
    return parts


def embeddings(e):
    return ([e.word_embeddings.weight, e.position_embeddings.weight, e.token_type_embeddings.weight],
            norm(e.LayerNorm)[1])


def both(parts):
    return dict(weights=flat(parts, lambda p: p.detach()),
                grads=flat(parts, lambda p: torch.zeros_like(p) if p.grad is None else p.grad))


inputs = dict(input_ids=torch.from_numpy(ids), token_type_ids=torch.from_numpy(types),
              attention_mask=torch.from_numpy(1 - hidden))

g = Golden(__file__, seed=1305)
m = randomize(g, BertModel(config()))
dh, dp = g.normal(B, T, C), g.normal(B, C)
out = m(**inputs)
(out.last_hidden_state * torch.from_numpy(dh)).sum().backward(retain_graph=True)
(out.pooler_output * torch.from_numpy(dp)).sum().backward()
g.save("in", ids=ids, types=types, hidden=hidden, dh=dh, dp=dp)
g.save("bert", h=out.last_hidden_state, pooled=out.pooler_output,
       **both([embeddings(m.embeddings)] + layers(m) + [linears(m.pooler.dense)]))
g.write()

g = Golden(os.path.join(os.path.dirname(__file__), "mlm.py"), seed=1306)
m = randomize(g, BertForMaskedLM(config()))
labels = np.array([[-100, 5, -100, 2, 8], [-100, -100, 4, -100, -100]])
out = m(**inputs, labels=torch.from_numpy(labels))
out.loss.backward()
head = m.cls.predictions
t = head.transform
parts = [embeddings(m.bert.embeddings)] + layers(m.bert) + [linears(t.dense), norm(t.LayerNorm), ([], [head.bias])]
g.save("in", ids=ids, types=types, hidden=hidden, labels=labels)
g.save("mlm", logits=out.logits[torch.from_numpy(labels) >= 0], loss=out.loss, **both(parts))
g.write()

m = randomize(Golden(__file__, seed=26), m, 1.0)  # which says another thing in the second round than in the first
weights = both(parts)["weights"]
MASK, FIRST = 4, 3


def log_softmax(rows, kinds, pad=None):  # of all places
    rows, kinds = torch.tensor(np.array(rows)), torch.tensor(np.array(kinds))
    with torch.no_grad():
        out = m(input_ids=rows, token_type_ids=kinds, attention_mask=None if pad is None else torch.tensor(1 - pad))
    return torch.log_softmax(out.logits, -1).numpy()


g = Golden(os.path.join(os.path.dirname(__file__), "mlm_score.py"), seed=1306)
text, kinds, special = np.array([1, 5, 7, 3, 8, 2]), np.array([0, 0, 0, 1, 1, 1]), np.array([1, 0, 0, 0, 0, 1])
word = np.array([0, 1, 1, 1, 2, 2])  # the last is special, and no piece of the one before it


def score(pieces):
    logp = np.zeros(6)
    for t in np.flatnonzero(1 - special):
        row = text.copy()
        row[[i for i in range(6) if i == t or (pieces and i > t and word[i] == word[t] and not special[i])]] = MASK
        logp[t] = log_softmax([row], [kinds])[0, t, text[t]]
    return logp


g.save("in", ids=text, types=kinds, special=special, word=word)
g.save("score", weights=weights, tokens=score(False), pieces=score(True))
g.write()

g = Golden(os.path.join(os.path.dirname(__file__), "mask_predict.py"), seed=1306)
text = np.array([[1, 5, 0, 0, 0, 2], [0, 0, 0, 2, 0, 0]])
kinds = np.array([[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1]])
opened = np.array([[0, 0, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]])
pad = np.array([[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1]])
g.save("in", ids=text, types=kinds, open=opened, hidden=pad)
g.save("predict", weights=weights)
for rounds in range(1, 6):
    y, sure = text.copy(), np.where(opened, -1.0, 2.0)
    for r in range(rounds):
        covered = np.zeros_like(opened, dtype=bool)
        for b in range(2):
            covered[b, np.argsort(sure[b], kind="stable")[:int(opened[b].sum() * (1 - r / rounds) + 1e-9)]] = True
        y[covered] = MASK
        p = np.exp(log_softmax(y, kinds, pad))
        y = np.where(covered, FIRST + p[:, :, FIRST:-1].argmax(-1), y)
        sure = np.where(covered, p[:, :, FIRST:-1].max(-1), sure)
    mean = [np.log(sure[b][opened[b] == 1]).mean() for b in range(2)]
    g.save(f"rounds{rounds}", ids=y, sure=np.where(opened, sure, 1.0), score=mean)
g.write()
