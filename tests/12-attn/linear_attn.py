"""Golden values of @linear_attn: the quadratic form in PyTorch, float64, and autograd through it and through elu, on the
float32 inputs that the test reads back. Run by `make golden`; writes linear_attn.txt."""
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=41)

for N, T, D, E in [(1, 1, 1, 1), (2, 2, 3, 1), (1, 3, 2, 5), (2, 17, 4, 3)]:
    inputs = dict(q=g.normal(N, T, D), k=g.normal(N, T, D), v=g.normal(N, T, E))
    dout = g.normal(N, T, E)
    q, k, v = (torch.from_numpy(a).double().requires_grad_() for a in inputs.values())
    phi = lambda x: torch.nn.functional.elu(x) + 1
    w = torch.tril(phi(q) @ phi(k).transpose(1, 2))
    out = w @ v / w.sum(2, keepdim=True)
    out.backward(torch.from_numpy(dout).double())
    g.save(f"{N}x{T}x{D}x{E}", **inputs, dout=dout, out=out, dq=q.grad, dk=k.grad, dv=v.grad)
g.write()
