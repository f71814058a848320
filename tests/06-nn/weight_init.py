"""Golden values of @weight_init: torch.nn.init's gains and fans, scipy's truncated normal, an LSUV pass in NumPy."""
import numpy as np
import torch
from scipy.stats import truncnorm

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=11)
gain = torch.nn.init.calculate_gain
g.save("torch", gain=[gain("relu"), gain("leaky_relu", 0.01), gain("tanh"), gain("selu"), gain("linear"),
                      gain("sigmoid")])
fans = []
for shape in [(7, 5), (8, 3, 3, 3), (6, 1, 5, 5), (4, 9, 2, 3, 1)]:
    fans += torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
g.save("torch", fans=fans)
g.save("truncated", std=[truncnorm(-c, c).std() for c in (0.5, 1, 2, 3)])

width, N = [4, 3, 2, 6], 7
x = g.normal(N, width[0]) + 0.5
w = [g.normal(o, i) for i, o in zip(width, width[1:])]
h, scaled = x.astype(np.float64), []
for a in w:
    z = h @ a.astype(np.float64).T
    scaled.append(a / z.std())
    h = np.tanh(z / z.std())
g.save("lsuv", x=x, w=np.concatenate([a.ravel() for a in w]), scaled=np.concatenate([a.ravel() for a in scaled]))
g.write()
