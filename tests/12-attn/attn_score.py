"""Golden values of @attn_score: each score written in PyTorch (cosine_similarity, cdist, bilinear, tanh) with autograd, in
float64 on the float32 inputs that the test reads back. Run by `make golden`; writes attn_score.txt."""
import torch
import torch.nn.functional as F

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=31)


def double(*arrays):
    return [torch.from_numpy(a).double().requires_grad_() for a in arrays]


for Tq, Tk, D, Dk in [(1, 1, 1, 2), (2, 3, 5, 4), (3, 17, 2, 3)]:
    case = f"{Tq}x{Tk}x{D}"
    q, k, ds = g.normal(Tq, D), g.normal(Tk, D), g.normal(Tq, Tk)
    k2, w = g.normal(Tk, Dk), g.normal(D, Dk)
    g.save(case, q=q, k=k, ds=ds, k2=k2, w=w)

    def score(name, form, *inputs):
        xs = double(*inputs)
        s = form(*xs)
        s.backward(torch.from_numpy(ds).double())
        g.save(f"{case}/{name}", s=s, **{f"d{i}": x.grad for i, x in enumerate(xs)})

    score("dot", lambda q, k: torch.einsum("id,jd->ij", q, k), q, k)
    score("general", lambda q, k, w: F.bilinear(q[:, None].expand(-1, Tk, -1).contiguous(), k[None].expand(Tq, -1, -1)
          .contiguous(), w[None])[..., 0], q, k2, w)
    gain = g.normal(1)
    g.save(f"{case}/cosine", gain=gain)
    score("cosine", lambda q, k, a: a * F.cosine_similarity(q[:, None], k[None], dim=-1), q, k, gain)
    score("l2", lambda q, k: -0.3 * (q[:, None] - k[None]).square().sum(-1), q, k)
    score("capped", lambda q, k: 5.0 * torch.tanh(torch.einsum("id,jd->ij", q, k) * 0.4 / 5.0), q, k)
g.write()
