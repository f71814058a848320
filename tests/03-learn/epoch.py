"""Golden values of @epoch: the indices of torch's DistributedSampler without shuffling."""
from torch.utils.data import DistributedSampler

from golden import Golden

g = Golden(__file__, seed=42)
for n, ranks in [(1, 1), (7, 3), (8, 4), (2, 5), (23, 4)]:
    for drop in (False, True):
        if drop and n < ranks:
            continue
        every = [list(DistributedSampler(range(n), ranks, r, shuffle=False, drop_last=drop)) for r in range(ranks)]
        g.save(f"{n}x{ranks}x{int(drop)}", index=[i for rank in every for i in rank])
g.write()
