"""Golden values of @weight_decay: ridge regression of scikit-learn, intercept not penalised."""
import numpy as np
from sklearn.linear_model import Ridge

from golden import Golden

g = Golden(__file__, seed=710)
X, noise = g.normal(30, 3), g.normal(30)
y = (X @ np.array([1, -2, 0.5], np.float32) + 3 + 0.5 * noise).astype(np.float32)
wd = 0.3  # loss: mean of squares / 2 + wd/2 |w|^2, so alpha = 30 wd
fit = Ridge(alpha=30 * wd).fit(X.astype(float), y.astype(float))
g.save("ridge", X=X, y=y, w=fit.coef_, b=[fit.intercept_])
g.write()
