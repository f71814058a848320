"""Golden values of @pre_tokenize: what the regex module finds with the published patterns, on strings made to be awkward.
Far more strings than the golden file can hold are checked here, through llm.h as a shared library, and the patterns as
llm_pre_tokenize_pattern spells them through the engine of Hugging Face's tokenizers."""
import ctypes
import random
import unicodedata

import regex
from tiktoken_ext import openai_public
from tokenizers import Regex, pre_tokenizers
from unicode import characters, library  # unicode.py beside this file

import hostile  # tests/hostile.py: the strings of tiny_hostile.h
from golden import Golden  # tests/golden.py: writes named arrays as text

SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA3 = SUFFIX + (r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CL100K = (r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"""
          r"""|\s+(?!\S)|\s""")
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+" + SUFFIX + "?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*" + SUFFIX + "?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
PATTERNS = [GPT2, CL100K, O200K, LLAMA3, QWEN2]
COMPILED = [regex.compile(p) for p in PATTERNS]

HOSTILE = [
    "Hello world", "I'm he'll DON'T don't 'S 'ſ Ll'LL", "a  b   c", "tail  ", "\n\n\n", " \n \n x", "x \n  ", "x\n\t y",
    "a\r\nb\r\n\r\n", "1234567 12 3", "½Ⅷ٣४", "(foo)[bar]{x}", "\tfoo\t\tbar", "HelloWorldABC XMLParser aBcD",
    "中文字AB中A", "e\u0301te\u0301 \u0301A \u0301 a", "\u0301", " \u0301", "\u0301A", "\u0301AB", "A\u0301B", "don't'S've",
    "https://a.b/c//d?\n/x", "...\n\n/ ", "\u00a0\u00a0x\u3000y\u2028z\x85", "😀👍🏽 👩\u200d👩 🇩🇪!", "a\x00b\x1c\x1d c",
    "ǅabc ʰabc ªb", "İıſK", "'", " '", "''s", "' s", "  's", "a's's", "0'9", "  0", " \t0", "\r \n", "\ufffd\ufffe x", "-\n\r-/",
    "Ⅷa ⅷA", "ß'ſX", "A'Sb", "中's", "1's", " \r", "\x0b\x0cx", "'\u0301s", "don’t", "x'", "x'l", "x'lL", "'RE're",
]
ATOMS = list(" '  \t\n\r/.(_-0123456789abdelmrstvABDELMRSTVZ") + [
    "'s", "'S", "'ll", "'RE", "'ve", "ſ", "'ſ", "\u0301", "\u0300", "é", "É", "中", "文", "ª", "ʰ", "ǅ", "٣", "½", "Ⅷ", "\u00a0",
    "\u3000", "\u2028", "\x85", "😀", "👍🏽", "\u200d", "ß", "İ", "\ufffd", "\U00010400", "\U00010428", "к", "К", "\x00", "\x1c",
    "  ", "\r\n", "\n\n", "Don't", "HelloWorld", "中A", "aÉ"]
ANYWHERE = [0x250, 0x3000, 0xD800, 0x20000, 0x110000]


def fuzzed(rng):
    def one():
        if rng.random() < 0.9:
            return rng.choice(ATOMS)
        c = rng.randrange(rng.choice(ANYWHERE))
        return chr(c) if not 0xD800 <= c < 0xE000 else "x"
    return "".join(one() for _ in range(rng.randrange(1, 16)))


def spans(pattern, text, lengths):
    """the lengths in bytes of the matches, which must be all of the text; lengths: of each character"""
    ends = [0]
    for n in lengths:
        ends.append(ends[-1] + n)
    at, out = 0, []
    for m in pattern.finditer(text):
        assert m.start() == at and m.end() > at
        at = m.end()
        out.append(ends[m.end()] - ends[m.start()])
    assert at == len(text)
    return out


def want(kind, data):
    code, lengths = zip(*characters(data)) if data else ((), ())
    return spans(COMPILED[kind], "".join(chr(c) if c < 0x110000 else "\ufffd" for c in code), lengths)


def main():
    g, rng, lib = Golden(__file__, seed=12), random.Random(12), library()
    lib.llm_pre_tokenize.restype = ctypes.c_size_t
    lib.llm_pre_tokenize_pattern.restype = ctypes.c_char_p
    own = [lib.llm_pre_tokenize_pattern(kind).decode() for kind in range(5)]
    assert openai_public.r50k_pat_str.startswith("'(?:[sdmt]|ll|ve|re)|")
    assert [own[k] == PATTERNS[k] for k in range(5)] == [True, False, True, True, True]

    def got(kind, data):
        at, out = 0, []
        while at < len(data):
            out.append(lib.llm_pre_tokenize(data[at:], ctypes.c_size_t(len(data) - at), kind))
            at += out[-1]
        return out

    texts = [t.encode() for t in HOSTILE] + [fuzzed(rng).encode() for _ in range(20000)]
    for text in texts[:5000]:  # with broken UTF-8 in it
        broken = bytearray(text)
        for _ in range(rng.randrange(1, 4)):
            broken.insert(rng.randrange(len(broken) + 1), rng.choice([0x80, 0xBF, 0xC3, 0xE2, 0xF0, 0xFF, 0xED, 0xA0]))
        texts.append(bytes(broken))
    spelt = [regex.compile(p) for p in own]
    engine = [pre_tokenizers.Split(Regex(p), "isolated") for p in own]
    published = [openai_public.r50k_pat_str, CL100K, O200K]
    for text in texts:
        for kind in range(5):
            assert got(kind, text) == want(kind, text), (kind, text)
    known = [t for t in texts[:20000] if all(unicodedata.category(c) != "Cn" for c in t.decode())]
    for plain in [t.decode() for t in known]:  # the engine's Unicode is older
        for kind in range(5):
            assert spans(spelt[kind], plain, [len(c.encode()) for c in plain]) == want(kind, plain.encode())
            pieces = [len(piece.encode()) for piece, _ in engine[kind].pre_tokenize_str(plain)]
            assert pieces == want(kind, plain.encode()), (kind, plain)
    for kind, p in enumerate(published):  # what tiktoken has says the same as what was published first
        for text in texts[:20000]:
            plain = text.decode()
            assert spans(regex.compile(p), plain, [len(c.encode()) for c in plain]) == want(kind, text), (kind, text)

    chosen, size = [t.encode() for t in HOSTILE], 0
    chosen += rng.sample(texts[len(HOSTILE):20000], 110) + rng.sample(texts[20100:], 40)
    data = b"".join(chosen)
    packed = data + b"\0" * (len(data) % 2)
    arrays = {"text": [a << 8 | b for a, b in zip(packed[::2], packed[1::2])], "size": [len(t) for t in chosen]}
    for kind, name in enumerate(["gpt2", "cl100k", "o200k", "llama3", "qwen2"]):
        bits, at = [0] * (len(data) // 16 + 1), 0
        for text in chosen:
            for n in want(kind, text):
                at += n
                bits[(at - 1) // 16] |= 1 << (at - 1) % 16  # a pre-token ends with this byte
        arrays[name] = bits
    g.save("spans", **arrays)
    g.save("hostile", **hostile.hashes(hostile.GROUPS, gpt2=lambda data: want(0, data), cl100k=lambda data: want(1, data),
                                       o200k=lambda data: want(2, data), llama3=lambda data: want(3, data),
                                       qwen2=lambda data: want(4, data)))
    g.write()


if __name__ == "__main__":
    main()
