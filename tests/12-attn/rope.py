"""Golden values of @rope: the rotary embeddings of transformers' Llama (halves), GPT-NeoX (halves of a part), GPT-J
(neighbours of a part) and Qwen2-VL (three axes), rotated in float64 with autograd. transformers takes the angles in
float32, so the positions are small. Run by `make golden`; writes rope.txt."""
import numpy as np
import torch
from transformers import GPTNeoXConfig, LlamaConfig, Qwen2VLTextConfig
from transformers.models.gpt_neox import modeling_gpt_neox as neox
from transformers.models.gptj import modeling_gptj as gptj
from transformers.models.llama import modeling_llama as llama
from transformers.models.qwen2_vl import modeling_qwen2_vl as qwen

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=13)


def save(name, rotate, shape, **more):
    x, dy = g.normal(*shape), g.normal(*shape)
    xd = torch.from_numpy(x).double().requires_grad_()
    y = rotate(xd)
    y.backward(torch.from_numpy(dy).double())
    g.save(name, x=x, dy=dy, y=y, dx=xd.grad, **more)


B, H, T = 2, 2, 3
pos = g.rng.integers(0, 50, (B, T))
config = LlamaConfig(hidden_size=H * 8, num_attention_heads=H, rope_parameters={"rope_type": "default", "rope_theta": 500.0})
rotary = llama.LlamaRotaryEmbedding(config)
table = rotary(torch.zeros(1).double(), torch.from_numpy(pos))
save("llama", lambda x: llama.apply_rotary_pos_emb(x, x, *table)[0], (B, H, T, 8), pos=pos, inv_freq=rotary.inv_freq)

config = GPTNeoXConfig(hidden_size=H * 10, num_attention_heads=H,
                       rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.6})
rotary = neox.GPTNeoXRotaryEmbedding(config)
table2 = rotary(torch.zeros(1).double(), torch.from_numpy(pos))
save("neox", lambda x: neox.apply_rotary_pos_emb(x, x, *table2)[0], (B, H, T, 10), pos=pos, inv_freq=rotary.inv_freq)

sin, cos = gptj.create_sinusoidal_positions(50, 4)[torch.from_numpy(pos)].double().split(2, dim=-1)


def rotate_gptj(x):  # GPT-J keeps (B, T, H, D) until the heads are turned outside
    x = x.transpose(1, 2)
    return torch.cat([gptj.apply_rotary_pos_emb(x[..., :4], sin, cos), x[..., 4:]], -1).transpose(1, 2)


save("gptj", rotate_gptj, (B, H, T, 7), pos=pos)

pos3 = g.rng.integers(0, 50, (3, B, T))
config = Qwen2VLTextConfig(hidden_size=H * 12, num_attention_heads=H,
                           rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 3, 2]})
table3 = qwen.Qwen2VLRotaryEmbedding(config)(torch.zeros(1).double(), torch.from_numpy(pos3))
save("qwen2vl", lambda x: qwen.apply_rotary_pos_emb(x, x, *table3)[0], (B, H, T, 12), pos=pos3.reshape(3, -1))
g.write()
