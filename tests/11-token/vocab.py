"""Golden values of @vocab: the words of the hostile strings, counted and sorted by Python."""
from collections import Counter

from grapheme import WORD, matches  # grapheme.py beside this file

import hostile  # tests/hostile.py: the strings of tiny_hostile.h
from golden import Golden  # tests/golden.py: writes named arrays as text

CASES = [([], 1, 10**6), (["<unk>", "the"], 2, 10**6), (["<unk>", "<s>", "</s>"], 1, 100), (["a"], 5, 60)]


def main():
    g, counts = Golden(__file__, seed=19), Counter()
    for data in hostile.strings(hostile.GROUPS):
        at = 0
        for n in matches(WORD, data):
            counts[data[at:at + n]] += 1
            at += n
    ranked = sorted(counts.items(), key=lambda wc: (-wc[1], wc[0]))
    g.save("all", words=len(ranked), count=[c for _, c in ranked[:40]])
    for i, (special, least, most) in enumerate(CASES):
        vocab = [s.encode() for s in special]
        vocab = (vocab + [w for w, c in ranked if c >= least and w not in vocab])[:most]
        known = sum(c for w, c in counts.items() if w in set(vocab)) / sum(counts.values())
        g.save(f"case{i}", ids=len(vocab), hash=hostile.block_hash([list(w) for w in vocab]), known=known)
    g.write()


if __name__ == "__main__":
    main()
