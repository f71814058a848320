"""Golden values of @classification_head: transformers' BertPooler and the linear classifier behind it, torch's own
reductions for the other poolings, in float64 with autograd on the float32 inputs that the test reads back."""
import numpy as np
import torch
from golden import Golden
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertPooler

g = Golden(__file__, seed=61)


def pool(kind, x, keep, q):
    pad = ~keep[..., None]
    if kind == 0:
        return x.masked_fill(pad, 0).sum(1) / keep.sum(1, keepdim=True)
    if kind == 1:
        return x.masked_fill(pad, -torch.inf).max(1).values
    place = torch.arange(x.shape[1]).expand(keep.shape)
    if kind in (2, 3):
        at = place.masked_fill(~keep, 999).min(1).values if kind == 2 else place.masked_fill(~keep, -1).max(1).values
        return x[torch.arange(x.shape[0]), at]
    attend = torch.nn.functional.scaled_dot_product_attention(
        q.expand(x.shape[0], 1, -1), x, x, attn_mask=keep[:, None, :])
    return attend[:, 0]


for name, (b, t, d, k) in {"one": (1, 1, 1, 2), "small": (2, 3, 5, 3), "long": (3, 7, 4, 2)}.items():
    keep = torch.ones(b, t, dtype=torch.bool)
    if name == "small":
        keep = torch.tensor([[True, True, False], [False, True, True]])
    if name == "long":
        keep = torch.tensor([[1, 1, 1, 1, 1, 0, 0], [0, 0, 1, 0, 1, 1, 1], [0, 0, 0, 1, 0, 0, 0]]).bool()
    x, q, dz = g.normal(b, t, d), g.normal(d), g.normal(b, k)
    p, pb, w, wb = g.normal(d, d), g.normal(d), g.normal(k, d), g.normal(k)
    g.save(name, x=x, mask=keep.numpy().astype(int), dz=dz, q=q, tanh=np.append(p, pb), linear=np.append(w, wb))
    for kind in range(5):
        for tanh in (0, 1):
            xd, qd, pd, pbd, wd, wbd = (torch.from_numpy(a).double().requires_grad_() for a in (x, q, p, pb, w, wb))
            f = pool(kind, xd, keep, qd)
            leaves = ([qd] if kind == 4 else []) + ([pd, pbd] if tanh else []) + [wd, wbd]
            if tanh:
                layer = BertPooler(BertConfig(hidden_size=d, num_attention_heads=1)).double()
                parts = {"dense.weight": pd, "dense.bias": pbd}
                f = torch.func.functional_call(layer, parts, (f[:, None],))
            z = torch.nn.functional.linear(f, wd, wbd)
            grads = torch.autograd.grad(z, [xd] + leaves, torch.from_numpy(dz).double())
            dw = torch.cat([a.flatten() for a in grads[1:]])
            g.save(f"{name}/{kind}/{tanh}", a=f, z=z, dx=grads[0], dw=dw)

g.write()
