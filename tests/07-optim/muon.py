"""Golden values of @muon: 50 steps of torch.optim.Muon on five gradients taken in turn, with every option. Its Newton-Schulz
runs in bfloat16 by design; here torch.bfloat16 is float64 while it runs, so that the iteration itself is compared. The orthogonalized
matrices also by optax.contrib.muon's, in double."""
import jax
import numpy as np
import torch

from golden import Golden

jax.config.update("jax_enable_x64", True)
from optax.contrib._muon import orthogonalize_via_newton_schulz  # noqa: E402

torch.bfloat16 = torch.float64
single = lambda x: float(np.float32(x))
g = Golden(__file__, seed=79)
cases = {
    "wide": ((3, 5), {}),
    "tall": ((7, 3), dict(lr=0.02, momentum=0.8)),
    "adamw": ((5, 4), dict(lr=0.05, adjust_lr_fn="match_rms_adamw", weight_decay=0.3, nesterov=False)),
    "spectral": ((2, 6), dict(lr=0.1, adjust_lr_fn="spectral_unclamped", weight_decay=0.0)),
    "cubic": ((3, 3), dict(lr=0.03, ns_coefficients=(1.5, -0.5, 0.0), ns_steps=12, eps=50.0)),
    "one": ((1, 1), dict(lr=0.01)),
}
rules = {None: 0, "match_rms_adamw": 1, "spectral_unclamped": 2}
for name, (shape, options) in cases.items():
    options = {k: single(v) if isinstance(v, float) else tuple(map(single, v)) if k == "ns_coefficients" else v for k, v in options.items()}
    options.setdefault("ns_coefficients", tuple(map(single, (3.4445, -4.7750, 2.0315))))
    options.setdefault("weight_decay", single(0.1)), options.setdefault("momentum", single(0.95)), options.setdefault("lr", single(1e-3))
    w0, grads = g.normal(*shape), g.normal(5, *shape)
    w = torch.nn.Parameter(torch.from_numpy(w0).double())
    opt = torch.optim.Muon([w], **options)
    d, path = opt.defaults, []
    for t in range(50):
        w.grad = torch.from_numpy(grads[t % 5]).double()
        opt.step()
        path.append(w.detach().clone())
    config = [d["lr"], d["momentum"], d["weight_decay"], *d["ns_coefficients"], d["eps"], d["ns_steps"], rules[d["adjust_lr_fn"]], d["nesterov"]]
    g.save(name, config=config, shape=list(shape), w0=w0, g=grads, w=torch.stack([path[t] for t in (0, 1, 9, 49)]),
           m=opt.state[w]["momentum_buffer"])

for shape in ((4, 9), (9, 4), (1, 3), (5, 5)):
    u = g.normal(*shape)
    x = orthogonalize_via_newton_schulz(jax.numpy.asarray(u, "float64"), jax.numpy.asarray([3.4445, -4.7750, 2.0315]), ns_steps=5, eps=1e-12)
    g.save(f"{shape[0]}x{shape[1]}", u=u, x=np.asarray(x))
g.write()
