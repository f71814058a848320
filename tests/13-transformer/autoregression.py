"""Golden values of @autoregression: statsmodels. Run by `make golden`; writes autoregression.txt."""
import sys

del sys.path[0]  # or `import tokenize` and its like find a script of this folder
import numpy as np
from statsmodels.regression.linear_model import burg, yule_walker
from statsmodels.tsa.ar_model import AutoReg
from statsmodels.tsa.arima_process import arma2ma
from statsmodels.tsa.stattools import acovf, levinson_durbin

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=3)

for p, n in [(1, 7), (2, 40), (5, 61)]:
    x = np.zeros(n + 50)
    a = {1: [0.6], 2: [1.2, -0.7], 5: [0.5, 0, -0.3, 0, 0.4]}[p]
    for t in range(p, n + 50):
        x[t] = 0.5 + np.dot(a, x[t - p:t][::-1]) + g.rng.standard_normal()
    x = np.round(x[50:] * 64) / 64
    name = f"ar{p}"
    cov = acovf(x, adjusted=False, fft=False, nlag=p)
    rho, sigma = yule_walker(x, order=p, method="mle", result_object=False)
    _, _, pacf, error, _ = levinson_durbin(cov, nlags=p, isacov=True)
    g.save(name, x=x, mean=x.mean(), cov=cov, yw=rho, yw_variance=sigma**2, yw_k=pacf[1:],
           yw_error=np.r_[cov[0], error[1:]])
    rho, variance = burg(x, order=p)
    g.save(name, burg=rho, burg_variance=variance)
    fit = AutoReg(x, lags=p, trend="c").fit()
    g.save(name, ols=fit.params[1:], ols_c=fit.params[0], ols_variance=fit.sigma2)
    H = 6
    g.save(name, forecast=fit.forecast(H))
    psi = arma2ma(np.r_[1, -fit.params[1:]], [1], lags=H)
    g.save(name, forecast_variance=fit.sigma2 * np.cumsum(psi**2))
g.write()
