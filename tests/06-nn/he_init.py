"""Golden values of @he_init: the bounds and deviations that torch.nn.init hands to its generators."""
from unittest import mock

import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=12)
bound, std = [], []
with mock.patch.object(torch.Tensor, "uniform_", lambda self, a, b, **_: bound.append(b)), \
        mock.patch.object(torch.Tensor, "normal_", lambda self, mean, s, **_: std.append(s)):
    for shape in [(7, 5), (512, 512), (8, 3, 3, 3), (64, 1, 5, 5)]:
        for mode in ["fan_in", "fan_out"]:
            for a in [0, 0.2]:
                torch.nn.init.kaiming_uniform_(torch.empty(shape), a=a, mode=mode)
                torch.nn.init.kaiming_normal_(torch.empty(shape), a=a, mode=mode)
    g.save("kaiming", bound=bound, std=std)
    bound.clear()
    torch.nn.Linear(5, 7), torch.nn.Conv2d(3, 8, 3)
    g.save("default", bound=bound)  # of w and b, twice
g.write()
