"""Golden values of @bootstrap: scipy.stats.bootstrap intervals, made from the replicates that SciPy itself drew."""
import numpy as np
from scipy import stats

from golden import Golden

g = Golden(__file__, seed=19)
x = np.float32(np.exp(g.normal(15)))
for i, (name, stat) in enumerate([("mean", np.mean), ("sd", lambda v, axis=-1: np.std(v, axis=axis))]):
    X = x.astype(float)
    out, kept = [], None
    for method in ("percentile", "basic", "BCa"):
        r = stats.bootstrap((X,), stat, n_resamples=499, method=method, confidence_level=0.9, rng=np.random.default_rng(7), vectorized=True)
        kept = r.bootstrap_distribution
        out += [r.confidence_interval.low, r.confidence_interval.high]
    jack = np.array([stat(np.delete(X, j)) for j in range(len(X))])
    g.save(name, t=np.float32(kept), jack=np.float32(jack), value=[stat(X)], ci=out, se=[kept.std(ddof=1)],
           jse=[np.sqrt(14 / 15 * ((jack - jack.mean()) ** 2).sum())])
g.save("x", x=x)
g.write()
