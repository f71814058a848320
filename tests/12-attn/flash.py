"""Golden values of @flash: PyTorch's scaled_dot_product_attention and autograd in float64, causal or not, grouped, with
hidden keys. Run by `make golden`; writes flash.txt."""
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=17)

for B, H, Hkv, T, S, D, causal, padding in [(1, 1, 1, 1, 1, 1, 1, 0), (2, 2, 1, 5, 5, 3, 1, 0), (2, 2, 2, 3, 7, 2, 1, 1),
                                            (1, 4, 2, 6, 4, 3, 0, 1)]:
    q, dout = g.normal(B, H, T, D), g.normal(B, H, T, D)
    k, v = g.normal(B, Hkv, S, D), g.normal(B, Hkv, S, D)
    hidden = g.coin((B, S), 0.4 * padding)
    hidden[:, 0] = 0  # torch gives NaN where nothing is seen
    qd, kd, vd = (torch.from_numpy(a).double().requires_grad_() for a in (q, k, v))
    seen = torch.ones(T, S).tril(S - T).bool() if causal else torch.ones(T, S).bool()
    seen = seen & ~torch.from_numpy(hidden).bool()[:, None, None]
    out = torch.nn.functional.scaled_dot_product_attention(qd, kd, vd, attn_mask=seen, enable_gqa=True)
    out.backward(torch.from_numpy(dout).double())
    score = qd @ kd.repeat_interleave(H // Hkv, 1).transpose(2, 3) / D**0.5
    lse = score.masked_fill(~seen, float("-inf")).logsumexp(-1)
    g.save(f"{B}x{H}x{Hkv}x{T}x{S}x{D}", q=q, k=k, v=v, dout=dout, hidden=hidden, out=out, lse=lse, dq=qd.grad, dk=kd.grad,
           dv=vd.grad)
g.write()
