"""Golden values of @cnn_train: torch.optim.SGD with momentum on a torch.nn.Sequential of the same layers, all pictures
in each batch, in float64 on the float32 weights and pictures that the test reads back."""
import torch
from torch import nn

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=19)
for name, norm in [("norm", True), ("plain", False)]:
    layer = lambda i, o: [nn.Conv2d(i, o, 3, 1, 1)] + [nn.BatchNorm2d(o)] * norm + [nn.ReLU(), nn.MaxPool2d(2)]
    net = nn.Sequential(*layer(1, 2), *layer(2, 4), nn.Flatten(), nn.Linear(4, 3)).double()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.from_numpy(0.5 * g.normal(*p.shape)).double())
    flat = lambda ts: torch.cat([t.detach().ravel() for t in ts])
    label = [0, 1, 2, 0, 1, 2, 2]
    x = g.normal(7, 1, 6, 6)
    g.save(name, x=x, label=label, w=flat(net.parameters()))
    sgd = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for step in range(5):
        sgd.zero_grad()
        loss = nn.functional.cross_entropy(net(torch.from_numpy(x).double()), torch.tensor(label))
        loss.backward()
        sgd.step()
    net.eval()
    g.save(name, after=flat(net.parameters()), loss=[loss.item()], z=net(torch.from_numpy(x).double()))
g.write()
