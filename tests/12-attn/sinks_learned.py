"""Golden values of @sinks_learned: the attention of transformers' gpt-oss, which appends the sink as one more score, and
its autograd, in float64, causal and within a window. Run by `make golden`; writes sinks_learned.txt."""
from types import SimpleNamespace

import torch
from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=42)

for B, H, Hkv, T, D, W in [(1, 1, 1, 1, 1, 1), (2, 4, 2, 5, 3, 5), (1, 3, 1, 7, 2, 3)]:
    inputs = dict(q=g.normal(B, H, T, D), k=g.normal(B, Hkv, T, D), v=g.normal(B, Hkv, T, D), sink=g.normal(H))
    dout = g.normal(B, H, T, D)
    q, k, v, sink = (torch.from_numpy(a).double().requires_grad_() for a in inputs.values())
    i, j = torch.arange(T)[:, None], torch.arange(T)[None]
    mask = torch.zeros(T, T, dtype=torch.float64).masked_fill((j > i) | (j <= i - W), float("-inf"))
    module = SimpleNamespace(sinks=sink, num_key_value_groups=H // Hkv, training=False)
    out = eager_attention_forward(module, q, k, v, mask, D**-0.5)[0].transpose(1, 2)
    out.backward(torch.from_numpy(dout).double())
    g.save(f"{B}x{H}x{Hkv}x{T}x{D}x{W}", **inputs, dout=dout, out=out, dq=q.grad, dk=k.grad, dv=v.grad, dsink=sink.grad)
g.write()
