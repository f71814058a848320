"""Golden values of @sinks: the text so far is cut to its first and its last tokens, these are numbered from 0, turned
as complex numbers and attended to densely, anew for each token, in float64. Run by `make golden`; writes sinks.txt."""
import numpy as np

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=41)


def turn(x, position, rot, neighbours):
    """x (n,D) at the positions (n): the pairs of the first rot dimensions as complex numbers."""
    f = 100.0 ** (-2 * np.arange(rot // 2) / rot)
    first = slice(0, rot, 2) if neighbours else slice(0, rot // 2)
    second = slice(1, rot, 2) if neighbours else slice(rot // 2, rot)
    z = (x[:, first] + 1j * x[:, second]) * np.exp(1j * np.outer(position, f))
    y = x.copy()
    y[:, first], y[:, second] = z.real, z.imag
    return y


for T, H, Hkv, D, rot, first, last, neighbours in [(3, 1, 1, 2, 2, 1, 1, 0), (17, 4, 2, 6, 4, 3, 5, 1),
                                                   (23, 3, 1, 4, 4, 4, 2, 0), (9, 2, 2, 2, 2, 0, 3, 0)]:
    q, k, v = g.normal(T, H, D), g.normal(T, Hkv, D), g.normal(T, Hkv, D)
    out = np.zeros((T, H, D))
    for t in range(T):
        kept = [j for j in range(t + 1) if j < first or j > t - last]
        for h in range(H):
            kk = turn(k[kept, h * Hkv // H].astype(float), np.arange(len(kept)), rot, neighbours)
            qq = turn(q[t : t + 1, h].astype(float), np.array([len(kept) - 1]), rot, neighbours)[0]
            p = np.exp(kk @ qq / D**0.5)
            out[t, h] = p / p.sum() @ v[kept, h * Hkv // H]
    g.save(f"{T}x{H}x{Hkv}x{D}x{rot}x{first}x{last}x{neighbours}", q=q, k=k, v=v, out=out)
g.write()
