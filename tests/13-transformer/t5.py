"""Golden values of @t5 and @t5_stack: transformers' T5ForConditionalGeneration in float64, version 1.0 and 1.1, tiny,
with padding on both sides, and its two stacks alone. Writes t5.txt and t5_stack.txt."""
import os
import sys

sys.path.pop(0)  # of this folder: its safetensors.py is not the library that transformers asks for

import numpy as np
import torch
from transformers import T5Config, T5ForConditionalGeneration

from golden import Golden  # tests/golden.py: writes named arrays as text
from layout import randomize, weights_and_grads

g = Golden(__file__, seed=1308)
B, S, T, V = 2, 6, 3, 7
source = np.array([[2, 5, 3, 4, 6, 2], [4, 2, 0, 0, 0, 0]])
target = np.array([[3, 2, 4], [5, 2, 0]])
g.save("in", source=source, target=target)


def attention(l, a):
    return [a.q.weight, a.k.weight, a.v.weight, a.o.weight], [l.layer_norm.weight]


def stack(s):
    parts = []
    for b in s.block:
        parts.append(attention(b.layer[0], b.layer[0].SelfAttention))
        if s.is_decoder:
            parts.append(attention(b.layer[1], b.layer[1].EncDecAttention))
        m = b.layer[-1].DenseReluDense
        parts.append(([m.wi_0.weight, m.wi_1.weight, m.wo.weight] if hasattr(m, "wi_0") else [m.wi.weight, m.wo.weight],
                      [b.layer[-1].layer_norm.weight]))
    distances = s.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    return parts + [([distances], [s.final_layer_norm.weight])]


alone = Golden(os.path.join(os.path.dirname(__file__), "t5_stack.py"), seed=1309)
for name, gated in [("v10", False), ("v11", True)]:
    m = T5ForConditionalGeneration(T5Config(
        vocab_size=V, d_model=4, d_kv=3, d_ff=5, num_layers=2, num_decoder_layers=1, num_heads=2,
        relative_attention_num_buckets=8, relative_attention_max_distance=5, dropout_rate=0.0, decoder_start_token_id=0,
        feed_forward_proj="gated-gelu" if gated else "relu", tie_word_embeddings=not gated,
        attn_implementation="eager"))
    if gated:  # this release of transformers ties T5's head whatever it is told; the files of v1.1 have one of their own
        m.lm_head.weight = torch.nn.Parameter(m.lm_head.weight.detach().clone())
    randomize(g, m)
    s, t = torch.from_numpy(source), torch.from_numpy(target)
    out = m(input_ids=s, attention_mask=(s != 0).long(), labels=torch.where(t == 0, -100, t))
    out.loss.backward()
    tables = [m.shared.weight] + ([m.lm_head.weight] if gated else [])
    g.save(name, logits=out.logits, loss=out.loss,
           **weights_and_grads([(tables, [])] + stack(m.encoder) + stack(m.decoder)))
    x, mem, dy = (alone.normal(B, n, 4) for n in (T, S, T))
    tx, tm = (torch.from_numpy(a).double().requires_grad_() for a in (x, mem))
    m.zero_grad()
    if gated:
        y = m.decoder(inputs_embeds=tx, encoder_hidden_states=tm, encoder_attention_mask=(s != 0).long(),
                      use_cache=False).last_hidden_state
    else:
        y = m.encoder(inputs_embeds=tx, attention_mask=(t != 0).long()).last_hidden_state
    y.backward(torch.from_numpy(dy).double())
    more = dict(mem=mem, dmem=tm.grad) if gated else {}
    alone.save("decoder" if gated else "encoder", x=x, dy=dy, y=y, dx=tx.grad, **more,
               **weights_and_grads(stack(m.decoder if gated else m.encoder)))
g.write()
alone.write()
