"""Golden values of @unigram_train: a step of expectation maximization over all segmentations written out, with SciPy's
digamma; the loss of each piece likewise; and a model that SentencePiece has trained on the same text."""
import itertools
import math
import random

import numpy as np
from pieces import MORE, model, save_model  # pieces.py beside this file
from bpe import TEXT
from scipy.special import digamma

from golden import Golden  # tests/golden.py: writes named arrays as text

WORDS = {"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5, "hugging": 3, "unhug": 1, "ggg": 2}
PIECES = list("hugpnbsi") + ["hug", "ug", "un", "pu", "gg", "hugs", "ging", "pun", "bu", "gs", "unh"]


def ways(word, score):
    """(segmentation, log probability) of all ways to cut the word, the best first"""
    out = []
    for cuts in itertools.product([0, 1], repeat=len(word) - 1):
        ends = [i + 1 for i, c in enumerate(cuts) if c] + [len(word)]
        parts = [word[a:b] for a, b in zip([0] + ends, ends)]
        if all(p in score for p in parts):
            out.append((parts, sum(score[p] for p in parts)))
    return sorted(out, key=lambda w: -w[1])


def step(score, words):
    n, likelihood = dict.fromkeys(score, 0.0), 0.0
    for word, count in words.items():
        all = ways(word, score)
        total = np.logaddexp.reduce([p for _, p in all])
        likelihood += count * total
        for parts, p in all:
            for part in parts:
                n[part] += count * math.exp(p - total)
    return n, likelihood


def losses(score, words):
    n, F = dict.fromkeys(score, 0.0), dict.fromkeys(score, 0.0)
    for word, count in words.items():
        best = ways(word, score)[0][0]
        for part in best:
            n[part] += count
        for part in set(best):
            F[part] += count
    total, out = sum(n.values()), {}
    for piece in score:
        all = ways(piece, score)
        if len(all) == 1:
            out[piece] = math.inf
        elif len(all[0][0]) > 1 or n[piece] == 0:
            out[piece] = 0.0
        else:
            other, rest = all[1][0], 0.0
            new = total + n[piece] * (len(other) - 1)
            for part in other:
                rest += math.log(n[part] + n[piece]) - math.log(new)
            out[piece] = F[piece] / sum(words.values()) * (math.log(n[piece] / total) - rest)
    return out


def main():
    g, rng = Golden(__file__, seed=44), random.Random(44)
    score = {p: -rng.uniform(1, 3) - 0.8 * len(p) for p in PIECES}
    n, likelihood = step(score, WORDS)
    text = lambda words: {"bytes": list("".join(words).encode()), "size": [len(w.encode()) for w in words]}
    g.save("word", **text(WORDS), count=list(WORDS.values()))
    psi = {p: max(c, 0.5) if len(p) == 1 else c for p, c in n.items() if c >= 0.5 or len(p) == 1}
    total, kept = sum(psi.values()), list(psi)
    g.save("piece", **text(PIECES), score=list(score.values()), likelihood=[likelihood],
           log=[math.log(c / sum(n.values())) for c in n.values()], kept=[PIECES.index(p) for p in kept],
           psi=[digamma(psi[p]) - digamma(total) for p in kept], loss=list(losses(score, WORDS).values()))
    sp = model("unigram", 160, character_coverage=1.0, split_by_unicode_script=False, split_by_number=False,
               split_by_whitespace=True, max_sentencepiece_length=16)
    save_model(g, sp, prefix="trained")
    g.save("trained", text=list((TEXT + MORE).replace("\n", " ").encode()))
    g.write()


if __name__ == "__main__":
    main()
