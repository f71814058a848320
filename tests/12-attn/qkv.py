"""Golden values of @qkv: three torch linears with autograd, and whole attention modules of transformers (GPT-2, GPT-NeoX,
Llama, Qwen 3), each with its own layout of the weights, in float64. Run by `make golden`; writes qkv.txt."""
import torch
from transformers import GPT2Config, GPTNeoXConfig, LlamaConfig, Qwen3Config
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXAttention
from transformers.models.llama.modeling_llama import LlamaAttention
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=14)


def heads(y, H):  # (B,T,H D) to (B,H,T,D)
    return y.view(y.shape[0], y.shape[1], H, -1).transpose(1, 2)


for B, T, C, H, Hkv, D in [(1, 1, 1, 1, 1, 1), (2, 3, 5, 2, 1, 3), (1, 4, 6, 4, 2, 2)]:
    x = torch.from_numpy(g.normal(B, T, C)).double().requires_grad_()
    ws = [torch.from_numpy(g.normal(n * D, C)).double().requires_grad_() for n in (H, Hkv, Hkv)]
    bs = [torch.from_numpy(g.normal(n * D)).double().requires_grad_() for n in (H, Hkv, Hkv)]
    ys = [heads(torch.nn.functional.linear(x, w, b), n) for w, b, n in zip(ws, bs, (H, Hkv, Hkv))]
    dys = [torch.from_numpy(g.normal(*y.shape)).double() for y in ys]
    torch.autograd.backward(ys, dys)
    flat = lambda ts: torch.cat([t.reshape(-1) for t in ts])
    g.save(f"{B}x{T}x{C}x{H}x{Hkv}x{D}", x=x, w=flat(ws), b=flat(bs), dq=dys[0], dk=dys[1], dv=dys[2], q=ys[0], k=ys[1],
           v=ys[2], dx=x.grad, dw=flat([w.grad for w in ws]), db=flat([b.grad for b in bs]))

T, C = 4, 8
mask = torch.full((T, T), float("-inf")).triu(1)[None, None].double()


def rotary(rot):  # the table of @rope's halves, in double
    angle = torch.arange(T).double()[:, None] * 10000.0 ** (-torch.arange(0, rot, 2).double() / rot)
    angle = torch.cat([angle, angle], -1)[None]
    return angle.cos(), angle.sin()


def module(name, m, **more):
    x = g.normal(1, T, C)
    weights = {}
    for n, p in m.named_parameters():
        p.data = torch.from_numpy(g.normal(*p.shape))
        weights[n.replace(".", "_")] = p
    out = m.double()(torch.from_numpy(x).double(), attention_mask=mask, **more)[0]
    g.save(name, x=x, out=out, **weights)


eager = dict(attn_implementation="eager", attention_dropout=0.0)
module("gpt2", GPT2Attention(GPT2Config(n_embd=C, n_head=2, attn_pdrop=0.0, resid_pdrop=0.0, attn_implementation="eager")))
module("neox", GPTNeoXAttention(GPTNeoXConfig(hidden_size=C, num_attention_heads=2, rope_parameters={
    "rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}, **eager)), position_embeddings=rotary(2))
module("llama", LlamaAttention(LlamaConfig(hidden_size=C, num_attention_heads=4, num_key_value_heads=2, **eager), 0),
       position_embeddings=rotary(2))
module("qwen3", Qwen3Attention(Qwen3Config(hidden_size=C, num_attention_heads=4, num_key_value_heads=2, head_dim=2,
                                           rms_norm_eps=1e-6, **eager), 0), position_embeddings=rotary(2))
g.write()
