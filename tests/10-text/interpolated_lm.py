"""Golden values of @interpolated_lm: the recursion over dictionaries of tuples, in exact fractions; no library has this
form with an add-one unigram. Run by `make golden`; writes interpolated_lm.txt."""
import math
from collections import Counter
from fractions import Fraction

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=10)
V = 6
text = [int(t) for t in g.rng.choice(V - 1, 40, p=[0.4, 0.3, 0.15, 0.1, 0.05])]  # token 5 never occurs
held = [int(t) for t in g.rng.integers(0, V, 25)]


def prob(context, w, d):
    if not context:
        return Fraction(text.count(w) + 1, len(text) + V)
    n = len(context)
    grams = Counter(tuple(text[i:i + n + 1]) for i in range(len(text) - n))
    after = {k[-1]: c for k, c in grams.items() if k[:-1] == context}
    shorter = prob(context[1:], w, d)
    if not after:
        return shorter
    total = sum(after.values())
    return (max(after.get(w, 0) - d, 0) + d * len(after) * shorter) / total


g.save("in", text=text, held=held)
for order in [1, 2, 3]:
    for d in [Fraction(3, 4), Fraction(1, 2), Fraction(0), Fraction(1)]:
        p = [prob(tuple(held[max(0, i - order + 1):i]), held[i], d) for i in range(len(held))]
        g.save(f"order{order}_{float(d)}", p=[float(x) for x in p],
               nats=-math.fsum(math.log(x) for x in p[1:]) if min(p) > 0 else math.inf)

g.write()
