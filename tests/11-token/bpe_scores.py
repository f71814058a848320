"""Golden values of @bpe_scores: ids of SentencePiece's BPE with trained models, with byte fallback and without."""
import random

import hostile  # tests/hostile.py: the strings of tiny_hostile.h
from pieces import model, save_model, save_texts, texts  # pieces.py beside this file

from golden import Golden  # tests/golden.py: writes named arrays as text

USER = ["<|x|>", "token", "tokens"]


def main():
    g, rng = Golden(__file__, seed=43), random.Random(43)
    for name, vocab, more in [("unknown", 200, {"user_defined_symbols": USER}), ("bytes", 420, {"byte_fallback": True})]:
        sp = model("bpe", vocab, character_coverage=0.98, **more)
        sample = texts(rng, 45) + ["a<|x|>b tokens <|x|><|x|", "tokentokentokenstokenize", "z" * 60]
        save_model(g, sp, USER, name)
        g.save("hostile", **hostile.hashes(hostile.VALID, **{name: lambda data: sp.encode(data.decode())}))
        save_texts(g, name + "/text", sample, [sp.encode(t) for t in sample])
    g.write()


if __name__ == "__main__":
    main()
