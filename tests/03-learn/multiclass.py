"""Golden values of @multiclass: scikit-learn in float64."""
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, f1_score

from golden import Golden

g = Golden(__file__, seed=44)
for n, d, K in [(12, 1, 3), (30, 2, 3), (60, 3, 4)]:
    x = g.normal(n, d)
    label = g.rng.integers(K, size=n)
    x[:, 0] += label
    m = LogisticRegression(C=1 / (0.05 * n), tol=1e-12, max_iter=10 ** 5, solver="newton-cg").fit(x.astype(float), label)
    g.save(f"{n}", x=x, label=label, W=np.column_stack([m.coef_, m.intercept_ - m.intercept_.mean()]))
label, guess = g.rng.integers(4, size=50), g.rng.integers(4, size=50)
guess[:20] = label[:20]
g.save("confusion", label=label, guess=guess, matrix=confusion_matrix(label, guess), f1=f1_score(label, guess, average=None),
       means=[f1_score(label, guess, average=a) for a in ("macro", "weighted", "micro")])
g.write()
