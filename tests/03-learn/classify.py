"""Golden values of @classify: scikit-learn's discriminant analyses and Ledoit-Wolf shrinkage in float64."""
import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis

from golden import Golden

g = Golden(__file__, seed=45)
for n, d, K in [(9, 1, 2), (30, 3, 3), (50, 2, 4)]:
    x, q = 2 * g.normal(n, d), 2 * g.normal(5, d)
    label = np.arange(n) % K
    g.rng.shuffle(label)
    x[:, 0] += label
    xd, qd = x.astype(float), q.astype(float)
    lda = LinearDiscriminantAnalysis(solver="lsqr").fit(xd, label)
    qda = QuadraticDiscriminantAnalysis().fit(xd, label)
    centred = xd - np.array([xd[label == k].mean(0) for k in range(K)])[label]
    g.save(f"{n}", x=x, label=label, q=q, lda=lda.predict_log_proba(qd), qda=qda.predict_log_proba(qd),
           shrinkage=ledoit_wolf_shrinkage(centred, assume_centered=True))
    # scikit-learn shrinks each class for itself and averages; here the average is shrunk
    s = centred.T @ centred / n
    s = 0.7 * s + 0.3 * np.trace(s) / d * np.eye(d)
    means = np.array([xd[label == k].mean(0) for k in range(K)])
    score = np.log(np.bincount(label) / n) - 0.5 * np.array([[(v - m) @ np.linalg.solve(s, v - m) for m in means] for v in qd])
    top = score.max(1, keepdims=True)
    g.save(f"{n}", shrunk=score - top - np.log(np.exp(score - top).sum(1, keepdims=True)))
x = g.normal(60, 3) @ np.float32([[2, 1, 0], [0, 1, 0.5], [0, 0, 0.3]])
x = (x - x.mean(0)).astype(np.float32)
g.save("lw", x=x, g=ledoit_wolf_shrinkage(x.astype(float), assume_centered=True))
g.write()
