"""Golden values of @tokenizer_vocab: the vocab.json and merges.txt that Hugging Face tokenizers saves for a small BPE, and
the ids that it gives."""
import tempfile
from pathlib import Path

from bpe import TEXT, train  # bpe.py beside this file
from tokenizer_text import tokenizer

from golden import Golden  # tests/golden.py: writes named arrays as text


def pack(data):
    """two bytes in a number, which keeps the file short"""
    return [a << 8 | b for a, b in zip(data[::2], data[1::2] + b"\0")]


def main():
    g = Golden(__file__, seed=18)
    merges, ranks = train(TEXT[:420], 300)
    t = tokenizer(merges, ranks, added=[])
    with tempfile.TemporaryDirectory() as folder:
        t.model.save(folder)
        vocab, lines = ((Path(folder) / name).read_bytes() for name in ("vocab.json", "merges.txt"))
    g.save("vocab", size=[len(vocab)], text=pack(vocab))
    g.save("merges", size=[len(lines)], text=pack(lines))
    text = TEXT[:300]
    g.save("text", size=[len(text.encode())], text=pack(text.encode()), ids=t.encode(text).ids)
    g.write()


if __name__ == "__main__":
    main()
