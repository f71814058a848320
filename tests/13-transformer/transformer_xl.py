"""Golden values of @transformer_xl: transformers' XLNetModel in its causal form, whose layers and memory are
Transformer-XL's, in float64, over three segments of a stream. Writes transformer_xl.txt."""
import sys

del sys.path[0]  # or `import safetensors` finds a script of this folder
import torch
from transformers import XLNetConfig
from transformers.models.xlnet.modeling_xlnet import XLNetModel

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=17)
B, T, M, C, H, F, L = 2, 3, 4, 4, 2, 5, 2
config = XLNetConfig(vocab_size=5, d_model=C, n_head=H, n_layer=L, d_inner=F, dropout=0.0, attn_type="uni", mem_len=M,
                     ff_activation="relu", layer_norm_eps=1e-5, pad_token_id=0)
model = XLNetModel(config)
for name, p in model.named_parameters():
    p.data = torch.from_numpy(g.normal(*p.shape)) / 2 + (1 if name.endswith("norm.weight") else 0)
model = model.double().train()


def flat(of):
    parts = []
    for layer in model.layer:
        a, f = layer.rel_attn, layer.ff
        parts += [of(p).reshape(C, C).T for p in (a.q, a.k, a.v, a.r)] + [of(a.o).reshape(C, C)]
        parts += [of(p) for p in (a.r_w_bias, a.r_r_bias, a.layer_norm.weight, a.layer_norm.bias, f.layer_1.weight,
                                  f.layer_1.bias, f.layer_2.weight, f.layer_2.bias, f.layer_norm.weight,
                                  f.layer_norm.bias)]
    return torch.cat([p.reshape(-1) for p in parts])


g.save("w", flat=flat(lambda p: p.data))
mems = None
for k in range(3):
    x, dy = g.normal(B, T, C), g.normal(B, T, C)
    xt = torch.from_numpy(x).double().requires_grad_(True)
    model.zero_grad()
    out = model(inputs_embeds=xt, mems=mems, use_mems=True)
    out.last_hidden_state.backward(torch.from_numpy(dy).double())
    mems = out.mems
    g.save(f"segment{k}", x=x, dy=dy, h=out.last_hidden_state, dx=xt.grad, dw=flat(lambda p: p.grad),
           memory=torch.stack([m.transpose(0, 1) for m in mems]))
g.write()
