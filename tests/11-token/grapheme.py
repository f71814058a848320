"""The rows of @grapheme in llm.h, and golden values for it: what \\X of the regex module finds.
    python grapheme.py rows
prints the rows, in the coding of unicode.py. Those of @token are written here too: a file token.py would hide the module of
that name in Python."""
import ctypes
import itertools
import random
import sys
from pathlib import Path

import regex
from unicode import characters, classes, library, rows  # unicode.py beside this file

import hostile  # tests/hostile.py: the strings of tiny_hostile.h
from golden import Golden  # tests/golden.py: writes named arrays as text

OTHER, CONTROL, EXTEND, SPACING, _, PICTURE, CONSONANT, LINKER, L, V, T, PREPEND, STARTER = range(13)
PATTERNS = [(r"\p{GCB=CN}|\r|\n", CONTROL), (r"(?V1)[\p{GCB=EX}--\p{InCB=Linker}]", EXTEND), (r"\p{GCB=SM}", SPACING),
            (r"\p{Extended_Pictographic}", PICTURE), (r"\p{InCB=Consonant}", CONSONANT),
            (r"(?V1)[\p{InCB=Linker}&&\p{GCB=EX}]", LINKER), (r"\p{GCB=L}", L), (r"\p{GCB=V}", V), (r"\p{GCB=T}", T),
            (r"\p{GCB=PP}", PREPEND), (r"(?V1)[\p{InCB=Linker}--\p{GCB=EX}]", STARTER)]
# one or two of every class, and those with a rule of their own
SOME = [0x41, 0x20, 0x0D, 0x0A, 0x00, 0xAD, 0x301, 0x1F3FD, 0x200C, 0x200D, 0x903, 0xE33, 0x600, 0x1F468, 0xA9, 0x1F1E9, 0x915,
        0xDB0, 0x94D, 0x1CF5, 0x1100, 0x1161, 0x11A8, 0xAC00, 0xAC01, 0xFFFD]


CLUSTER = regex.compile(r"\X")
TAIL = r"[\p{L}\p{N}\p{M}\p{Cf}]*"
WORD = regex.compile(rf"[\p{{L}}\p{{N}}]{TAIL}(?:['\u2019][\p{{L}}\p{{N}}]{TAIL})*|\s+|\X")
SENTENCES = ["Don't panic, it's 42!", "Gr\u00fc\u00dfe aus K\u00f6ln", "\u041c\u0438\u0440 \u0438 \u0442\u0440\u0443\u0434",
             "\u4f60\u597d\uff0c\u4e16\u754c", "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e",
             "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea"]


def ROWS():
    return rows(classes(PATTERNS), cased=False)


def matches(pattern, data):
    """lengths in bytes; broken parts count as U+FFFD"""
    found = characters(data)
    text, out, at = "".join(chr(c) if c < 0x110000 else "\ufffd" for c, _ in found), [], 0
    for m in pattern.finditer(text):
        assert m.start() == at
        at = m.end()
        out.append(sum(n for _, n in found[m.start():at]))
    assert at == len(text)
    return out


def clusters(data):
    return matches(CLUSTER, data)


def token():
    g = Golden(str(Path(__file__).with_name("token.py")), seed=14)
    g.save("hostile", **hostile.hashes(hostile.GROUPS, word=lambda data: matches(WORD, data),
                                       code=lambda data: [n for _, n in characters(data)],
                                       replaced=lambda data: list(data.decode("utf-8", "replace").encode())))
    rows = [[len(s.encode()), len(s), len(clusters(s.encode())), len(matches(WORD, s.encode()))] for s in SENTENCES]
    g.save("sentence", counts=sum(rows, []))
    g.write()


def main():
    if sys.argv[1:] == ["rows"]:
        print("\n".join(ROWS()))
        return
    header = (Path(__file__).resolve().parents[2] / "llm.h").read_text()
    assert "\n".join(ROWS()) in header, "the rows of llm.h are not those of this Unicode"
    g, rng, lib = Golden(__file__, seed=13), random.Random(13), library()
    lib.llm_grapheme_next.restype = ctypes.c_size_t

    def got(data):
        at, out = 0, []
        while at < len(data):
            out.append(lib.llm_grapheme_next(data[at:], ctypes.c_size_t(len(data) - at)))
            at += out[-1]
        return out

    anywhere = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    found = classes(PATTERNS)
    for c in [c for c in anywhere if found[c] != OTHER] + rng.sample(anywhere, 5000):  # beside what rules speak of
        for text in (chr(c) + "\u0301" + chr(c), "\u094d" + chr(c) + "\u1161", "\u1100" + chr(c) + "\u11a8" + chr(c),
                     "\U0001f468\u200d" + chr(c) + "\U0001f1e9" + chr(c)):
            assert got(text.encode()) == clusters(text.encode()), text
    for _ in range(50000):
        text = "".join(chr(rng.choice(SOME) if rng.random() < 0.9 else rng.choice(anywhere)) for _ in range(rng.randrange(12)))
        assert got(text.encode()) == clusters(text.encode()), ascii(text)
    stretch = [(len(list(same)), name) for name, same in itertools.groupby(found)]
    g.save("class", stretch=[n * 16 + name for n, name in stretch])
    g.save("some", code=SOME, triples=[hostile.block_hash(clusters("".join(map(chr, (a, b, c))).encode()) for c in SOME)
                                       for a in SOME for b in SOME])
    g.save("hostile", **hostile.hashes(hostile.GROUPS, clusters=clusters))
    g.write()
    token()


if __name__ == "__main__":
    main()
