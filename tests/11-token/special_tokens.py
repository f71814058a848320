"""Golden values of @special_tokens: where Hugging Face tokenizers finds added tokens with every combination of flags, and
what tiktoken makes of a text for every choice of allowed and disallowed tokens. The models behind know bytes only."""
import itertools
import random

import tiktoken
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from golden import Golden  # tests/golden.py: writes named arrays as text

TEXTS = ["<|a|>", "<|b", "<|b|>", "ab", "abc", "\u00e9\u00e9", "b c", "x_", "__", "end", "\n", "|>a", "c\u4e2d", "bcd", "99",
         " d"]
NAMES = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def hugging_face(g, rng):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    t = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    flags = [dict(zip(["single_word", "lstrip", "rstrip", "normalized"], f)) for f in itertools.product([False, True], repeat=4)]
    rng.shuffle(flags)
    special = [k % 3 == 0 for k in range(16)]
    t.add_tokens([AddedToken(x, special=s, **f) for x, s, f in zip(TEXTS, special, flags)])
    atoms = TEXTS + list("abcdx_9 <|>\n") + ["\u00e9", "\u3000", "\u0301", "  ", " \u2003"]
    texts = TEXTS + ["".join(rng.choice(atoms) for _ in range(rng.randrange(1, 12))) for _ in range(110)]
    assert [t.token_to_id(x) for x in TEXTS] == list(range(256, 272))
    found, kept = {False: [], True: []}, []
    for text in texts:
        both = []
        for read in found:
            t.encode_special_tokens = not read
            e = t.encode(text, add_special_tokens=False)
            both.append([(id - 256, len(text[:i].encode()), len(text[:j].encode()))
                         for id, (i, j) in zip(e.ids, e.offsets) if id >= 256])
        # white space that rstrip takes along is searched again there: a newline can be two tokens. Not here.
        if any(a[2] > b[1] for hits in both for a, b in zip(hits, hits[1:])):
            continue
        kept.append(text)
        for read, hits in zip(found, both):
            found[read] += [len(hits)] + [x for hit in hits for x in hit]
    assert len(texts) - 15 < len(kept) < len(texts)
    g.save("token", bytes=list("".join(TEXTS).encode()), size=[len(x.encode()) for x in TEXTS], special=special,
           flags=[f["single_word"] + 2 * f["lstrip"] + 4 * f["rstrip"] + 8 * f["normalized"] for f in flags])
    g.save("text", bytes=list("".join(kept).encode()), size=[len(x.encode()) for x in kept], all=found[True],
           without=found[False])


def main():
    g, rng = Golden(__file__, seed=47), random.Random(47)
    hugging_face(g, rng)
    enc = tiktoken.Encoding("golden", pat_str=r"[\s\S]+", mergeable_ranks={bytes([b]): b for b in range(256)},
                            special_tokens={n: 256 + i for i, n in enumerate(NAMES)})
    texts = ["Hi", "a<|im_end|>b", "<|endoftext|><|im_start|>", "<|im_start|>x<|im_end|>\n<|endoftext|", "<|<|im_end|>|>"]
    ids = []
    for text in texts:
        for allowed, disallowed in itertools.product(range(8), range(8)):
            sets = [{n for i, n in enumerate(NAMES) if s >> i & 1} for s in (allowed, disallowed)]
            try:
                out = enc.encode(text, allowed_special=sets[0], disallowed_special=sets[1] - sets[0])
            except ValueError:
                out = None
            ids += [-1] if out is None else [len(out)] + [i for i in out if i >= 256] + [-2]
    g.save("tiktoken", bytes=list("".join(texts).encode()), size=[len(x) for x in texts], ids=ids)
    g.write()


if __name__ == "__main__":
    main()
