"""Golden values of @gqa: PyTorch's scaled_dot_product_attention with enable_gqa and autograd in float64, causal with the
diagonal in the lower right corner, and without a mask. Run by `make golden`; writes gqa.txt."""
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=16)

for B, H, Hkv, T, S, D, causal in [(1, 1, 1, 1, 1, 1, 1), (2, 4, 2, 3, 3, 2, 1), (1, 6, 2, 3, 5, 3, 1), (2, 3, 1, 4, 2, 3, 0)]:
    q, dout = g.normal(B, H, T, D), g.normal(B, H, T, D)
    k, v = g.normal(B, Hkv, S, D), g.normal(B, Hkv, S, D)
    qd, kd, vd = (torch.from_numpy(a).double().requires_grad_() for a in (q, k, v))
    seen = torch.ones(T, S).tril(S - T).bool() if causal else None
    out = torch.nn.functional.scaled_dot_product_attention(qd, kd, vd, attn_mask=seen, enable_gqa=True)
    out.backward(torch.from_numpy(dout).double())
    score = qd @ kd.repeat_interleave(H // Hkv, 1).transpose(2, 3) / D**0.5
    if causal:
        score = score.masked_fill(~seen, float("-inf"))
    g.save(f"{B}x{H}x{Hkv}x{T}x{S}x{D}", q=q, k=k, v=v, dout=dout, out=out, lse=score.logsumexp(-1), dq=qd.grad,
           dk=kd.grad, dv=vd.grad)
g.write()
