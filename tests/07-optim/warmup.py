"""Golden values of @warmup: transformers' and optax's ramps for steps 0 to 20, and RAdam's factor read off torch.optim.RAdam
under a constant gradient, where m' = 1 and v' = 1, so that each step is lr times the factor."""
import optax
import torch
from transformers import get_constant_schedule_with_warmup

from golden import Golden

g = Golden(__file__, seed=79)
for w in (0, 1, 7, 12):
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    sched, out = get_constant_schedule_with_warmup(opt, w), []
    for _ in range(21):
        out.append(opt.param_groups[0]["lr"])
        opt.step()
        sched.step()
    g.save(f"{w}", transformers=out)
    if w:
        s = optax.warmup_constant_schedule(0.25, 1.0, w)
        g.save(f"{w}", optax=[float(s(t)) for t in range(21)])
for b2 in (0.9, 0.99, 0.999):
    w = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    opt, out, before = torch.optim.RAdam([w], lr=1.0, betas=(0.0, b2), eps=0.0), [], 0.0
    for t in range(1, 41):
        w.grad = torch.ones_like(w)
        opt.step()
        out.append(before - w.item())
        before = w.item()
    g.save(f"radam/{b2}", factor=out)
g.write()
