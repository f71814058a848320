"""Golden values of @ffn: PyTorch autograd and transformers' MLPs in float64. Run by `make golden`; writes ffn.txt."""
import sys

del sys.path[0]  # or `import safetensors` finds a script of this folder
import numpy as np
import torch
import torch.nn.functional as F
from transformers import GPT2Config, LlamaConfig, T5Config
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP
from transformers.models.llama.modeling_llama import LlamaMLP
from transformers.models.t5.modeling_t5 import T5DenseGatedActDense

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=131)
N, C, H = 3, 5, 7


def leaf(*shape):
    return torch.from_numpy(np.round(16 * g.normal(*shape)) / 16).double().requires_grad_()


# written out, with every activation, plain and gated, bias and none
acts = {"relu": F.relu, "gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "silu": F.silu}
for name, act in acts.items():
    for gated in [False, True]:
        p = f"{name}_{'gated' if gated else 'plain'}"
        x, up, down, dy = leaf(N, C), leaf(H, C), leaf(C, H), leaf(N, C)
        w = dict(x=x, up=up, down=down)
        if gated:
            w["gate"] = leaf(H, C)
            y = (act(x @ w["gate"].T) * (x @ up.T)) @ down.T
        else:
            w["up_bias"], w["down_bias"] = leaf(H), leaf(C)
            y = act(x @ up.T + w["up_bias"]) @ down.T + w["down_bias"]
        y.backward(dy.detach())
        g.save(p, dy=dy, y=y, **w, **{"d" + k: t.grad for k, t in w.items()})

# the modules of transformers, to pin names and layouts: y only
x = leaf(N, C)
mlp = GPT2MLP(H, GPT2Config(n_embd=C, resid_pdrop=0.0)).double()
llama = LlamaMLP(LlamaConfig(hidden_size=C, num_attention_heads=1, head_dim=2, intermediate_size=H)).double()
t5 = T5DenseGatedActDense(T5Config(d_model=C, d_ff=H, feed_forward_proj="gated-gelu", dropout_rate=0.0)).double()
for m in [mlp, llama, t5]:
    for p in m.parameters():
        p.data = torch.from_numpy(np.round(16 * g.normal(*p.shape)) / 32).double()
g.save("gpt2", x=x, up=mlp.c_fc.weight.T, up_bias=mlp.c_fc.bias, down=mlp.c_proj.weight.T, down_bias=mlp.c_proj.bias,
       y=mlp(x))
g.save("llama", x=x, gate=llama.gate_proj.weight, up=llama.up_proj.weight, down=llama.down_proj.weight, y=llama(x))
g.save("t5", x=x, gate=t5.wi_0.weight, up=t5.wi_1.weight, down=t5.wo.weight, y=t5(x))

g.write()
