"""Golden values of @tokenizer_training: token counts by Hugging Face's tokenizers after every merge, on the hostile strings,
and Renyi efficiencies by tokenization-scorer."""
import json
from collections import Counter

import numpy as np
import tokenization_scorer
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

import hostile  # tests/hostile.py: the strings of tiny_hostile.h
from golden import Golden  # tests/golden.py: writes named arrays as text


def main():
    g = Golden(__file__, seed=23)
    text = b"\n".join(hostile.string(group, i) for group in range(hostile.MIX) for i in range(hostile.EACH)).decode()
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.train_from_iterator([text], trainers.BpeTrainer(vocab_size=900, min_frequency=2, show_progress=False,
                                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    model = json.loads(t.to_str())["model"]
    merges, rank = [tuple(m) for m in model["merges"]], []
    for r in list(range(0, 30)) + list(range(30, len(merges) + 1, 61)):  # counted with the first r merges
        part = Tokenizer(models.BPE(vocab=model["vocab"], merges=merges[:r]))
        part.pre_tokenizer = t.pre_tokenizer
        rank += [r, len(part.encode(text).ids)]
    ids = t.encode(text).ids
    used = np.bincount(ids, minlength=len(model["vocab"]))
    words = sum(1 for w in "".join(" " if c in WHITE else c for c in text).split(" ") if w)
    g.save("text", bytes=len(text.encode()), merges=len(merges), curve=rank, used=used, words=words)
    spelt = [[str(i) for i in ids]]
    score = [tokenization_scorer.score(spelt, metric="renyi", power=p) for p in (0.5, 2.0, 2.5, 3.0)]
    p = np.array(list(Counter(ids).values())) / len(ids)
    g.save("efficiency", alpha=[0.5, 2.0, 2.5, 3.0], score=score, kinds=len(p), shannon=-np.sum(p * np.log(p)))
    g.write()


WHITE = {c for c in map(chr, range(0x3001)) if c.isspace() and c not in "\x1c\x1d\x1e\x1f"}

if __name__ == "__main__":
    main()
