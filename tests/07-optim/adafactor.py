"""Golden values of @adafactor: 50 steps of transformers.Adafactor in float64 on five gradients of mixed scales, taken
in turn. Vectors, matrices, and matrices with one row or one column, which transformers factors and llm.h does not."""
import numpy as np
import torch
from transformers.optimization import Adafactor

from golden import Golden

g = Golden(__file__, seed=78)
cases = {
    "plain": ((3, 5), {}),
    "warmup": ((5, 2), dict(warmup_init=True)),
    "external": ((2, 3), dict(relative_step=False, scale_parameter=False, lr=0.03)),
    "scaled": ((3, 2), dict(relative_step=False, lr=0.05, eps=(1e-3, 0.5))),
    "momentum": ((2, 7), dict(beta1=0.9, weight_decay=0.3)),
    "clip": ((3, 3), dict(clip_threshold=0.4, decay_rate=-0.5)),
    "vector": ((7,), dict(beta1=0.5)),
    "scalar": ((1,), {}),
    "row": ((1, 4), {}),
    "column": ((3, 1), dict(weight_decay=0.1)),
}
for name, (shape, options) in cases.items():
    n = int(np.prod(shape))
    w0, grads = g.normal(*shape), g.normal(5, *shape)
    grads *= np.float32(10.0) ** (np.arange(n, dtype=np.float32).reshape(shape) % 5 - 2)
    single = lambda x: float(np.float32(x))
    options = {k: tuple(map(single, v)) if k == "eps" else single(v) if isinstance(v, float) else v for k, v in options.items()}
    w = torch.nn.Parameter(torch.from_numpy(w0).double())
    opt = Adafactor([w], **options)
    d = opt.defaults
    path = []
    for t in range(50):
        w.grad = torch.from_numpy(grads[t % 5]).double()
        opt.step()
        path.append(w.detach().clone())
    s = opt.state[w]
    rows, cols = shape if len(shape) == 2 else (1, n)
    if len(shape) == 2 and min(shape) > 1:
        state = [s["exp_avg_sq_row"], s["exp_avg_sq_col"]]
    else:  # R C / mean(R) of one row or column is the squares themselves
        state = [s["exp_avg_sq"]] if len(shape) == 1 else [s["exp_avg_sq_row" if cols == 1 else "exp_avg_sq_col"]]
    if d["beta1"]:
        state.append(s["exp_avg"].ravel())
    config = [d["lr"] or 1e-3, *d["eps"], d["clip_threshold"], -d["decay_rate"], d["beta1"] or 0.0, d["weight_decay"],
              d["relative_step"], d["warmup_init"], d["scale_parameter"]]
    g.save(name, config=config, shape=[rows, cols], w0=w0, g=grads, w=torch.stack([path[t] for t in (0, 1, 9, 49)]),
           state=torch.cat(state))
g.write()
