"""Golden values of @sliding_window: scaled_dot_product_attention and autograd in float64 under the mask functions of
transformers (Mistral's, and the bidirectional one of ModernBERT), and Gemma 2's soft cap written out. Run by `make
golden`; writes sliding_window.txt."""
import torch
from transformers import masking_utils

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=31)

for B, H, Hkv, T, D, W, both, cap in [(1, 1, 1, 1, 1, 1, 0, 0), (2, 4, 2, 7, 3, 3, 0, 0), (1, 2, 1, 9, 2, 4, 0, 0.75),
                                      (1, 2, 2, 6, 3, 3, 1, 0), (1, 2, 1, 5, 2, 9, 0, 0)]:
    inputs = dict(q=g.normal(B, H, T, D), k=g.normal(B, Hkv, T, D), v=g.normal(B, Hkv, T, D))
    dout = g.normal(B, H, T, D)
    q, k, v = (torch.from_numpy(a).double().requires_grad_() for a in inputs.values())
    if both:  # transformers counts the tokens to each side
        rule = masking_utils.sliding_window_bidirectional_mask_function(W - 1)
    else:
        rule = masking_utils.sliding_window_causal_mask_function(W)
    seen = torch.tensor([[bool(rule(torch.tensor(0), torch.tensor(0), torch.tensor(i), torch.tensor(j))) for j in range(T)] for i in range(T)])
    kk, vv = k.repeat_interleave(H // Hkv, 1), v.repeat_interleave(H // Hkv, 1)
    score = q @ kk.transpose(2, 3) / D**0.5
    if cap:
        score = cap * torch.tanh(score / cap)
        out = torch.softmax(score.masked_fill(~seen, float("-inf")), -1) @ vv
    else:
        out = torch.nn.functional.scaled_dot_product_attention(q, kk, vv, attn_mask=seen)
    out.backward(torch.from_numpy(dout).double())
    g.save(f"{B}x{H}x{Hkv}x{T}x{D}x{W}x{both}", **inputs, dout=dout, out=out, dq=q.grad, dk=k.grad, dv=v.grad,
           lse=score.masked_fill(~seen, float("-inf")).logsumexp(-1))
g.write()
