"""Golden values of @bpe_train: the merges that Hugging Face's BpeTrainer finds, in its order. Longer texts are compared
here, through llm.h as a shared library."""
import ctypes
import random
from pathlib import Path

from bpe import TEXT, train  # bpe.py beside this file
from unicode import library

from golden import Golden  # tests/golden.py: writes named arrays as text


class Merge(ctypes.Structure):
    _fields_ = [("left", ctypes.c_int), ("right", ctypes.c_int), ("result", ctypes.c_int)]


def main():
    g, rng, lib = Golden(__file__, seed=15), random.Random(15), library()
    lib.llm_bpe_train.restype = ctypes.c_bool
    lib.llm_bpe_decode.restype = ctypes.c_bool

    def own(text, vocab):
        """the merges as pairs of ids: bpe.merge stands behind the table (8 words) and the 256 ids"""
        bpe, error = ctypes.create_string_buffer(4096), ctypes.create_string_buffer(256)
        data = text.encode()
        assert lib.llm_bpe_train(bpe, data, ctypes.c_size_t(len(data)), 0, ctypes.c_size_t(vocab), error), error.value
        fields = ctypes.cast(ctypes.addressof(bpe) + 8 * 8 + 256 * 4, ctypes.POINTER(ctypes.c_size_t))
        merge, n = ctypes.cast(fields[0], ctypes.POINTER(Merge)), fields[2]
        out = [(merge[i].left, merge[i].right) for i in range(n)]
        assert [merge[i].result for i in range(n)] == list(range(256, 256 + n))
        lib.llm_bpe_free(bpe)
        return out

    for turn in range(300):
        letters = rng.choice(["a", "ab", "abc", "abcdefgh =", "\u00e9\u4e2d a"])
        words = ["".join(rng.choice(letters) for _ in range(rng.randrange(1, 80))) for _ in range(rng.randrange(1, 60))]
        text, vocab = " ".join(words), 256 + rng.randrange(500)
        assert own(text, vocab) == train(text, vocab)[0], (turn, text)
    book = (Path(__file__).resolve().parents[2] / "llm.h").read_text()
    assert own(book, 2000) == train(book, 2000)[0]

    letters = "".join(rng.choice("aab") for _ in range(300)) + " " + "".join(rng.choice("abcd e") for _ in range(900))
    g.save("text", prose=list(TEXT.encode()), letters=list(letters.encode()))
    for name, text, vocab in [("prose", TEXT, 2000), ("twice", TEXT * 2, 400), ("letters", letters, 480)]:
        merges, _ = train(text, vocab)
        g.save(name, left=[a for a, _ in merges], right=[b for _, b in merges])
    g.write()


if __name__ == "__main__":
    main()
