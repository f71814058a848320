"""Golden values of @tokenizer_text: ids that Hugging Face tokenizers gives, with added tokens of every kind in the text and
with each option; the same for many more texts, through llm.h as a shared library, in tokenizer_save.py."""
import random

from bpe import TEXT, train  # bpe.py beside this file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers.convert_slow_tokenizer import bytes_to_unicode

from golden import Golden  # tests/golden.py: writes named arrays as text

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)"
          r"|\s+")
EXTRA = [b" theme", b"banana", b"then", b"\xe4\xb8", b"0 "]  # tokens that no merge makes
ADDED = [("<|end|>", True, False), ("<|e", False, False), ("the", False, True), ("end|>", True, True), ("\n\n", False, True),
         ("<|\u4e2d|>", True, False)]


def tokenizer(merges, ranks, pattern=None, prefix=False, ignore=False, added=ADDED):
    code = bytes_to_unicode()
    spelt = {"".join(code[b] for b in token): id for token, id in ranks.items()}
    name = {id: token for token, id in spelt.items()}
    t = Tokenizer(models.BPE(vocab=spelt, merges=[(name[a], name[b]) for a, b in merges], ignore_merges=ignore))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=pattern is None)
    if pattern:
        t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), t.pre_tokenizer])
    t.decoder = decoders.ByteLevel()
    t.add_tokens([AddedToken(text, special=special, normalized=normalized) for text, special, normalized in added])
    return t


def main():
    g, rng = Golden(__file__, seed=17), random.Random(17)
    merges, ranks = train(TEXT, 2000)
    for token in EXTRA:
        ranks.setdefault(token, len(ranks))
    assert len(ranks) == 256 + len(merges) + len(EXTRA)
    kinds = {"plain": tokenizer(merges, ranks), "prefix": tokenizer(merges, ranks, prefix=True),
             "ignore": tokenizer(merges, ranks, ignore=True), "llama3": tokenizer(merges, ranks, LLAMA3)}
    atoms = [text for text, _, _ in ADDED] + TEXT.split(" ")[:40] + [" ", "\n", " the", "theme", "bananas", "\u4e2d", "<|", "|>"]
    texts = ["", " ", "the", "<|end|>", "<|end|><|end|>", "a<|end|> b", "then the end|>", "<|e<|end|>", TEXT[:200]]
    texts += ["".join(rng.choice(atoms) for _ in range(rng.randrange(1, 8))) for _ in range(44)]
    g.save("merge", left=[a for a, _ in merges], right=[b for _, b in merges])
    g.save("extra", bytes=list(b"".join(EXTRA)), size=[len(x) for x in EXTRA])
    sizes = [len(x.encode()) for x, _, _ in ADDED]
    g.save("added", bytes=list("".join(x for x, _, _ in ADDED).encode()), size=sizes, special=[s for _, s, _ in ADDED],
           normalized=[n for _, _, n in ADDED], id=[kinds["plain"].token_to_id(x) for x, _, _ in ADDED])
    g.save("text", bytes=list("".join(texts).encode()), size=[len(x.encode()) for x in texts])
    for name, t in kinds.items():
        for special in (False, True):
            t.encode_special_tokens = not special
            ids = [t.encode(text, add_special_tokens=False).ids for text in texts]
            g.save(name + ("_special" if special else ""), count=[len(i) for i in ids], ids=sum(ids, []))
    g.write()


if __name__ == "__main__":
    main()
