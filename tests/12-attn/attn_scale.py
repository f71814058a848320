"""Golden values of @attn_scale: PyTorch's scaled_dot_product_attention with its default scale and with others, and autograd;
softmax statistics from scipy.stats.entropy and torch.autograd.functional.jacobian, all in float64. Run by `make golden`;
writes attn_scale.txt."""
import numpy as np
import scipy.stats
import torch
import torch.nn.functional as F

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=32)

for Tq, Tk, D in [(1, 1, 1), (2, 3, 8), (3, 17, 5)]:
    arrays = dict(q=g.normal(Tq, D), k=g.normal(Tk, D), v=g.normal(Tk, D), do=g.normal(Tq, D))
    q, k, v, do = (torch.from_numpy(a).double().requires_grad_() for a in arrays.values())
    out = F.scaled_dot_product_attention(q[None], k[None], v[None])[0]
    out.backward(do)
    s = q @ k.T * 0.3
    ds = g.normal(Tq, Tk)
    dq, dk = torch.autograd.grad(s, (q, k), torch.from_numpy(ds).double())
    g.save(f"{Tq}x{Tk}x{D}", **arrays, out=out, sdpa_dq=q.grad, sdpa_dk=k.grad, s=s, ds=ds, dq=dq, dk=dk)

for n, spread in [(1, 1), (2, 1), (3, 10), (17, 1), (65, 4), (5, 40)]:
    s = (g.normal(n) * spread).astype(np.float32)
    x = torch.from_numpy(s).double()
    p = torch.softmax(x, 0)
    jacobian = torch.autograd.functional.jacobian(lambda x: torch.softmax(x, 0), x)
    g.save(f"row{n}x{spread}", s=s, max=p.max(), entropy=scipy.stats.entropy(p.numpy()), jacobian=jacobian.norm())
g.write()
