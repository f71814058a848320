"""Golden values of @cnn: a torch.nn.Sequential of the same layers, in float64, training and inference, on the float32
weights and pictures that the test reads back."""
import numpy as np
import torch
from torch import nn

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=18)
net = nn.Sequential(nn.Conv2d(2, 4, 3, 1, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
                    nn.Conv2d(4, 6, 3, 2, 1, groups=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)).double()
with torch.no_grad():
    for p in net.parameters():
        p.copy_(torch.from_numpy(0.5 * g.normal(*p.shape)).double())
    net[1].running_mean.copy_(torch.from_numpy(g.normal(4)))
    net[1].running_var.copy_(torch.from_numpy(np.abs(g.normal(4)) + 0.2))
flat = lambda ts: torch.cat([t.detach().ravel() for t in ts])
state = lambda: flat([net[1].running_mean, net[1].running_var])
x, dy = g.normal(3, 2, 7, 6), g.normal(3, 3)
g.save("net", x=x, dy=dy, w=flat(net.parameters()), state=state())
for mode in ["eval", "train"]:
    net.train(mode == "train")
    net.zero_grad()
    xd = torch.from_numpy(x).double().requires_grad_()
    y = net(xd)
    y.backward(torch.from_numpy(dy).double())
    g.save(mode, y=y, dx=xd.grad, dw=flat(p.grad for p in net.parameters()), state=state())
g.write()
