"""Golden values of @comp_graph: networkx decides which edge lists have a cycle."""
import networkx as nx
import numpy as np

from golden import Golden

g = Golden(__file__, seed=33)
rng = np.random.default_rng(33)
for case in range(40):
    n = int(rng.integers(2, 14))
    name = rng.permutation(n)  # numbers in any order, so that nothing is sorted already
    a, b = np.full(n, -1), np.full(n, -1)
    for i in range(1, n):  # reads one or two of those before it
        a[name[i]] = name[rng.integers(i)]
        if rng.random() < 0.7:
            b[name[i]] = name[rng.integers(i)]
    if case % 2:  # one edge turned back: often, not always, a cycle
        i, j = sorted(rng.choice(n, 2, replace=False))
        b[name[i]] = name[j]
        if a[name[i]] < 0:
            a[name[i]], b[name[i]] = b[name[i]], -1
    d = nx.DiGraph()
    d.add_nodes_from(range(n))
    d.add_edges_from([(s, i) for arr in (a, b) for i, s in enumerate(arr) if s >= 0])
    on_cycle = [0] * n
    for k in nx.strongly_connected_components(d):
        for i in k:
            on_cycle[i] = int(len(k) > 1 or d.has_edge(i, i))
    g.save(f"{case}", a=a, b=b, acyclic=[int(nx.is_directed_acyclic_graph(d))], on_cycle=on_cycle)
g.write()
