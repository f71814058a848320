"""Golden values of @alibi: the slopes and BLOOM's bias from transformers, and torch's scaled_dot_product_attention with
the distance matrix as attn_mask, in float64 with autograd for the slopes too. Run by `make golden`; writes alibi.txt."""
import torch
from transformers.models.bloom.modeling_bloom import build_alibi_tensor

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=24)

for H in (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 25, 33):
    g.save(f"slopes{H}", m=build_alibi_tensor(torch.ones(1, 2), H, torch.float64)[:, 0, 1])
real = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1], [1, 0, 1, 0]])
g.save("bloom", real=real, bias=build_alibi_tensor(real, 3, torch.float64))

for B, H, T, S, D in ((1, 1, 1, 1, 1), (2, 2, 4, 4, 3), (1, 2, 3, 5, 5), (1, 1, 5, 5, 9)):
    for causal in (0, 1):
        q, k, v, dout = g.normal(B, H, T, D), g.normal(B, H, S, D), g.normal(B, H, S, D), g.normal(B, H, T, D)
        m = abs(g.normal(H))
        leaf = [torch.from_numpy(a).double().requires_grad_() for a in (q, k, v, m)]
        i, j = torch.arange(S - T, S)[:, None], torch.arange(S)
        bias = -leaf[3][:, None, None] * (i - j).abs()
        if causal:
            bias = bias.masked_fill(j > i, float("-inf"))
        out = torch.nn.functional.scaled_dot_product_attention(*leaf[:3], attn_mask=bias[None])
        out.backward(torch.from_numpy(dout).double())
        lse = (leaf[0] @ leaf[1].transpose(-1, -2) / D**0.5 + bias).logsumexp(-1)
        names = dict(zip(("dq", "dk", "dv", "dm"), (a.grad for a in leaf)))
        g.save(f"{T}x{S}x{D}-{causal}", q=q, k=k, v=v, m=m, dout=dout, out=out, lse=lse, **names)
g.write()
