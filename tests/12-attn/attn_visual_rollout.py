"""Golden values of @attn_visual_rollout: rollout by numpy, flow by networkx.maximum_flow_value on the layered graph, norms
by einsum. Run by `make golden`; writes attn_visual_rollout.txt."""
import networkx as nx
import numpy as np

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=31)


def softmax(s):
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


for L, H, T, causal in ((1, 1, 1, 0), (3, 2, 4, 0), (3, 2, 5, 1), (2, 1, 3, 0)):
    s = 2.0 * g.normal(L, H, T, T)
    s = np.where(causal & (np.arange(T)[None] > np.arange(T)[:, None]), -np.inf, s)
    att = softmax(s).astype(np.float32)
    a = 0.5 * att.astype(np.float64).mean(1) + 0.5 * np.eye(T)
    a /= a.sum(-1, keepdims=True)
    rollout = np.linalg.multi_dot(list(a[::-1])) if L > 1 else a[0]
    graph = nx.DiGraph()
    for l in range(L):
        for i in range(T):
            for j in range(T):
                graph.add_edge((l + 1, i), (l, j), capacity=a[l, i, j])
    flow = [[nx.maximum_flow_value(graph, (L, i), (0, j)) for j in range(T)] for i in range(T)]
    g.save(f"{L}-{T}-{causal}", att=att, a=a, rollout=rollout, flow=np.array(flow))

for H, T, D, C in ((1, 1, 1, 1), (2, 3, 2, 5), (3, 4, 1, 2)):
    att, v, wo = softmax(g.normal(H, T, T)).astype(np.float32), g.normal(H, T, D), g.normal(C, H * D)
    each = np.einsum("hij,hjd,chd->ijc", *(x.astype(np.float64) for x in (att, v, wo.reshape(C, H, D))))
    g.save(f"norm{T}", att=att, v=v, wo=wo, norm=np.linalg.norm(each, axis=-1))
g.write()
