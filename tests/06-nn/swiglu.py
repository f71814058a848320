"""Golden values of @swiglu: PyTorch's activations and transformers' LlamaMLP in float64 with autograd, on the float32
inputs that the test reads back."""
import torch
from torch.nn import functional as F
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=6)


def double(a):
    return torch.from_numpy(a).double().requires_grad_()


for N, H in [(1, 1), (2, 3), (3, 8), (4, 13)]:
    gate, up, dy = 3 * g.normal(N, H), g.normal(N, H), g.normal(N, H)
    out = {}
    for name, phi in [("swiglu", F.silu), ("geglu", lambda x: F.gelu(x, approximate="tanh")), ("reglu", F.relu),
                      ("glu", torch.sigmoid)]:
        a, b = double(gate), double(up)
        y = phi(a) * b
        y.backward(torch.from_numpy(dy).double())
        out |= {name: y, name + "_dgate": a.grad, name + "_dup": b.grad}
    g.save(f"{N}x{H}", gate=gate, up=up, dy=dy, **out)

N, C, H = 5, 6, 11
mlp = LlamaMLP(LlamaConfig(hidden_size=C, intermediate_size=H, hidden_act="silu", mlp_bias=False,
                           num_attention_heads=2)).double()
w = {"gate_proj": g.normal(H, C), "up_proj": g.normal(H, C), "down_proj": g.normal(C, H)}
with torch.no_grad():
    for name, value in w.items():
        getattr(mlp, name).weight.copy_(torch.from_numpy(value))
x, dy = g.normal(N, C), g.normal(N, C)
xd = double(x)
y = mlp(xd)
y.backward(torch.from_numpy(dy).double())
g.save("llama", x=x, dy=dy, y=y, dx=xd.grad, **w, **{"d" + n: getattr(mlp, n).weight.grad for n in w})
g.write()
