"""Golden values of @conditional: G-tests from SciPy on the Berkeley admissions of 1973."""
import numpy as np
from scipy import stats

from golden import Golden

g = Golden(__file__, seed=8)
t = np.array([[512, 313, 89, 19], [353, 207, 17, 8], [120, 205, 202, 391], [138, 279, 131, 244], [53, 138, 94, 299], [22, 351, 24, 317]])
t = t.reshape(6, 2, 2)


def test(table):
    return stats.chi2_contingency(table, lambda_="log-likelihood", correction=False)


g.save("all", G=[test(t.sum(0)).statistic], p=[test(t.sum(0)).pvalue])
G = sum(test(d).statistic for d in t)
g.save("department", G=[G], p=[stats.chi2.sf(G, 6)])
g.write()
