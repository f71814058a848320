"""Golden values of @logit, from scipy.special."""
import numpy as np
from scipy import special

from golden import Golden

g = Golden(__file__, seed=10)
z = np.float32([-80, -60, -37, -30, -2.5, -1e-8, 0, 1e-8, 0.7, 30, 37, 60, 80]).astype(float)
p = np.float32([1e-38, 1e-6, 0.02, 0.5, 0.75, 0.999999]).astype(float)
g.save("z", z=z, expit=special.expit(z), log_expit=special.log_expit(z), softplus=np.logaddexp(0, z))
g.save("p", p=p, logit=special.logit(p))
g.write()
