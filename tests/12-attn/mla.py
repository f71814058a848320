"""Golden values of @mla: transformers' DeepseekV3Attention on random weights, float64, and autograd, with a latent for
queries and without. Run by `make golden`; writes mla.txt."""
import torch
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as deepseek
from transformers.models.deepseek_v3.configuration_deepseek_v3 import DeepseekV3Config

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=51)
torch.set_default_dtype(torch.float64)
NAMES = dict(dq="q_a_proj", q_norm="q_a_layernorm", uq="q_b_proj", dkv="kv_a_proj_with_mqa", kv_norm="kv_a_layernorm",
             ukv="kv_b_proj", out="o_proj")

for B, T, C, H, Rq, R, Dn, Dr, Dv in [(1, 3, 2, 1, 1, 1, 1, 2, 1), (2, 5, 6, 2, 4, 3, 3, 2, 5), (1, 7, 5, 3, 0, 4, 2, 4, 1)]:
    config = DeepseekV3Config(hidden_size=C, num_attention_heads=H, num_key_value_heads=H, q_lora_rank=Rq or None,
                              kv_lora_rank=R, qk_nope_head_dim=Dn, qk_rope_head_dim=Dr, v_head_dim=Dv, rms_norm_eps=1e-6,
                              attention_bias=False, max_position_embeddings=64)
    config._attn_implementation = "eager"
    layer = deepseek.DeepseekV3Attention(config, 0)
    names = NAMES if Rq else {("uq" if k == "uq" else k): ("q_proj" if k == "uq" else v) for k, v in NAMES.items()
                              if k not in ("dq", "q_norm")}
    given = {}
    for ours, theirs in names.items():
        weight = getattr(layer, theirs).weight
        given[ours] = g.normal(*weight.shape) * (0.5 if weight.dim() == 2 else 1)
        weight.data = torch.from_numpy(given[ours]).double()
    x, dy = g.normal(B, T, C), g.normal(B, T, C)
    xt = torch.from_numpy(x).double().requires_grad_()
    angles = torch.arange(T)[:, None] * 10000.0 ** (-torch.arange(0, Dr, 2) / Dr)
    emb = torch.cat([angles, angles], 1)[None].expand(B, T, Dr)
    mask = torch.full((T, T), float("-inf")).triu(1)[None, None].expand(B, 1, T, T)
    y = layer(xt, (emb.cos(), emb.sin()), mask)[0]
    y.backward(torch.from_numpy(dy).double())
    name = "x".join(map(str, (B, T, C, H, Rq, R, Dn, Dr, Dv)))
    g.save(name, **given, x=x, dy=dy, y=y, dx=xt.grad)
    g.save(f"{name}/d", **{ours: getattr(layer, theirs).weight.grad for ours, theirs in names.items()})
g.write()
