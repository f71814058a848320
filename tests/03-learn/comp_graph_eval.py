"""Golden values of @comp_graph_eval: NumPy's broadcasting, torch's cross_entropy."""
import numpy as np
import torch

from golden import Golden

g = Golden(__file__, seed=34)
shapes = [((3, 5), (3, 5)), ((3, 5), (1, 5)), ((3, 1), (3, 5)), ((1, 1), (2, 3)), ((4, 1), (1, 3)), ((1, 1), (1, 1))]
for k, (sa, sb) in enumerate(shapes):
    a, b = g.normal(*sa), g.normal(*sb) + np.float32(3)
    x, y = a.astype(float), b.astype(float)
    g.save(f"{k}", a=a, b=b, add=x + y, sub=x - y, mul=x * y, div=x / y, broadcast=np.broadcast_to(x, np.broadcast_shapes(sa, sb)))
for k, (m, c, n) in enumerate([(1, 1, 1), (2, 3, 5), (7, 4, 1), (19, 11, 9)]):
    a, b = g.normal(m, c), g.normal(c, n)
    x = a.astype(float)
    g.save(f"product{k}", a=a, b=b, y=x @ b.astype(float), rows=x.sum(0), cols=x.sum(1), all=x.sum(),
           relu=np.maximum(x, 0), tanh=np.tanh(x), exp=np.exp(x))
    t = g.rng.integers(0, c, m)
    z = torch.from_numpy(x)
    g.save(f"product{k}", t=t, xent=torch.nn.functional.cross_entropy(z, torch.from_numpy(t)), softmax=z.softmax(1))
g.write()
