"""Golden values of @linear_attn_delta: the recurrence in PyTorch, float64, and autograd through it, on the float32 inputs
that the test reads back. Run by `make golden`; writes linear_attn_delta.txt."""
import numpy as np
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=42)

for N, T, D, E in [(1, 1, 1, 1), (2, 2, 3, 1), (1, 5, 2, 4), (2, 17, 4, 3)]:
    k = g.normal(N, T, D)
    k /= np.linalg.norm(k, axis=2, keepdims=True)
    inputs = dict(q=g.normal(N, T, D), k=k, v=g.normal(N, T, E), a=1 - 0.5 * np.abs(np.tanh(g.normal(N, T))),
                  b=1 + np.tanh(g.normal(N, T)), W=g.normal(N, E, D))
    dout, dlast = g.normal(N, T, E), g.normal(N, E, D)
    q, k, v, a, b, W = (torch.from_numpy(x.astype(np.float32)).double().requires_grad_() for x in inputs.values())
    S, outs = W, []
    for t in range(T):
        S = a[:, t, None, None] * S
        answer = torch.einsum("ned,nd->ne", S, k[:, t])
        S = S + torch.einsum("ne,nd->ned", b[:, t, None] * (v[:, t] - answer), k[:, t])
        outs.append(torch.einsum("ned,nd->ne", S, q[:, t]))
    out = torch.stack(outs, 1)
    ((out * torch.from_numpy(dout)).sum() + (S * torch.from_numpy(dlast)).sum()).backward()
    g.save(f"{N}x{T}x{D}x{E}", **inputs, dout=dout, dlast=dlast, out=out, last=S, dq=q.grad, dk=k.grad, dv=v.grad,
           da=a.grad, db=b.grad, dW=W.grad)
g.write()
