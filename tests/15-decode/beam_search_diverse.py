"""Golden values of @beam_search_diverse: the algorithm of the paper, in doubles and with lists of tuples, on a table model.
No maintained library has it any more. Run by `make golden`."""
import numpy as np

from golden import Golden

g = Golden(__file__, seed=48)
V, T = 7, 6
table = 2 * g.normal(V * V, V)
table[:, 2] += 1.5
g.save("model", table=table)
logp = table - np.log(np.exp(table.astype(float)).sum(1, keepdims=True))


def search(prompt, G, B, lam, alpha, stops):
    """Each group: [(sum, text)] under way, [(score, text)] ended."""
    groups = [dict(live=[(0.0, ())], done=[], open=True) for _ in range(G)]
    for t in range(1, T + 1):
        said = np.zeros(V)
        for q in groups:
            if not q["open"]:
                continue
            cand = []
            for s, y in q["live"]:
                full = (0,) + tuple(prompt) + y
                row = logp[full[-2] * V + full[-1]]
                cand += [(s + row[v] - lam * said[v], s + row[v], y + (v,)) for v in range(V)]
            cand.sort(key=lambda c: -c[0])
            live = []
            for rank, (_, s, y) in enumerate(cand[:max(2, 1 + len(stops)) * B]):
                ends = y[-1] in stops or t == T
                if ends and rank < B:
                    q["done"].append((s / t ** alpha, y))
                elif not ends and len(live) < B:
                    live.append((s, y))
            q["done"] = sorted(q["done"], key=lambda d: -d[0])[:B]
            q["live"] = live
            for _, y in live:
                said[y[-1]] += 1
            hope = max((s for s, _ in live), default=-np.inf) / t ** alpha
            q["open"] = bool(live) and not (len(q["done"]) == B and hope <= q["done"][-1][0])
        if not any(q["open"] for q in groups):
            break
    return [q["done"] for q in groups]


case = 0
for prompt in ([3], [4, 5]):
    for G, B, lam, alpha, stops in ((1, 3, 5.0, 1.0, [2]), (3, 1, 0.7, 1.0, []), (2, 2, 1.0, 0.5, [2]), (4, 2, 0.3, 0.0, [2, 6]),
                                    (3, 3, 100.0, 1.0, [2])):
        done = search(prompt, G, B, lam, alpha, stops)
        g.save(f"{case}", prompt=prompt, how=[G, B, lam, alpha], stop=stops, count=[len(d) for d in done],
               size=[len(y) for d in done for _, y in d], ids=[v for d in done for _, y in d for v in y],
               score=[s for d in done for s, _ in d])
        case += 1
g.write()
