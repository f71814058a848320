"""The rows of @unicode in llm.h, and golden values for it, from the character data of the regex module:
    python unicode.py rows
prints the rows. A row holds the code point that it starts with and runs of equal class. A run of n characters is
'#' + 7 kind + min(n, 7) - 1; from 7 on n - 7 follows in base 28, the low digits first, and 28 is added to the last one.
CASED is a run of upper and lower case in turn, upper case first (Latin, Cyrillic, Coptic)."""
import codecs
import ctypes
import itertools
import os
import random
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

import regex

import hostile  # tests/hostile.py: the strings of tiny_hostile.h
from golden import Golden  # tests/golden.py: writes named arrays as text

OTHER, SPACE, NUMBER, MARK, CASED, UPPER, LOWER, LETTER, PUNCT, SYMBOL, FORMAT = range(11)
PATTERNS = [(r"\s", SPACE), (r"\p{N}", NUMBER), (r"\p{M}", MARK), (r"[\p{Lu}\p{Lt}]", UPPER), (r"\p{Ll}", LOWER),
            (r"[\p{Lm}\p{Lo}]", LETTER), (r"\p{P}", PUNCT), (r"\p{S}", SYMBOL), (r"\p{Cf}", FORMAT)]


def classes(patterns=PATTERNS):
    """class of every code point; the patterns exclude each other"""
    text = "".join(map(chr, range(0x110000)))  # surrogates too: they are OTHER
    found = [OTHER] * 0x110000
    for pattern, name in patterns:
        for match in regex.finditer(pattern, text):
            assert found[match.start()] == OTHER
            found[match.start()] = name
    return found


def runs(found, cased=True):
    def turns(c):
        n = 0
        while c + n < len(found) and found[c + n] == (LOWER if n % 2 else UPPER):
            n += 1
        return n

    c = 0
    while c < len(found):
        name, n = CASED, turns(c)
        if n < 3 or not cased:
            name, n = found[c], 1
            while c + n < len(found) and found[c + n] == name:
                n += 1
            if cased and name == UPPER and n > 1 and turns(c + n - 1) > 3:
                n -= 1
        yield c, name, n
        c += n


def spell(name, n):
    digits = [7 * name + min(n, 7) - 1]
    if n >= 7:
        n -= 7
        while n >= 28:
            digits.append(n % 28)
            n //= 28
        digits.append(28 + n)
    return "".join(chr(35 + d) for d in digits)


def rows(found, cased=True, width=80):
    out = []
    for c, name, n in runs(found, cased):
        if not out or len((out[-1][1] + spell(name, n)).replace("\\", "--")) > width:
            out.append([c, ""])
        out[-1][1] += spell(name, n)
    assert not any("??" in row or '"' in row for _, row in out)
    return ['    {0x%05X, "%s"},' % (c, row.replace("\\", "\\\\")) for c, row in out]


def library():
    """llm.h as a shared library, for the scripts that check more than a golden file can hold."""
    root = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory() as folder:
        command = os.environ.get("CC", "cc").split() + ["-std=c99", "-O2", "-fPIC", "-shared", "-DLLM_API=", "-x", "c"]
        subprocess.run(command + [root / "llm.h", "-o", folder + "/llm.so", "-lm"], check=True)
        return ctypes.CDLL(folder + "/llm.so")


def characters(data):
    """(code, bytes) of each character as Python decodes; 0x110000 for each part that it replaces by U+FFFD."""
    broken = []
    codecs.register_error("parts", lambda e: broken.append((e.start, e.end)) or ("\ufffd", e.end))
    text, at, out = data.decode("utf-8", "parts"), 0, []
    for c in text:
        if broken and broken[0][0] == at:
            out.append((0x110000, broken[0][1] - at))
            broken.pop(0)
        else:
            out.append((ord(c), len(c.encode())))
        at += out[-1][1]
    assert not broken and at == len(data)
    return out


def check_decode(lib, data):
    code, at, out = ctypes.c_uint32(), 0, []
    while at < len(data):
        out.append((lib.llm_unicode_decode(ctypes.byref(code), data[at:], ctypes.c_size_t(len(data) - at)), code.value))
        at += out[-1][0]
    assert [(c, n) for n, c in out] == characters(data), data


def main():
    found, lib, g, rng = classes(), library(), Golden(__file__, seed=11), random.Random(11)
    lib.llm_unicode_decode.restype = ctypes.c_size_t
    if sys.argv[1:] == ["rows"]:
        print("\n".join(rows(found)))
        return
    header = (Path(__file__).resolve().parents[2] / "llm.h").read_text()
    assert "\n".join(rows(found)) in header, "the rows of llm.h are not those of this Unicode"
    for c in range(0x110000):  # Python's own data, of an older Unicode: what that knows has not changed
        if (old := unicodedata.category(chr(c))) != "Cn":
            kind = {"L": LETTER, "M": MARK, "N": NUMBER, "P": PUNCT, "S": SYMBOL}.get(old[0], OTHER)
            kind = {"Lu": UPPER, "Lt": UPPER, "Ll": LOWER, "Cf": FORMAT}.get(old, kind)
            assert found[c] in (kind, SPACE) or c == 0x295, hex(c)  # was Ll, is Lo
    for data in [bytes([a, b]) for a in range(256) for b in range(256)]:
        check_decode(lib, data)
    edges = [0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF,
             0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF]
    for _ in range(100000):
        check_decode(lib, bytes(rng.choice(edges) if rng.random() < 0.8 else rng.randrange(256) for _ in range(4)))
        check_decode(lib, bytes(rng.choice([0xE0, 0xED, 0xF0, 0xF4, 0x80, 0x90, 0xA0]) for _ in range(8)))
    data = bytes(rng.choice(edges) for _ in range(700)) + "a\u00e9\u4e2d\U0001f600\ufffd".encode()
    code, size = zip(*characters(data))
    g.save("decode", bytes=list(data), code=code, size=size)
    g.save("hostile", **hostile.hashes(hostile.GROUPS, bytes=list, code=lambda data: sum(characters(data), ())))
    stretch = [(n, name) for name, n in ((name, len(list(same))) for name, same in itertools.groupby(found))]
    g.save("class", stretch=[n * 16 + name for n, name in stretch])
    g.write()


if __name__ == "__main__":
    main()
