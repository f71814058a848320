"""Golden values of @bert and @mlm: transformers' BertModel and BertForMaskedLM in float64, tiny, with padding and two
types. Writes bert.txt and mlm.txt."""
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
