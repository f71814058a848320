"""Golden values of @transformer_xl_attn: XLNet's attention of transformers in float64, which is Transformer-XL's, and
its gradients. Writes transformer_xl_attn.txt."""
import sys

del sys.path[0]  # or `import safetensors` finds a script of this folder
import numpy as np
import torch
from transformers import XLNetConfig
from transformers.models.xlnet.modeling_xlnet import XLNetModel, XLNetRelativeAttention

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=91)
C, H, D = 6, 3, 2
config = XLNetConfig(vocab_size=5, d_model=C, n_head=H, n_layer=1, d_inner=4, dropout=0.0, attn_type="uni",
                     pad_token_id=0)
attn = XLNetRelativeAttention(config)
for p in attn.parameters():
    p.data = torch.from_numpy(g.normal(*p.shape))
attn = attn.double()
attn.layer_norm = torch.nn.Identity()


def matrix(p, out=False):  # [C,H,D]: of a projection the transpose of [H D,C], of the output [C,H D] itself
    return p.reshape(C, H * D) if out else p.reshape(C, H * D).T


def flat(of):
    return dict(q=matrix(of(attn.q)), kv=torch.cat([matrix(of(attn.k)), matrix(of(attn.v))]), r=matrix(of(attn.r)),
                out=matrix(of(attn.o), True), u=of(attn.r_w_bias), v=of(attn.r_r_bias))


g.save("w", **flat(lambda p: p.data))
for name, B, T, M in [("memory", 2, 3, 4), ("none", 1, 5, 0), ("one", 3, 1, 2)]:
    x, memory, dy = g.normal(B, T, C), g.normal(B, M, C), g.normal(B, T, C)
    S = M + T
    mask = torch.triu(torch.ones(T, S), diagonal=1 + M).double()[:, :, None, None].expand(T, S, B, 1)
    waves = XLNetModel.relative_positional_encoding(XLNetModel(config), T, S, bsz=B).double()  # distances S .. 0
    xt = torch.from_numpy(x).double().transpose(0, 1).requires_grad_(True)  # [T,B,C]
    mem = torch.from_numpy(memory).double().transpose(0, 1) if M else None
    attn.zero_grad()
    core = attn.post_attention
    attn.post_attention = lambda h, vec: core(h, vec, residual=False)
    y = attn(xt, None, mask, None, waves, None, mems=mem)[0]
    attn.post_attention = core
    y.backward(torch.from_numpy(dy).double().transpose(0, 1))
    g.save(name, x=x, memory=memory, dy=dy, y=y.transpose(0, 1), dx=xt.grad.transpose(0, 1),
           **{"d" + k: v for k, v in flat(lambda p: p.grad).items()})
    g.save(name, waves=waves[:, 0].flip(0)[:S])
g.write()
