"""Golden values of @curriculum: pacing in NumPy, margins and balanced orders in plain Python, EXP3.S as printed by Graves et al., without
the shift that keeps exponentials small."""
import numpy as np

from golden import Golden

g = Golden(__file__, seed=87)
for start, p in ((0.2, 2.0), (0.05, 3.0), (1.0, 1.5)):
    s, p = float(np.float32(start)), float(np.float32(p))
    t = np.arange(0, 13) / 10.0
    u = np.minimum(t, 1)
    table = [s + (1 - s) * u, (s**p + (1 - s**p) * u) ** (1 / p), s * (1 / s) ** u, np.where(t < 1, np.minimum(1, s * p ** np.floor(10 * t + 1e-9)), 1)]
    g.save(f"pace{start}", start=[s, p], share=np.concatenate(table))

n, K = 11, 3
z, label = g.normal(n, K), g.rng.integers(0, K, n)
margin = [max(z[i, k] for k in range(K) if k != label[i]) - z[i, label[i]] for i in range(n)]
queues = [sorted((i for i in range(n) if label[i] == k), key=lambda i: margin[i]) for k in range(K)]
balanced = []
while any(queues):
    balanced += [q.pop(0) for q in queues if q]
g.save("order", z=z, label=label, margin=margin, plain=np.argsort(margin, kind="stable"), balanced=balanced)

K, eps, rate = 4, 0.05, 0.1
w, rewards = np.zeros(K), g.normal(30)
path, arms = [], g.rng.integers(0, K, 30)
for t in range(1, 31):
    e = np.exp(w)
    p = (1 - eps) * e / e.sum() + eps / K
    scaled = np.zeros(K)
    scaled[arms[t - 1]] = np.float64(rewards[t - 1]) / p[arms[t - 1]]
    a, boosted = 1 / t, np.exp(w + rate * scaled)
    w = np.log([(1 - a) * boosted[i] + a / (K - 1) * sum(boosted[j] for j in range(K) if j != i) for i in range(K)])
    path.append(p)
g.save("bandit", arm=arms, reward=rewards, p=path, w=w)
g.write()
