"""Golden values of @tanh: torch.tanh, LeCun's scaled form and Gemma's soft cap, autograd in float64 on the float32 inputs
that the test reads back."""
import numpy as np
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=17)
x = np.concatenate([np.array([0, 1e-30, -1e-8, 1e-3, -0.5, 0.55, 1, -1, 3, -10, 20, -50, 100], np.float32), g.normal(10)])
dy = g.normal(len(x))
FORMS = {"plain": torch.tanh, "scaled": lambda v: 1.7159 * torch.tanh(2 * v / 3), "cap": lambda v: 2.5 * torch.tanh(v / 2.5)}
g.save("in", x=x, dy=dy)
for name, form in FORMS.items():
    xd = torch.from_numpy(x).double().requires_grad_()
    y = form(xd)
    y.backward(torch.from_numpy(dy).double())
    g.save(name, y=y, dx=xd.grad)
g.write()
