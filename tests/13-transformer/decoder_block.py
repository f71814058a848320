"""Golden values of @decoder_block: transformers' GPT2Block, and the parallel form written out, in float64. Writes
decoder_block.txt."""
import sys

del sys.path[0]  # or `import safetensors` finds a script of this folder
import numpy as np
import torch
import torch.nn.functional as F
from transformers import GPT2Config
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=136)
B, T, C, H, M = 2, 3, 4, 2, 5
NAMES = {"norm1_w": "ln_1.weight", "norm1_b": "ln_1.bias", "qkv_w": "attn.c_attn.weight", "qkv_b": "attn.c_attn.bias",
         "out_w": "attn.c_proj.weight", "out_b": "attn.c_proj.bias", "norm2_w": "ln_2.weight", "norm2_b": "ln_2.bias",
         "up": "mlp.c_fc.weight", "up_b": "mlp.c_fc.bias", "down": "mlp.c_proj.weight", "down_b": "mlp.c_proj.bias"}
block = GPT2Block(GPT2Config(n_embd=C, n_head=H, n_inner=M, resid_pdrop=0.0, attn_pdrop=0.0,
                             attn_implementation="eager"), layer_idx=0).double()
p = {k: block.get_parameter(n) for k, n in NAMES.items()}
for v in p.values():
    v.data = torch.from_numpy(np.round(32 * g.normal(*v.shape)) / 64).double()
x0, dy = np.round(16 * g.normal(B, T, C)) / 16, np.round(16 * g.normal(B, T, C)) / 16


def stored(t, k):  # Conv1D is [in, out]
    return t.T if t.dim() == 2 and k in ("qkv_w", "out_w", "up", "down") else t


g.save("in", x=x0, dy=dy, **{k: stored(v, k) for k, v in p.items()})

x = torch.from_numpy(x0).double().requires_grad_()
mask = torch.full((T, T), float("-inf")).triu(1).double()[None, None].expand(B, 1, T, T)
y = block(x, attention_mask=mask)
y = y[0] if isinstance(y, tuple) else y
y.backward(torch.from_numpy(dy).double())
g.save("gpt2", y=y, dx=x.grad, **{k: stored(v.grad, k) for k, v in p.items()})

# parallel: attention and MLP read one norm, and both are added to x
for v in p.values():
    v.grad = None
x = torch.from_numpy(x0).double().requires_grad_()
n = F.layer_norm(x, (C,), p["norm1_w"], p["norm1_b"], 1e-5)
q, k, v = ((n @ p["qkv_w"] + p["qkv_b"]).view(B, T, 3, H, C // H).permute(2, 0, 3, 1, 4))
a = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, C)
y = x + a @ p["out_w"] + p["out_b"] + F.gelu(n @ p["up"] + p["up_b"], approximate="tanh") @ p["down"] + p["down_b"]
y.backward(torch.from_numpy(dy).double())
g.save("parallel", y=y, dx=x.grad, **{k: stored(v.grad, k) for k, v in p.items() if v.grad is not None})

g.write()
