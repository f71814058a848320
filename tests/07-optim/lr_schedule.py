"""Golden values of @lr_schedule: torch.optim.lr_scheduler over 120 steps (ReduceLROnPlateau on given losses)."""
import numpy as np
import torch
from torch.optim import lr_scheduler as S

from golden import Golden

g = Golden(__file__, seed=78)


def rates(make, steps=120, lr=0.3):
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    sched, out = make(opt), []
    for _ in range(steps):
        out.append(opt.param_groups[0]["lr"])
        opt.step()
        sched.step()
    return out


g.save("torch", step=rates(lambda o: S.StepLR(o, 17, 0.4)), multistep=rates(lambda o: S.MultiStepLR(o, [10, 45, 90], 0.5)),
       exponential=rates(lambda o: S.ExponentialLR(o, 0.97)), polynomial=rates(lambda o: S.PolynomialLR(o, 80, 2.0)),
       linear=rates(lambda o: S.LinearLR(o, 1.0, 0.0, 100)),
       one_cycle=rates(lambda o: S.OneCycleLR(o, 0.5, total_steps=121, pct_start=0.3)),
       cyclic=rates(lambda o: S.CyclicLR(o, 0.1, 0.6, 7, 11, cycle_momentum=False)),
       noam=rates(lambda o: S.LambdaLR(o, lambda t: 64**-0.5 * min((t + 1) ** -0.5, (t + 1) * 20**-1.5))),
       sequential=rates(lambda o: S.SequentialLR(o, [S.ExponentialLR(o, 0.9), S.StepLR(o, 5, 0.5)], [30])))
for k, (patience, cooldown, least, threshold) in enumerate([(2, 0, 0.0, 1e-4), (3, 4, 0.02, 0.05), (0, 1, 0.0, 1e-4)]):
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    p = S.ReduceLROnPlateau(opt, factor=0.5, patience=patience, cooldown=cooldown, min_lr=least, threshold=threshold)
    losses, out = (1.0 / (1 + np.arange(80) / 20) + 0.05 * g.normal(80)).astype(np.float32), []
    for loss in losses:
        opt.step()
        p.step(float(loss))
        out.append(opt.param_groups[0]["lr"])
    g.save(f"plateau{k}", loss=losses, lr=out)
g.write()
