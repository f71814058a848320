"""Golden values of @prediction_error: statsmodels' OLSInfluence and diagnostics in float64."""
import numpy as np
import statsmodels.api as sm
from statsmodels.stats.diagnostic import het_breuschpagan
from statsmodels.stats.stattools import durbin_watson

from golden import Golden

g = Golden(__file__, seed=39)
for n, d in [(5, 1), (13, 3), (40, 4)]:
    x = g.normal(n, d)
    y = (x.sum(1) + g.normal(n) * (1 + abs(x[:, 0]))).astype(np.float32)
    fit = sm.OLS(y.astype(float), sm.add_constant(x.astype(float), prepend=False)).fit()
    i = fit.get_influence()
    g.save(f"{n}", x=x, y=y, residual=fit.resid, leverage=i.hat_matrix_diag, internal=i.resid_studentized_internal,
           external=i.resid_studentized_external, cook=i.cooks_distance[0],
           scalars=[fit.mse_resid, i.ess_press, durbin_watson(fit.resid)],
           bp=het_breuschpagan(fit.resid, sm.add_constant(x.astype(float), prepend=False))[0])
g.write()
