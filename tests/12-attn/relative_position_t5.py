"""Golden values of @relative_position_t5: transformers' bucket function for distances up to 1000 both ways, and the bias
of a T5Attention with its gradient, by autograd. Run by `make golden`; writes relative_position_t5.txt."""
import torch
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Attention

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=27)
for both in (0, 1):
    for n, far, most in ((32, 128, 1000), (8, 20, 100)):
        d = torch.arange(-most, most + 1)
        g.save(f"buckets{n}-{both}", bucket=T5Attention._relative_position_bucket(d, bool(both), n, far))

for T, S, first in ((1, 1, 0), (3, 7, 4), (5, 5, 0), (9, 4, 0)):
    for both in (0, 1):
        config = T5Config(d_model=6, d_kv=3, num_heads=2, relative_attention_num_buckets=8,
                          relative_attention_max_distance=6, is_decoder=not both)
        layer = T5Attention(config, has_relative_attention_bias=True, layer_idx=0).double()
        w, ds = g.normal(8, 2), g.normal(1, 2, T, S)
        layer.relative_attention_bias.weight.data = torch.from_numpy(w).double()
        bias = layer.compute_bias(T, S, past_seen_tokens=first)
        bias.backward(torch.from_numpy(ds).double())
        g.save(f"{T}x{S}-{both}", w=w, ds=ds, bias=bias, dw=layer.relative_attention_bias.weight.grad)
g.write()
