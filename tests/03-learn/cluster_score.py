"""Golden values of @cluster_score: scikit-learn in float64."""
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score

from golden import Golden

g = Golden(__file__, seed=47)
for n, A, B in [(5, 2, 3), (17, 3, 3), (60, 4, 7)]:
    x, a, b = g.normal(n, 2), g.rng.integers(A, size=n), g.rng.integers(B, size=n)
    b[: n // 2] = a[: n // 2]
    a[0], a[1] = 0, 1
    x[:, 0] += a
    g.save(f"{n}", x=x, a=a, b=b, scores=[adjusted_rand_score(a, b), normalized_mutual_info_score(a, b), silhouette_score(x.astype(float), a)])
g.write()
