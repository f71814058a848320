"""Golden values of @grad_clip: torch's clip_grad_norm_ and clip_grad_value_ in float64, numpy.percentile."""
import numpy as np
import torch

from golden import Golden

g = Golden(__file__, seed=7)
for n in (1, 2, 3, 65):
    x = g.normal(n)
    g.save(f"{n}", g=x)
    for p in (1.0, 2.0, 3.0, float("inf")):
        for max_norm in (0.5, 1e3):
            w = torch.nn.Parameter(torch.zeros(n, dtype=torch.float64))
            w.grad = torch.from_numpy(x).double()
            norm = torch.nn.utils.clip_grad_norm_([w], max_norm, norm_type=p)
            g.save(f"{n}/{p}/{max_norm}", norm=[norm], clipped=w.grad)
    w.grad = torch.from_numpy(x).double()
    torch.nn.utils.clip_grad_value_([w], 0.3)
    g.save(f"{n}/value", clipped=w.grad)
    for q in (0, 10, 50, 97, 100):
        g.save(f"{n}/quantile/{q}", x=[np.percentile(x.astype(np.float64), q)])
g.write()
