"""Golden values of @causal_attn_step: the Jacobian of PyTorch's scaled_dot_product_attention (is_causal) by
torch.autograd.functional.jacobian, in float64. Run by `make golden`; writes causal_attn_step.txt."""
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=43)
for T, H, D in [(1, 1, 2), (3, 2, 2), (4, 1, 3)]:
    C = H * D
    qkv = g.normal(T, 3 * C)

    def attention(x):
        q, k, v = (part.view(T, H, D).transpose(0, 1)[None] for part in x.split(C, dim=1))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)[0].transpose(0, 1).reshape(T, C)

    x = torch.from_numpy(qkv).double()
    g.save(f"{T}x{H}x{D}", qkv=qkv, out=attention(x), jacobian=torch.autograd.functional.jacobian(attention, x))
g.write()
