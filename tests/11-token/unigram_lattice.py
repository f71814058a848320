"""Golden values of @unigram_lattice: the ten best segmentations by SentencePiece, and expected counts of the pieces by a
forward-backward pass in logarithms over characters, in NumPy."""
import random

import numpy as np
from pieces import model, save_model  # pieces.py beside this file

from golden import Golden  # tests/golden.py: writes named arrays as text


def expected(sp, text):
    """counts of each id and the log probability: sums over all pairs of places, forwards and backwards"""
    n, score = len(text), {sp.id_to_piece(i): sp.get_score(i) for i in range(3, len(sp))}
    edge = np.full((n + 1, n + 1), -np.inf)
    for i in range(n):
        for j in range(i + 1, n + 1):
            edge[i, j] = score.get(text[i:j], -np.inf)
    a, b = np.full(n + 1, -np.inf), np.full(n + 1, -np.inf)
    a[0] = b[n] = 0.0
    for j in range(1, n + 1):
        a[j] = np.logaddexp.reduce(a[:j] + edge[:j, j])
        b[n - j] = np.logaddexp.reduce(edge[n - j, n - j + 1:] + b[n - j + 1:])
    assert abs(a[n] - b[0]) < 1e-9
    count = np.zeros(len(sp))
    for i in range(n):
        for j in range(i + 1, n + 1):
            if edge[i, j] > -np.inf:
                count[sp.piece_to_id(text[i:j])] += np.exp(a[i] + edge[i, j] + b[j] - a[n])
    return count, a[n]


def main():
    g, rng = Golden(__file__, seed=42), random.Random(42)
    sp = model("unigram", 200, character_coverage=1.0)
    save_model(g, sp)
    for k, text in enumerate(["tokenize", "the theme of these", "hahahaha", "lowest newest", "retokenization 2024", "z"]):
        text = text.replace(" ", "\u2581")
        best = sp.nbest_encode_as_proto(text.replace("\u2581", " "), nbest_size=10).nbests
        ids = [[piece.id for piece in b.pieces] for b in best]
        count, total = expected(sp, text)
        data = text.encode()
        g.save(f"text{k}", bytes=list(data), ids=sum(ids, []), count=[len(i) for i in ids], score=[b.score for b in best],
               which=np.flatnonzero(count), expected=count[count > 0], total=[total])
    g.write()


if __name__ == "__main__":
    main()
