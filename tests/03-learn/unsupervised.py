"""Golden values of @unsupervised: scikit-learn's GaussianMixture from the same start, in float64."""
import warnings

import numpy as np
from sklearn.mixture import GaussianMixture

from golden import Golden

warnings.simplefilter("ignore")
g = Golden(__file__, seed=46)
for n, d, K in [(12, 1, 2), (40, 2, 3)]:
    x = g.normal(n, d)
    label = np.arange(n) % K
    x[:, 0] += 3 * label
    r = np.full((n, K), 0.2)
    r[np.arange(n), label] += 1 - 0.2 * K
    g.save(f"{n}", x=x, r=r)
    for shape in ("full", "tied", "diag", "spherical"):
        m = GaussianMixture(K, covariance_type=shape, reg_covar=1e-6, tol=0, max_iter=11, n_init=1)
        xd = x.astype(float)
        m._initialize_parameters(xd, np.random.RandomState(0))
        m._initialize(xd, r)  # an M step
        for _ in range(11):
            log_prob, log_resp = m._e_step(xd)
            m._m_step(xd, log_resp)
        cov = {"full": lambda c: c, "tied": lambda c: np.array([c] * K), "diag": lambda c: np.array([np.diag(v) for v in c]),
               "spherical": lambda c: np.array([v * np.eye(d) for v in c])}[shape](m.covariances_)
        m.converged_ = True
        g.save(f"{n}/{shape}", weight=m.weights_, mean=m.means_, cov=cov, log_p=m.score_samples(xd), bic=m.bic(xd))
g.write()
