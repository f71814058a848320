"""Golden values of @mha: torch.nn.MultiheadAttention in float64, outputs, weights per head and every gradient, with
key_padding_mask and attn_mask. Run by `make golden`; writes mha.txt."""
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=15)


def t(*shape):
    return torch.from_numpy(g.normal(*shape)).double().requires_grad_()


# name: B, T, S, C, Ck, Cv, H, bias, key_padding_mask, attn_mask
cases = {"self": (2, 4, 4, 6, 6, 6, 2, True, True, True), "cross": (2, 3, 5, 6, 5, 4, 3, True, True, False),
         "plain": (1, 5, 2, 4, 4, 4, 1, False, False, False), "one": (1, 1, 1, 2, 2, 2, 2, True, False, True)}
for name, (B, T, S, C, Ck, Cv, H, bias, padding, blocking) in cases.items():
    m = torch.nn.MultiheadAttention(C, H, bias=bias, kdim=Ck, vdim=Cv, batch_first=True).double()
    for p in m.parameters():
        p.data = torch.from_numpy(g.normal(*p.shape)).double()
    x = t(B, T, C)
    key, value = (x, x) if name == "self" else (t(B, S, Ck), t(B, S, Cv))
    hidden, blocked = g.coin((B, S), 0.4), g.coin((T, S), 0.4)
    hidden[:, 0] = 0
    blocked[:, 0] = 0  # torch gives NaN where nothing is seen
    y, att = m(x, key, value, key_padding_mask=torch.from_numpy(hidden).bool() if padding else None,
               attn_mask=torch.from_numpy(blocked).bool() if blocking else None, average_attn_weights=False)
    dy = g.normal(*y.shape)
    y.backward(torch.from_numpy(dy).double())
    if Ck == C and Cv == C:
        w, dw = [[a[:C], a[C:2 * C], a[2 * C:]] for a in (m.in_proj_weight, m.in_proj_weight.grad)]
    else:
        projections = [m.q_proj_weight, m.k_proj_weight, m.v_proj_weight]
        w, dw = projections, [p.grad for p in projections]
    more = {}
    if bias:
        more = dict(b=m.in_proj_bias, db=m.in_proj_bias.grad, bo=m.out_proj.bias, dbo=m.out_proj.bias.grad)
    if name != "self":
        more.update(key=key, value=value, dkey=key.grad, dvalue=value.grad)
    g.save(name, x=x, dy=dy, y=y, att=att, dx=x.grad, hidden=hidden, blocked=blocked, wq=w[0], wk=w[1], wv=w[2],
           wo=m.out_proj.weight, dwq=dw[0], dwk=dw[1], dwv=dw[2], dwo=m.out_proj.weight.grad, **more)
g.write()
