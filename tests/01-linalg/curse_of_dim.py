"""Golden values of @curse_of_dim: SciPy's cdist and skew, scikit-learn's NearestNeighbors, the unit ball by the recursion
V_d = V_{d-2} 2 pi / d, and TwoNN as its paper states it (fit by numpy.linalg.lstsq on the sorted 90%)."""
import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import skew
from sklearn.neighbors import NearestNeighbors

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=30)
ball = [1.0, 2.0]
for d in range(2, 41):
    ball.append(ball[d - 2] * 2 * np.pi / d)
g.save("ball", log=np.log(ball))
for N, d in [(12, 2), (31, 3), (40, 10)]:
    x, query = g.normal(N, d), g.normal(d)
    xd = x.astype(np.float64)
    dist = cdist(xd, xd, "sqeuclidean")
    np.fill_diagonal(dist, np.inf)
    to = np.sqrt(((xd - query.astype(np.float64)) ** 2).sum(1))
    near = NearestNeighbors(n_neighbors=6).fit(xd).kneighbors(xd)
    occurs = np.bincount(near[1][:, 1:6].ravel(), minlength=N)
    log_mu = np.sort(np.log(near[0][:, 2] / near[0][:, 1]))
    used = int(N * 0.9)
    slope = np.linalg.lstsq(log_mu[:used, None], -np.log(1 - np.arange(1, used + 1) / N), rcond=None)[0]
    length = np.linalg.norm(xd, axis=1)
    g.save(f"{N}x{d}", x=x, query=query, dist0=dist[0], contrast=[to.max() / to.min() - 1], occurs=occurs,
           skew=[skew(occurs)], twonn=slope, shell=[length.mean(), length.std(ddof=1)])
g.write()
