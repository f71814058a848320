"""Golden values of @wordpiece: ids of Hugging Face's WordPiece and of transformers' WordpieceTokenizer over one vocabulary,
and texts of its decoder."""
import collections
import random

import hostile  # tests/hostile.py: the strings of tiny_hostile.h
from bpe import TEXT  # bpe.py beside this file
from pieces import MORE
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers.models.bert import tokenization_bert_legacy as legacy

from golden import Golden  # tests/golden.py: writes named arrays as text

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def vocabulary(words, size):
    """all letters, and the substrings that occur most often, at the start of a word and behind it"""
    count = collections.Counter()
    for word in words:
        for i in range(len(word)):
            for k in range(i + 1, min(len(word), i + 6) + 1):
                count[("##" if i else "") + word[i:k]] += k - i
    letters = sorted({c for word in words for c in word if c < "z"})
    tokens = SPECIAL + letters + ["##" + c for c in letters]
    tokens += [t for t, _ in sorted(count.items(), key=lambda x: (-x[1], x[0]))]
    return list(dict.fromkeys(tokens[:size] + ["##", "##ab", "#", "token##ize", "n't", "'s"]))


def save_text(g, name, texts, **more):
    data = [t.encode() for t in texts]
    g.save(name, bytes=list(b"".join(data)), size=[len(t) for t in data], **more)


def main():
    g, rng = Golden(__file__, seed=45), random.Random(45)
    words = [w for w, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(TEXT + MORE)]
    tokens = vocabulary(words, 260)
    vocab = {t: i for i, t in enumerate(tokens)}
    t = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    oracle = legacy.WordpieceTokenizer(vocab=vocab, unk_token="[UNK]")
    sample = sorted(set(words))[:60] + ["##", "##ab", "#", "###", "token##ize", "a" * 100, "a" * 101, "\u00e9" * 100, "zq"]
    for _ in range(120):
        a, b = rng.choice(words), rng.choice(words)
        sample.append((a[:rng.randrange(1, 6)] + b[rng.randrange(3):])[:12] + rng.choice(["", "", "\u0416", "s"]))
    ids = [t.encode(w).ids for w in sample]
    assert ids == [[vocab[p] for p in oracle.tokenize(w)] for w in sample]
    save_text(g, "token", tokens)
    save_text(g, "word", sample, ids=sum(ids, []), count=[len(i) for i in ids])
    answer = lambda data: sum([t.encode(w).ids for w in data.decode().split(" ") if w], [])
    decoder = decoders.WordPiece(prefix="##", cleanup=True)
    g.save("hostile", **hostile.hashes(
        hostile.VALID, words=answer,
        decoded=lambda data: decoder.decode([tokens[i] for i in answer(data)]).encode()[:4096]))
    lists = [[rng.randrange(4, len(tokens)) for _ in range(rng.randrange(1, 9))] for _ in range(40)]
    marks = [vocab[x] for x in [".", ",", "n't", "'s", "##", "the", "##s"]]
    lists += [[rng.choice(marks) for _ in range(6)] for _ in range(20)]
    save_text(g, "decoded", [decoder.decode([tokens[i] for i in list]) for list in lists], ids=sum(lists, []),
              count=[len(i) for i in lists])
    g.write()


if __name__ == "__main__":
    main()
