"""Golden values of @sublayer: attention to a memory and an MLP, each in the frames post and pre, from PyTorch's own
layers in float64. Writes sublayer.txt."""
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text
from layout import attention, linears, norm, randomize, weights_and_grads

g = Golden(__file__, seed=1301)
B, T, S, C, H, F = 2, 3, 4, 6, 3, 5


class Parts(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.mha = torch.nn.MultiheadAttention(C, H, batch_first=True)
        self.norm, self.up, self.down = torch.nn.LayerNorm(C), torch.nn.Linear(C, F), torch.nn.Linear(F, C)


hidden, blocked = g.coin((B, S), 0.4), g.coin((T, S), 0.3)
hidden[:, 1] = 0
blocked[:, 1] = 0
data = dict(x=g.normal(B, T, C), mem=g.normal(B, S, C), dy=g.normal(B, T, C))
g.save("in", hidden=hidden, blocked=blocked, **data)
for kind in ["post", "pre"]:
    for name in ["attn", "mlp"]:
        m = randomize(g, Parts())
        x, mem = (torch.from_numpy(data[k]).double().requires_grad_() for k in ("x", "mem"))

        def f(h):
            if name == "mlp":
                return m.down(torch.relu(m.up(h)))
            return m.mha(h, mem, mem, key_padding_mask=torch.from_numpy(hidden).bool(),
                         attn_mask=torch.from_numpy(blocked).bool())[0]

        y = m.norm(x + f(x)) if kind == "post" else x + f(m.norm(x))
        y.backward(torch.from_numpy(data["dy"]).double())
        parts = [attention(m.mha) if name == "attn" else linears(m.up, m.down), norm(m.norm)]
        more = dict(dmem=mem.grad) if name == "attn" else {}
        g.save(f"{kind}_{name}", y=y, dx=x.grad, **weights_and_grads(parts), **more)
g.write()
