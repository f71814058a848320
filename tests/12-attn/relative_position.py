"""Golden values of @relative_position: Shaw's attention with the (T,T,D) arrays made in full, by einsum in float64 with
autograd; the Music Transformer's pad and reshape in torch. Run by `make golden`; writes relative_position.txt."""
import torch
import torch.nn.functional as F

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=26)
for B, H, T, D, K in ((1, 1, 1, 1, 0), (2, 2, 4, 3, 1), (1, 2, 3, 3, 7), (1, 1, 7, 3, 2)):
    for causal in (0, 1):
        arrays = [g.normal(B, H, T, D) for _ in range(3)] + [g.normal(2 * K + 1, D) for _ in range(2)]
        dout = g.normal(B, H, T, D)
        q, k, v, a, b = leaf = [torch.from_numpy(x).double().requires_grad_() for x in arrays]
        i = torch.arange(T)
        r = (i[None] - i[:, None]).clamp(-K, K) + K
        s = (torch.einsum("bhid,bhjd->bhij", q, k) + torch.einsum("bhid,ijd->bhij", q, a[r])) / D**0.5
        p = s.masked_fill((i[None] > i[:, None]) & bool(causal), float("-inf")).softmax(-1)
        out = torch.einsum("bhij,bhjd->bhid", p, v) + torch.einsum("bhij,ijd->bhid", p, b[r])
        out.backward(torch.from_numpy(dout).double())
        names = dict(zip(("dq", "dk", "dv", "da", "db"), (x.grad for x in leaf)))
        g.save(f"{T}-{K}-{causal}", **dict(zip("qkvab", arrays)), dout=dout, out=out, att=p, **names)

for T in (1, 2, 5):
    rel, ds = g.normal(T, T), g.normal(T, T)
    x = torch.from_numpy(rel).double().requires_grad_()
    s = F.pad(x, (1, 0)).reshape(T + 1, T)[1:]
    s.backward(torch.from_numpy(ds).double())
    g.save(f"skew{T}", rel=rel, ds=ds, s=s, drel=x.grad)
g.write()
