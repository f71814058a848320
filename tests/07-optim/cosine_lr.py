"""Golden values of @cosine_lr: torch's CosineAnnealingLR and CosineAnnealingWarmRestarts, and optax's warmup + cosine."""
import optax
import torch
from torch.optim import lr_scheduler as S

from golden import Golden

g = Golden(__file__, seed=80)


def rates(make, steps):
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    sched, out = make(opt), []
    for _ in range(steps):
        out.append(opt.param_groups[0]["lr"])
        opt.step()
        sched.step()
    return out


g.save("torch", cosine=rates(lambda o: S.CosineAnnealingLR(o, 50, 0.05), 51),
       restarts=rates(lambda o: S.CosineAnnealingWarmRestarts(o, 5, 2, 0.05), 100),
       equal=rates(lambda o: S.CosineAnnealingWarmRestarts(o, 7, 1, 0.0), 40))
s = optax.warmup_cosine_decay_schedule(0.5 / 10, 0.5, 9, 60, 0.05)  # the ramp from 1/10 reaches the peak at step 9
g.save("optax", warmup=[float(s(t)) for t in range(9)])
s = optax.cosine_decay_schedule(0.5, 50, 0.1)
g.save("optax", cosine=[float(s(t)) for t in range(70)])
g.write()
