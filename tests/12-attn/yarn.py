"""Golden values of @yarn: transformers' ROPE_INIT_FUNCTIONS (float32): linear, dynamic, yarn with each of its options, and
llama3. Static NTK has no entry there: its frequencies in float64 numpy. Run by `make golden`; writes yarn.txt."""
import numpy as np
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=25)


def save(name, kind, D, theta, factor, L, length=None, **more):
    rope = dict(rope_type=kind, rope_theta=theta, factor=factor, **more)
    if kind in ("yarn", "llama3"):
        rope["original_max_position_embeddings"] = L
    if kind == "llama3":
        rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config = LlamaConfig(hidden_size=D, num_attention_heads=1, max_position_embeddings=L, rope_parameters=rope)
    kind = "linear" if kind == "linear" else kind
    inv_freq, scale = ROPE_INIT_FUNCTIONS[kind](config, device="cpu", seq_len=length)
    g.save(name, inv_freq=inv_freq, scale=np.array([scale]))


save("linear", "linear", 10, 10000.0, 4.0, 2048)
save("dynamic", "dynamic", 10, 10000.0, 2.0, 100, length=350)
save("dynamic-short", "dynamic", 10, 10000.0, 2.0, 100, length=50)
save("yarn", "yarn", 128, 10000.0, 16.0, 4096)
save("yarn-small", "yarn", 16, 500.0, 4.0, 64)
save("yarn-free", "yarn", 64, 150000.0, 32.0, 4096, truncate=False)  # gpt-oss
save("yarn-deepseek", "yarn", 64, 10000.0, 40.0, 4096, mscale=1.0, mscale_all_dim=0.7)
save("yarn-turns", "yarn", 32, 10000.0, 8.0, 1000, beta_fast=16, beta_slow=2)
save("yarn-same", "yarn", 16, 500.0, 3.0, 400, truncate=False, beta_fast=5, beta_slow=5)  # low == high
save("yarn-short", "yarn", 16, 500.0, 3.0, 6)  # low == high == 0
save("yarn-shrink", "yarn", 16, 500.0, 0.5, 64)
save("yarn-wide", "yarn", 16, 10.0, 4.0, 640)  # the ramp ends at D - 1
save("llama3", "llama3", 128, 500000.0, 8.0, 8192)
save("llama3-small", "llama3", 12, 1000.0, 4.0, 64)
g.save("ntk", inv_freq=(10000.0 * 4.0 ** (10 / 8)) ** (-np.arange(0, 10, 2) / 10), scale=np.array([1.0]))
g.write()
