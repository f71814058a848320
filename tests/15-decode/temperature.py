"""Golden values of @temperature: torch.softmax(z / t), and SciPy's entropy and root finder in float64."""
import numpy as np
import torch
from scipy.optimize import brentq
from scipy.stats import entropy

from golden import Golden

g = Golden(__file__, seed=15)
for n in (1, 2, 3, 7, 33):
    z = g.normal(n) * np.float32(3)
    zd = torch.from_numpy(z).double()
    g.save(f"{n}", z=z)
    for t in (0.5, 1.0, 2.0):
        g.save(f"{n}/{t}", p=torch.softmax(zd / t, 0), h=[entropy(torch.softmax(zd / t, 0).numpy())])
    if n > 1:
        target = 0.4 * np.log(n)
        found = brentq(lambda t: entropy(torch.softmax(zd / t, 0).numpy()) - target, 1e-3, 1e3, xtol=1e-13)
        h1 = entropy(torch.softmax(zd, 0).numpy()) / np.log(n)  # llama.cpp: low + (high - low) * share^exponent
        g.save(f"{n}", match=[target, found], dynamic=[0.4 + 1.2 * h1**0.7])
g.write()
