"""Golden values of @dropout: masks from a Philox 4x32-10 written here with Python integers from the paper (no library at
hand has it on the CPU), alpha dropout's two values from torch, the ridge penalty by exact expectation in NumPy."""
import numpy as np
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=11)


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        p, q = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(q >> 32) ^ c[1] ^ k[0], q & 0xFFFFFFFF, (p >> 32) ^ c[3] ^ k[1], p & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]  # Random123's known answer


def kept(index, p, seed):
    block = index // 4
    word = philox([block & 0xFFFFFFFF, block >> 32, 0, 0], [seed & 0xFFFFFFFF, seed >> 32])[index % 4]
    return (word >> 8) / 2**24 >= p


for name, n, p, seed, offset in [("a", 13, 0.5, 1, 0), ("b", 40, 0.25, (7 << 32) + 9, 3), ("c", 1, 0.5, 5, 2),
                                 ("d", 17, 0.125, 2, (1 << 34) - 6)]:
    x, dy = g.normal(n), g.normal(n)
    mask = np.array([kept(offset + i, p, seed) for i in range(n)])
    alpha = {}
    for value in (0.0, 2.0):  # the line that kept elements lie on, and where dropped ones go
        y = torch.nn.functional.alpha_dropout(torch.full((2000,), value, dtype=torch.float64), p, training=True)
        alpha[value] = sorted(set(y.tolist()))
    low, at_0 = alpha[0.0]
    slope = (alpha[2.0][1] - at_0) / 2
    g.save(name, x=x, dy=dy, mask=mask, y=mask * x.astype(float) / (1 - p), dx=mask * dy.astype(float) / (1 - p),
           alpha=np.where(mask, at_0 + slope * x.astype(float), low), dalpha=mask * slope * dy.astype(float))

N, C, p = 6, 5, 0.3
x, w, y = g.normal(N, C), g.normal(C), g.normal(N)
plain, total = ((y - x @ w.astype(float)) ** 2).sum(), 0.0
for n in range(N):  # the exact mean over all 2^C masks
    for m in range(2**C):
        keep = np.array([m >> j & 1 for j in range(C)])
        chance = np.prod(np.where(keep, 1 - p, p))
        total += chance * (y[n] - (x[n].astype(float) * keep / (1 - p)) @ w.astype(float)) ** 2
g.save("ridge", x=x, w=w, y=y, plain=[plain], penalty=[total - plain])
g.write()
