"""Golden values of @ridge: scikit-learn's Ridge and RidgeCV in float64."""
import numpy as np
from sklearn.linear_model import Ridge, RidgeCV

from golden import Golden

g = Golden(__file__, seed=42)
for n, d in [(5, 1), (13, 4), (7, 20)]:
    x = g.normal(n, d)
    y = (x[:, 0] + 2 + 0.5 * g.normal(n)).astype(np.float32)
    xd, yd = x.astype(float), y.astype(float)
    g.save(f"{n}", x=x, y=y)
    for lam in (0.01, 1, 30):
        m = Ridge(alpha=lam, solver="svd").fit(xd, yd)
        g.save(f"{n}/{lam}", bare=Ridge(alpha=lam, solver="svd", fit_intercept=False).fit(xd, yd).coef_, w=m.coef_,
               b=m.intercept_, left_out=RidgeCV(alphas=[lam], store_cv_results=True).fit(xd, yd).cv_results_.mean())
g.write()
