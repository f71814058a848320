"""Golden values of @wordpiece_train: tokens in order of creation by a plain recount at every step. With counts, the same
recount gives Hugging Face's vocabulary here, for its own order of the characters, which is not the same at every run."""
import random

from bpe import TEXT  # bpe.py beside this file
from pieces import MORE
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from golden import Golden  # tests/golden.py: writes named arrays as text

SPECIAL = ["[PAD]", "[UNK]"]


def train(tokens, words, vocab, least, by_score):
    """tokens are extended; words: {word: count} in order"""
    tokens, id = list(tokens), {t: i for i, t in enumerate(tokens)}

    def add(t):
        if t not in id:
            id[t] = len(tokens)
            tokens.append(t)
        return t

    split = {w: [add(("##" if i else "") + c) for i, c in enumerate(w)] for w in words}
    while len(tokens) < vocab:
        single, pair = {}, {}
        for w, n in words.items():
            for a in split[w]:
                single[a] = single.get(a, 0) + n
            for ab in zip(split[w], split[w][1:]):
                pair[ab] = pair.get(ab, 0) + n
        value = {ab: n / (single[ab[0]] * single[ab[1]]) if by_score else n for ab, n in pair.items() if n >= least}
        if not value:
            break
        a, b = min(value, key=lambda ab: (-value[ab], id[ab[0]], id[ab[1]]))
        new = add(a + b[2:])
        for w in words:
            out, i, parts = [], 0, split[w]
            while i < len(parts):
                both = i + 1 < len(parts) and parts[i] == a and parts[i + 1] == b
                out.append(new if both else parts[i])
                i += 2 if both else 1
            split[w] = out
    return tokens


def hugging_face(words, vocab, least):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    t.train_from_iterator([" ".join([w] * n) for w, n in words.items()], trainers.WordPieceTrainer(
        vocab_size=vocab, min_frequency=least, special_tokens=SPECIAL, show_progress=False))
    return [t for t, _ in sorted(t.get_vocab().items(), key=lambda x: x[1])]


def count(words):
    out = {}
    for w in words:
        out[w] = out.get(w, 0) + 1
    return out


def main():
    g, rng = Golden(__file__, seed=46), random.Random(46)
    prose = [w for w, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(TEXT + MORE)]
    made = ["".join(rng.choice("abcd") for _ in range(rng.randrange(1, 9))) for _ in range(60)] + ["aaaaaaa"] * 2
    for turn in range(40):
        words = count("".join(rng.choice("abcde\u00e9"[:rng.randrange(2, 7)]) for _ in range(rng.randrange(1, 9)))
                      for _ in range(rng.randrange(1, 60)))
        vocab, least = rng.randrange(10, 90), rng.randrange(0, 4)
        want = hugging_face(words, vocab, least)
        letters = set(words) and {c for w in words for c in w}
        first = [t for t in want if t in SPECIAL or t in letters or (len(t) == 3 and t[:2] == "##")]
        assert want[:len(first)] == first
        if len(first) <= vocab:
            assert train(first, words, vocab, least, False) == want, (turn, words)
    for name, words in [("prose", count(prose)), ("made", count(made))]:
        data = [w.encode() for w in words]
        g.save(name, bytes=list(b"".join(data)), size=[len(w) for w in data], count=list(words.values()))
        for mode, by_score, least in [("count", False, 1), ("score", True, 3)]:
            tokens = [t.encode() for t in train(SPECIAL, words, 190, least, by_score)]
            g.save(f"{name}/{mode}", bytes=list(b"".join(tokens)), size=[len(t) for t in tokens])
    g.write()


if __name__ == "__main__":
    main()
