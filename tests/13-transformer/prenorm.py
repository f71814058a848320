"""Golden values of @prenorm: the four formulas in PyTorch, float64, around f(h) = tanh(h W). Writes prenorm.txt."""
import numpy as np
import torch
import torch.nn.functional as F

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=141)
N, C = 3, 5
data = {k: np.round(16 * g.normal(*s)) / 16 for k, s in dict(x=(N, C), dy=(N, C), f_w=(C, C), in_w=(C,), in_b=(C,),
                                                             out_w=(C,), out_b=(C,)).items()}
g.save("in", **data)
for kind in ["post", "pre", "sandwich", "deepnorm"]:
    t = {k: torch.from_numpy(v).double().requires_grad_() for k, v in data.items()}
    x, alpha = t["x"], (2 * 6) ** 0.25

    def norm(v, side):
        return F.layer_norm(v, (C,), t[side + "_w"], t[side + "_b"], 1e-5)

    def f(v):
        return torch.tanh(v @ t["f_w"])

    y = {"post": lambda: norm(x + f(x), "out"), "pre": lambda: x + f(norm(x, "in")),
         "sandwich": lambda: x + norm(f(norm(x, "in")), "out"),
         "deepnorm": lambda: norm(alpha * x + f(x), "out")}[kind]()
    y.backward(t["dy"].detach())
    g.save(kind, y=y, **{"d" + k: v.grad for k, v in t.items() if v.grad is not None})

g.write()
