"""Golden values of @self_attn: four torch linears around scaled_dot_product_attention, autograd, and torch.func.jvp, in
float64. Run by `make golden`; writes self_attn.txt."""
import torch
import torch.nn.functional as F

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=38)
for B, T, C in [(1, 1, 1), (2, 3, 8), (1, 17, 4), (1, 2, 5)]:
    arrays = dict(x=g.normal(B, T, C), w=g.normal(4, C, C) / C**0.5, dy=g.normal(B, T, C), xdot=g.normal(B, T, C))
    arrays = {k: v.astype("float32") for k, v in arrays.items()}
    x, w, dy, xdot = (torch.from_numpy(a).double().requires_grad_() for a in arrays.values())

    def layer(x):
        q, k, v = (F.linear(x, w[i])[:, None] for i in range(3))
        return F.linear(F.scaled_dot_product_attention(q, k, v)[:, 0], w[3])

    y = layer(x)
    dx, dw = torch.autograd.grad(y, (x, w), dy)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        ydot = torch.func.jvp(layer, (x.detach(),), (xdot.detach(),))[1]
    g.save(f"{B}x{T}x{C}", **arrays, y=y, dx=dx, dw=dw, ydot=ydot)
g.write()
