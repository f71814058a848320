"""Golden values of @csr: SciPy's coo_matrix, csr_matrix, their transpose and products."""
import numpy as np
import scipy.sparse

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=28)
for m, n, k, p in [(1, 1, 1, 1), (5, 7, 20, 3), (8, 3, 12, 5), (6, 6, 0, 2)]:
    row, col, value = g.rng.integers(0, m, k), g.rng.integers(0, n, k), g.normal(k)
    a = scipy.sparse.coo_matrix((value.astype(np.float64), (row, col)), shape=(m, n)).tocsr()
    a.sum_duplicates()
    t = a.T.tocsr()
    t.sort_indices()
    other = scipy.sparse.random(n, p, 0.5, random_state=1, format="csr").astype(np.float32).astype(np.float64)
    c = (a @ other).tocsr()
    c.sort_indices()
    x = g.normal(n, 3)
    g.save(f"{m}x{n}", row=row, col=col, value=value, start=a.indptr, index=a.indices, data=a.data, t_start=t.indptr,
           t_index=t.indices, t_data=t.data, x=x, y=a @ x.astype(np.float64), b_start=other.indptr, b_index=other.indices,
           b_data=other.data, c_start=c.indptr, c_index=c.indices, c_data=c.data)
g.write()
