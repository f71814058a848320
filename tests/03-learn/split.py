"""Golden values of @split: scikit-learn's folds of examples in their order."""
import warnings

import numpy as np
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, TimeSeriesSplit

from golden import Golden

warnings.simplefilter("ignore")
g = Golden(__file__, seed=34)


def folds(splitter, n, *args):
    fold = np.zeros(n)
    for f, (_, test) in enumerate(splitter.split(np.zeros(n), *args)):
        fold[test] = f
    return fold


for n, k in [(3, 3), (7, 2), (13, 5), (20, 4)]:
    label = g.rng.integers(3, size=n)
    g.save(f"{n}/{k}", label=label, plain=folds(KFold(k), n))
    if k <= np.bincount(label).max():  # scikit-learn refuses otherwise
        g.save(f"{n}/{k}", stratified=folds(StratifiedKFold(k), n, label))
for n, k, gap in [(7, 2, 0), (13, 5, 1), (20, 3, 4)]:
    ends = [(train[-1] + 1, test[0], test[-1] + 1) for train, test in TimeSeriesSplit(k, gap=gap).split(np.zeros(n))]
    g.save(f"series/{n}/{k}/{gap}", ends=ends)
sizes = [3, 9, 1, 4, 7, 2, 5]  # all different: scikit-learn leaves open which of two equal groups goes first
group = np.repeat(np.arange(7), sizes)
g.rng.shuffle(group)
g.save("group", group=group, fold=folds(GroupKFold(3), len(group), None, group))
g.write()
