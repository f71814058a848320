"""Golden values of @generalization: scikit-learn's cross_val_score on plain folds, NumPy's least squares."""
import numpy as np
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold, cross_val_score

from golden import Golden

g = Golden(__file__, seed=40)
for k, (n, p, folds) in enumerate([(7, 1, 2), (20, 3, 5), (23, 4, 4)]):
    x = g.normal(n, p)
    y = (x @ g.normal(p) + 0.5 * g.normal(n)).astype(np.float32)
    X, Y = x.astype(float), y.astype(float)
    score = -cross_val_score(LinearRegression(fit_intercept=False), X, Y, cv=KFold(folds), scoring="neg_mean_squared_error")
    w = np.linalg.lstsq(X, Y, rcond=None)[0]
    g.save(f"{k}", x=x, y=y, score=score, w=w, risk=[np.mean((X @ w - Y)**2)])
g.write()
