"""Golden values of @longformer: LongformerSelfAttention of transformers with its projections replaced by what is given,
and autograd (its softmax is float32). Run by `make golden`; writes longformer.txt."""
import torch
from transformers import LongformerConfig
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=51)

for B, H, T, D, side, chosen, padding in [(1, 1, 4, 1, 2, [], []), (2, 2, 12, 2, 2, [(0, 0), (0, 7), (1, 2), (1, 5)], [(0, 11), (1, 10), (1, 11)]),
                                          (1, 2, 16, 2, 4, [(0, 0), (0, 1), (0, 2)], [(0, 15)])]:
    C = H * D
    module = LongformerSelfAttention(LongformerConfig(hidden_size=C, num_attention_heads=H, attention_window=[2 * side],
                                                      attention_probs_dropout_prob=0.0), 0).double()
    inputs = {n: g.normal(B, H, T, D) for n in ["q", "k", "v", "global_q", "global_k", "global_v"]}
    dout = g.normal(B, H, T, D)
    leaf = {n: torch.from_numpy(a).double().requires_grad_() for n, a in inputs.items()}
    rows = {n: x.transpose(1, 2).reshape(B, T, C).transpose(0, 1) for n, x in leaf.items()}  # (T,B,C), as it works
    for name, ours in [("query", "q"), ("key", "k"), ("value", "v"), ("key_global", "global_k"), ("value_global", "global_v")]:
        delattr(module, name)
        setattr(module, name, lambda x, ours=ours: rows[ours].clone())
    module.query_global = torch.nn.Identity()  # it sees the global rows of the input only: the input is global_q
    is_global, hidden = torch.zeros(B, T, dtype=bool), torch.zeros(B, T, dtype=bool)
    for at in chosen:
        is_global[at] = True
    for at in padding:
        hidden[at] = True
    mask = torch.where(hidden, -10000.0, torch.where(is_global, 10000.0, 0.0)).double()
    out = module(rows["global_q"].transpose(0, 1), attention_mask=mask, is_index_masked=hidden, is_index_global_attn=is_global,
                 is_global_attn=bool(is_global.any()))[0].reshape(B, T, H, D).transpose(1, 2)
    seen = torch.from_numpy(dout).double() * ~hidden[:, None, :, None]
    out.backward(seen)
    grads = {"d" + n: x.grad if x.grad is not None else torch.zeros_like(x) for n, x in leaf.items()}
    g.save(f"{B}x{H}x{T}x{D}x{side}", **inputs, dout=dout, out=out, is_global=is_global, hidden=hidden, **grads)
g.write()
