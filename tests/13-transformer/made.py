"""Golden values of @made: the masked net in PyTorch. Run by `make golden`; writes made.txt."""
import sys

del sys.path[0]  # or `import tokenize` and its like find a script of this folder
import numpy as np
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=5)

for name, D, H, layers, order in [("one", 5, 7, 1, [0, 1, 2, 3, 4]), ("two", 6, 8, 2, [3, 0, 5, 1, 4, 2]),
                                  ("three", 3, 4, 3, [2, 1, 0]), ("alone", 1, 2, 1, [0])]:
    place = np.argsort(order) + 1
    degrees = [place] + [np.array([1 + k % (D - 1) if D > 1 else 1 for k in range(H)])] * layers + [place - 1]
    tensors, masks = [], []
    for before, after in zip(degrees, degrees[1:]):  # an output of place m may see numbers up to m - 1
        masks.append(torch.from_numpy((after[:, None] >= before[None, :]).astype(float)))
        for shape in [(len(after), len(before)), (len(after),)]:
            w = np.round(g.normal(*shape) * 64) / 64
            tensors.append(torch.from_numpy(w).double().requires_grad_())
    x = torch.from_numpy(g.coin((4, D), 0.5)).double().requires_grad_()
    h = x
    for l, mask in enumerate(masks):
        h = torch.nn.functional.linear(h, tensors[2 * l] * mask, tensors[2 * l + 1])
        h = torch.relu(h) if l < layers else h
    nats = torch.nn.functional.binary_cross_entropy_with_logits(h, x.detach(), reduction="none").sum(1)
    (0.25 * nats.sum()).backward()
    g.save(name, order=order, w=torch.cat([t.reshape(-1) for t in tensors]), x=x, z=h, nats=nats,
           dw=torch.cat([t.grad.reshape(-1) for t in tensors]), dx=x.grad)
g.write()
