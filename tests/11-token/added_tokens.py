"""Golden values of @added_tokens: which added tokens Hugging Face tokenizers finds where, with and without permission to
read control tokens. The model behind them knows single bytes only."""
import random

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from golden import Golden  # tests/golden.py: writes named arrays as text

TOKENS = ["<|a|>", "<|ab|>", "<|", "|>", "a|>b", "<|a|><|a|>", "word", "wordy", "\u00e9t\u00e9", "\u4e2d", " ", "\n\n"]
CONTROL = {"<|a|>", "<|ab|>", "a|>b", "wordy", "\n\n"}


def tokenizer(added):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    t = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    t.add_tokens(added)
    return t


def main():
    g, rng = Golden(__file__, seed=16), random.Random(16)
    t = tokenizer([AddedToken(text, normalized=False, special=text in CONTROL) for text in TOKENS])
    assert t.token_to_id(TOKENS[0]) == 256
    atoms = TOKENS + list("<|ab>wordy \n") + ["\u00e9", "x"]
    texts = TOKENS + ["".join(rng.choice(atoms) for _ in range(rng.randrange(1, 9))) for _ in range(150)]
    found = {False: [], True: []}
    for text in texts:
        for special in found:
            t.encode_special_tokens = not special
            e = t.encode(text, add_special_tokens=False)
            hits = []
            for id, (start, end) in zip(e.ids, e.offsets):
                if id >= 256:
                    hits += [id - 256, len(text[:start].encode()), len(text[:end].encode())]
            found[special] += [len(hits) // 3] + hits
    g.save("token", bytes=list("".join(TOKENS).encode()), size=[len(x.encode()) for x in TOKENS],
           special=[x in CONTROL for x in TOKENS])
    g.save("text", bytes=list("".join(texts).encode()), size=[len(x.encode()) for x in texts], with_special=found[True],
           without=found[False])
    g.write()


if __name__ == "__main__":
    main()
