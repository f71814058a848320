"""Golden values of @attn_projection: transpose, reshape and linear of PyTorch with autograd, einsum for single heads, in
float64. Run by `make golden`; writes attn_projection.txt."""
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=42)
for B, T, H, D, C in [(1, 1, 1, 1, 1), (2, 3, 2, 4, 5), (1, 17, 3, 2, 4)]:
    arrays = dict(o=g.normal(B, H, T, D), w=g.normal(C, H * D), b=g.normal(C), dy=g.normal(B, T, C))
    o, w, b, dy = (torch.from_numpy(a).double().requires_grad_() for a in arrays.values())
    merged = o.transpose(1, 2).reshape(B, T, H * D)
    y = torch.nn.functional.linear(merged, w, b)
    heads = torch.einsum("bhtd,chd->hbtc", o, w.view(C, H, D))
    y.backward(dy.detach())
    g.save(f"{B}x{T}x{H}x{D}", **arrays, merged=merged, y=y, heads=heads, do=o.grad, dw=w.grad, db=b.grad)
g.write()
