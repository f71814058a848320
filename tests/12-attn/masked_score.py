"""Golden values of @masked_score: torch.softmax of biased and masked scores, torch.logsumexp, and
scaled_dot_product_attention with attn_mask, with gradients of scores and broadcast biases, in float64. Rows without any
allowed key are zero here and NaN there: they are set to zero. Run by `make golden`; writes masked_score.txt."""
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=35)
cases = {  # B, H, Tq, Tk; extents of the mask; extents of the bias
    "one": ((1, 1, 1, 1), (1, 1, 1), (1, 1, 1)),
    "pad": ((2, 2, 3, 5), (2, 1, 1), (2, 2, 1)),
    "causal": ((1, 2, 3, 3), (1, 1, 3), (1, 2, 3)),
    "full": ((2, 1, 2, 7), (2, 1, 2), (2, 1, 2)),
    "heads": ((2, 3, 1, 17), (1, 3, 1), (2, 1, 1)),
}
for name, (shape, mask, bias) in cases.items():
    B, H, Tq, Tk = shape
    s, b, dp = g.normal(*shape), g.normal(*bias, Tk), g.normal(*shape)
    allowed = g.coin((*mask, Tk), 0.6)
    if name == "full":
        allowed[1, 0, 0] = 0  # a query that sees nothing
    if name == "causal":
        allowed[0, 0] = torch.ones(3, 3).tril().numpy()
    x, y = (torch.from_numpy(a).double().requires_grad_() for a in (s, b))
    z = (x + y).masked_fill(torch.from_numpy(allowed) == 0, float("-inf"))
    none = torch.isneginf(z).all(-1, keepdim=True)
    p = torch.softmax(torch.where(none, 0.0, z), -1) * ~none
    p.backward(torch.from_numpy(dp).double())
    g.save(name, s=s, bias=b, allowed=allowed, dp=dp, p=p, lse=torch.logsumexp(z, -1), ds=x.grad,
           dbias=y.grad)

T, S, D = 3, 4, 2
q, k, v, b = g.normal(1, 2, T, D), g.normal(1, 2, S, D), g.normal(1, 2, S, D), g.normal(1, 1, T, S)
b[0, 0, 1, 2] = b[0, 0, 2, 0] = float("-inf")
out = torch.nn.functional.scaled_dot_product_attention(*(torch.from_numpy(a).double() for a in (q, k, v, b)))
g.save("sdpa", q=q, k=k, v=v, bias=b, out=out)
g.write()
