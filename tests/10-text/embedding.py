"""Golden values of @embedding: torch.nn.Embedding with each option, and torch.optim.SparseAdam."""
import numpy as np
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=10)

for n, v, c in [(1, 1, 1), (7, 3, 2), (20, 11, 3), (23, 31, 2)]:
    ids = g.rng.integers(0, v, n)
    w, dy = g.normal(v, c), g.normal(n, c)
    name = f"{n}x{v}x{c}"
    g.save(name, ids=ids, w=w, dy=dy)
    for kind, options in [("plain", {}), ("padding", {"padding_idx": int(ids[0])}), ("frequency", {"scale_grad_by_freq": True}),
                          ("both", {"padding_idx": int(ids[-1]), "scale_grad_by_freq": True}), ("norm", {"max_norm": 1.2})]:
        layer = torch.nn.Embedding(v, c, _weight=torch.from_numpy(w.copy()), **options)
        y = layer(torch.from_numpy(ids))
        y.backward(torch.from_numpy(dy))
        g.save(f"{name}/{kind}", y=y, dw=layer.weight.grad)
        if kind == "norm":
            g.save(f"{name}/{kind}", w=layer.weight)

# torch divides by the norm + 1e-7, which shows on tiny rows
w = g.normal(2, 3) * np.float32(1e-6)
layer = torch.nn.Embedding(2, 3, max_norm=1e-7, _weight=torch.from_numpy(w.copy()))
layer(torch.tensor([0, 1]))
g.save("tiny", w=w, short=layer.weight)

# five steps of SparseAdam on batches that touch other rows each time
v, c = 9, 4
w = g.normal(v, c)
layer = torch.nn.Embedding(v, c, sparse=True, _weight=torch.from_numpy(w.copy()))
optimizer = torch.optim.SparseAdam(layer.parameters(), lr=0.1, betas=(0.8, 0.95), eps=1e-8)
batches, grads = g.rng.integers(0, v, (5, 6)), g.normal(5, 6, c)
batches[:, 0] = 8
g.save("adam", w=w, ids=batches, dy=grads)
for step in range(5):
    optimizer.zero_grad()
    layer(torch.from_numpy(batches[step])).backward(torch.from_numpy(grads[step]))
    optimizer.step()
    g.save(f"adam/{step}", w=layer.weight)
g.write()
