"""Golden values of @memory_efficient_attn: PyTorch's scaled_dot_product_attention and autograd in float64, with each mask
of xFormers written as the boolean matrix that its class documents, and dense biases that broadcast. Run by `make golden`;
writes memory_efficient_attn.txt."""
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=71)
BLOCKS = ([0, 2, 2, 5], [0, 3, 4, 6])  # starts of queries and keys: 2 on 3, 0 on 1, 3 on 2


def blocks(causal):
    seen = torch.zeros(5, 6, dtype=torch.bool)
    for a, b, c, d in zip(BLOCKS[0], BLOCKS[0][1:], BLOCKS[1], BLOCKS[1][1:]):
        part = torch.ones(b - a, d - c, dtype=torch.bool)
        seen[a:b, c:d] = part.tril() if causal else part
    return seen


CASES = {  # B, M, Mk, H, K, seen, extents of the bias
    "all": (2, 3, 5, 2, 3, None, None),
    "bias": (2, 4, 3, 2, 2, None, (2, 2)),
    "bias-all": (2, 4, 3, 2, 2, torch.ones(4, 3).tril().bool(), (1, 1)),
    "bias-heads": (2, 2, 4, 3, 2, None, (1, 3)),
    "lower": (1, 4, 6, 2, 3, torch.ones(4, 6).tril().bool(), None),
    "right": (1, 4, 6, 2, 3, torch.ones(4, 6).tril(2).bool(), None),
    "blocks": (1, 5, 6, 2, 3, blocks(False), None),
    "blocks-causal": (1, 5, 6, 2, 3, blocks(True), None),
}
for name, (B, M, Mk, H, K, seen, extents) in CASES.items():
    inputs = dict(q=g.normal(B, M, H, K), k=g.normal(B, Mk, H, K), v=g.normal(B, Mk, H, K))
    dout = g.normal(B, M, H, K)
    q, k, v = (torch.from_numpy(a).double().requires_grad_() for a in inputs.values())
    mask, more = torch.zeros(M, Mk, dtype=torch.float64), {}
    if seen is not None:
        mask = mask.masked_fill(~seen, float("-inf"))
    if extents:
        more["bias"] = g.normal(*extents, M, Mk)
        bias = torch.from_numpy(more["bias"]).double().requires_grad_()
        mask = mask + bias
    out = torch.nn.functional.scaled_dot_product_attention(*(a.transpose(1, 2) for a in (q, k, v)), attn_mask=mask)
    out = out.transpose(1, 2)
    out.backward(torch.from_numpy(dout).double())
    if extents:
        more["dbias"] = bias.grad
    lse = torch.logsumexp(torch.einsum("bmhk,bnhk->bmhn", q, k) / K**0.5 + mask.expand(B, H, M, Mk).transpose(1, 2), -1)
    g.save(name, **inputs, **more, dout=dout, out=out, lse=lse, dq=q.grad, dk=k.grad, dv=v.grad)
g.write()
