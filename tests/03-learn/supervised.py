"""Golden values of @supervised: scikit-learn in float64."""
import numpy as np
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.preprocessing import StandardScaler

from golden import Golden

g = Golden(__file__, seed=33)
for n, m, d, K in [(3, 2, 1, 2), (17, 5, 3, 3), (40, 11, 2, 4)]:
    x, q, y = g.normal(n, d), g.normal(m, d), g.normal(n)
    q[0] = x[n // 2]  # distance 0
    label = g.rng.integers(K, size=n)
    name = f"{n}x{d}"
    g.save(name, x=x, q=q, y=y, label=label)
    for k in (1, 2, 3) if n < 10 else (1, 4, n):
        for weights in ("uniform", "distance"):
            c = KNeighborsClassifier(k, weights=weights, algorithm="brute").fit(x.astype(float), label)
            share = np.zeros((m, K))
            share[:, c.classes_] = c.predict_proba(q.astype(float))
            r = KNeighborsRegressor(k, weights=weights, algorithm="brute").fit(x.astype(float), y.astype(float))
            g.save(f"{name}/{k}/{weights}", share=share, mean=r.predict(q.astype(float)))

x = (g.normal(13, 4) * [1e-3, 1, 1e4, 0] + [0, 5, 1e5, 0.1]).astype(np.float32)
x[3, 1] = x[7, 1] = np.nan
s = StandardScaler().fit(x.astype(float))
g.save("scale", x=x, mean=s.mean_, sd=np.sqrt(np.where(s.var_ > 1e-15, s.var_, 1)), z=np.nan_to_num(s.transform(x.astype(float)) * [1, 1, 1, 0]))
g.write()
