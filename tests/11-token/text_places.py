"""Golden values of @text_places: normal forms of hostile strings, and the characters of the original that each character
stands for, as the library has them."""
import hostile  # tests/hostile.py
import parts  # tests/parts.py
from tokenizers import Tokenizer, models, normalizers

from golden import Golden  # tests/golden.py: writes named arrays as text


def characters(normalizer):
    """the characters of a normalized text with their places: a model that knows each of them"""
    names = {c for text in parts.TEXTS for c in normalizer.normalize_str(text)}
    t = Tokenizer(models.BPE({c: i for i, c in enumerate(sorted(names))}, []))
    t.normalizer = normalizer

    def answer(text):
        e = t.encode(text)
        return [x for token, place in zip(e.tokens, e.offsets) for x in (ord(token), *place)]
    return parts.known(answer)


def main():
    g = Golden(__file__, seed=81)
    parts.save_old(g)
    g.save("hash", **hostile.hashes(hostile.KNOWN, **{f: characters(getattr(normalizers, f)())
                                                     for f in ("NFC", "NFD", "NFKC", "NFKD")}))
    g.write()


if __name__ == "__main__":
    main()
