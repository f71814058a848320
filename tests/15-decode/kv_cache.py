"""Golden values of @kv_cache: transformers' LlamaAttention on a whole text, without a cache, in float64. The test feeds the
same text token by token and in chunks. Run by `make golden`; writes kv_cache.txt."""
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaAttention

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=18)

B, T, C = 2, 7, 8
mask = torch.full((T, T), float("-inf")).triu(1)[None, None].double()
angle = torch.arange(T).double()[:, None] * 10000.0 ** (-torch.arange(0, 4, 2).double() / 4)
angle = torch.cat([angle, angle], -1)[None]
for H, Hkv in [(2, 2), (4, 2), (4, 1)]:
    m = LlamaAttention(LlamaConfig(hidden_size=C, num_attention_heads=H, num_key_value_heads=Hkv, head_dim=4,
                                   attn_implementation="eager", attention_dropout=0.0), 0)
    for p in m.parameters():
        p.data = torch.from_numpy(g.normal(*p.shape))
    x = g.normal(B, T, C)
    y = m.double()(torch.from_numpy(x).double(), attention_mask=mask, position_embeddings=(angle.cos(), angle.sin()))[0]
    w = torch.cat([m.q_proj.weight, m.k_proj.weight, m.v_proj.weight])
    g.save(f"{H}x{Hkv}", x=x, w=w, wo=m.o_proj.weight, y=y)
g.write()
