"""Golden values of @token_model: small models that the library trains, and the ids that it gives hostile strings as single
words, with the places where they end."""
import hostile  # tests/hostile.py
import parts  # tests/parts.py
from tokenizers import Tokenizer

from golden import Golden  # tests/golden.py: writes named arrays as text


def ids(t):
    def answer(text):
        e = t.encode(text, add_special_tokens=False)
        return [x for id, place in zip(e.ids, e.offsets) for x in (id, place[1])]
    return parts.known(answer)


def bare(t):
    """the model alone"""
    return Tokenizer(t.model)


def main():
    g = Golden(__file__, seed=84)
    parts.save_old(g)
    t = dict(fallback=bare(parts.pieces(60)), lost=bare(parts.pieces(100, fallback=False, fuse=False)),
             wordpiece=bare(parts.wordpiece(180)), unigram=parts.unigram(60)[0])
    answers = {}
    for name in t:
        parts.save_text(g, name, parts.file(t[name]))
        answers[name] = ids(t[name])
    answers["fused"] = ids(bare(parts.pieces(100, fallback=False))) # the same, unknown characters in a row are one
    g.save("hash", **hostile.hashes(9, **answers))
    g.write()


if __name__ == "__main__":
    main()
