"""Golden values of @foundation: accuracies of scikit-learn's logistic regression. Writes foundation.txt."""
import numpy as np
from sklearn.linear_model import LogisticRegression

from golden import Golden

g = Golden(__file__, seed=5)
for n, M, C, K in [(25, 60, 5, 3), (16, 40, 3, 2)]:
    centre = g.normal(K, C)
    label, wanted = g.rng.integers(K, size=n), g.rng.integers(K, size=M)
    x, held = g.normal(n, C) + centre[label], g.normal(M, C) + centre[wanted]
    m = LogisticRegression(C=1 / (0.1 * n), tol=1e-10, max_iter=10 ** 5).fit(x.astype(float), label)
    p = np.sort(m.predict_proba(held.astype(float)), axis=1)
    assert np.min(p[:, -1] - p[:, -2]) > 1e-3  # no answer is a matter of rounding
    g.save(f"{K}", x=x, label=label, held=held, wanted=wanted, accuracy=m.score(held.astype(float), wanted))
g.write()
