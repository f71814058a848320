"""Golden values of @llama_block: transformers' LlamaDecoderLayer in float64. Writes llama_block.txt."""
import sys

del sys.path[0]  # or `import safetensors` finds a script of this folder
import numpy as np
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=140)
B, T, C, H, K, D, F = 2, 4, 4, 4, 2, 4, 5
config = LlamaConfig(hidden_size=C, num_hidden_layers=1, head_dim=D, num_attention_heads=H, num_key_value_heads=K,
                     intermediate_size=F, rms_norm_eps=1e-5, attn_implementation="eager",
                     rope_parameters={"rope_type": "default", "rope_theta": 50.0})
layer, rope = LlamaDecoderLayer(config, 0).double(), LlamaRotaryEmbedding(config).double()
for p in layer.parameters():
    p.data = torch.from_numpy(np.round(32 * g.normal(*p.shape)) / 64).double()
x0, dy = np.round(16 * g.normal(B, T, C)) / 16, np.round(16 * g.normal(B, T, C)) / 16
x = torch.from_numpy(x0).double().requires_grad_()
mask = torch.full((T, T), float("-inf")).triu(1).double()[None, None].expand(B, 1, T, T)
inv_freq = 50.0 ** (-torch.arange(0, D, 2).double() / D)
angle = torch.arange(T).double()[:, None] * inv_freq
cos, sin = (torch.cat([f(angle)] * 2, dim=-1)[None].expand(B, T, D) for f in (torch.cos, torch.sin))
y = layer(x, attention_mask=mask, position_embeddings=(cos, sin))
y = y[0] if isinstance(y, tuple) else y
y.backward(torch.from_numpy(dy).double())


def parts(f):
    a, m = layer.self_attn, layer.mlp
    return dict(norm1=f(layer.input_layernorm.weight), norm2=f(layer.post_attention_layernorm.weight),
                qkv=torch.cat([f(p.weight) for p in (a.q_proj, a.k_proj, a.v_proj)]), out=f(a.o_proj.weight),
                gate=f(m.gate_proj.weight), up=f(m.up_proj.weight), down=f(m.down_proj.weight))


g.save("in", x=x0, dy=dy, **parts(lambda p: p.detach()))
g.save("want", y=y, dx=x.grad, **parts(lambda p: p.grad))

g.write()
