"""Golden values of @causal_attn: PyTorch's scaled_dot_product_attention and autograd in float64, on the float32 inputs
that the test reads back. Run by `make golden`; writes causal_attn.txt."""
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=12)

for B, T, H, D in [(1, 1, 1, 1), (1, 2, 2, 3), (2, 5, 3, 2), (1, 11, 1, 4)]:
    C = H * D
    qkv, dout = g.normal(B, T, 3 * C), g.normal(B, T, C)
    x = torch.from_numpy(qkv).double().requires_grad_()
    q, k, v = (part.view(B, T, H, D).transpose(1, 2) for part in x.split(C, dim=2))
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    out = out.transpose(1, 2).reshape(B, T, C)
    out.backward(torch.from_numpy(dout).double())
    g.save(f"{B}x{T}x{H}x{D}", qkv=qkv, dout=dout, out=out, dqkv=x.grad)
g.write()
