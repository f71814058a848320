"""Golden values of @vocab_size: token counts by Hugging Face's tokenizers on the hostile strings, and
curves through them by scipy's curve_fit."""
import numpy as np
from scipy.optimize import curve_fit, minimize_scalar
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

import hostile  # tests/hostile.py: the strings of tiny_hostile.h
from golden import Golden  # tests/golden.py: writes named arrays as text

SIZES = [256, 300, 360, 450, 600, 800, 1100, 1500]


def curve(V, a, b, c):
    return a + b * V**-c


def count(text, size):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.train_from_iterator([text], trainers.BpeTrainer(vocab_size=size, min_frequency=2, show_progress=False,
                                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return len(t.encode(text).ids)


def main():
    g = Golden(__file__, seed=22)
    text = b"\n".join(hostile.string(group, i) for group in range(hostile.MIX) for i in range(hostile.EACH)).decode()
    counts = [count(text, size) for size in SIZES]
    g.save("measured", size=SIZES, tokens=counts, bytes=len(text.encode()))
    rng = np.random.default_rng(22)
    cases = [(np.array(SIZES, float), np.array(counts) / len(text.encode()))]
    for a, b, c, noise in [(0.2, 3.0, 0.4, 0.0), (0.25, 20.0, 0.8, 0.003), (0.1, 1.0, 0.15, 0.0005), (0.3, 900.0, 1.5, 0.002)]:
        V = np.geomspace(256, 65536, 9)
        cases.append((V, (curve(V, a, b, c) + noise * rng.standard_normal(9)).astype(np.float32).astype(float)))
    for i, (V, y) in enumerate(cases):
        V = V.astype(np.float32).astype(float)
        y = y.astype(np.float32).astype(float)
        tries = [curve_fit(curve, V, y, p0=(y[-1] * 0.8, (y[0] - y[-1]) * V[0]**c, c), maxfev=200000, ftol=1e-14, xtol=1e-14, gtol=1e-14)[0]
                 for c in (0.2, 0.5, 1.0)]
        a, b, c = min(tries, key=lambda p: np.sum((curve(V, *p) - y)**2))
        g.save(f"fit{i}", V=V, y=y, abc=[a, b, c])
    best = []
    for N, d in [(1e6, 128.0), (1e8, 768.0), (1e10, 4096.0), (1e10, 1024.0)]:
        f = lambda logV: np.log((N + np.exp(logV) * d) * curve(np.exp(logV), 0.22, 4.0, 0.5))
        grid = np.linspace(np.log(10), np.log(1e8), 20001)
        k = int(np.argmin(f(grid)))
        best += [N, d, np.exp(minimize_scalar(f, bounds=(grid[k - 1], grid[k + 1]), method="bounded", options={"xatol": 1e-12}).x)]
    g.save("best", rows=best)
    g.write()


if __name__ == "__main__":
    main()
