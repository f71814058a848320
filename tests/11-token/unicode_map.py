"""The tables of @unicode_map, @unicode_apart, @unicode_normal and @unicode_fold in llm.h, and golden values of @unicode_map, from Unicode
18 (unicodedata2):
    python unicode_map.py compat|canonical|class|lower
prints the lines of one. A line is a string of digits 0 to 91, the printable characters of ASCII without the double quote, the
question mark and the backslash. A number is written in base 46, low digits first, 46 added to the last. A map is a list of entries
code -> codes, sorted: a digit 10 gap + 2 (length - 1) + (run > 1), gap being what lies between two entries (8 and more: 8, and a
number follows), length 5 and more likewise; run - 2 if there is a run of codes one apart whose first value grows by one too; then
each value as its zigzag difference from the last value at that place."""
import sys
from pathlib import Path

import unicodedata2 as ucd

import hostile  # tests/hostile.py: block_hash
from golden import Golden  # tests/golden.py: writes named arrays as text

assert ucd.unidata_version == "18.0.0"
ALPHABET = [chr(c) for c in range(32, 127) if chr(c) not in '"?\\']
EVERY = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def number(v):
    digits = []
    while v >= 46:
        digits.append(v % 46)
        v //= 46
    return digits + [46 + v]


def spell_map(table):
    items, last, after, out, i = sorted(table.items()), [0] * 20, 0, [], 0
    while i < len(items):
        c, values = items[i]
        run = 1
        while i + run < len(items) and items[i + run] == (c + run, [values[0] + run] + values[1:]):
            run += 1
        gap, length = c - after, len(values)
        digits = [10 * min(gap, 8) + 2 * (min(length, 5) - 1) + (run > 1)]
        digits += number(gap - 8) if gap >= 8 else []
        digits += number(length - 5) if length >= 5 else []
        digits += number(run - 2) if run > 1 else []
        for k, v in enumerate(values):
            digits += number(2 * (v - last[k]) if v >= last[k] else 2 * (last[k] - v) - 1)
            last[k] = v
        last[0] += run - 1
        after, i = c + run, i + run
        out.append(digits)
    return out


def lines(groups, width=92):
    digits = "".join(ALPHABET[d] for group in groups for d in group)
    return "\n".join('    "%s",' % digits[i:i + width] for i in range(0, len(digits), width))


def decomposition(c):
    d = ucd.decomposition(chr(c)).split()
    compat = bool(d) and d[0][0] == "<"
    return compat, [int(x, 16) for x in d[compat:]]


def tables():
    compat, canonical, lower = {}, {}, {}
    for c in EVERY:
        is_compat, d = decomposition(c)
        if d and not 0xAC00 <= c < 0xD7A4:
            if is_compat:
                compat[c] = d
            else:  # a third value: never composed
                canonical[c] = d + [0] * (len(d) == 2 and ucd.normalize("NFC", chr(c)) != chr(c))
        small = chr(c).lower()
        if small != chr(c):
            lower[c] = [ord(s) for s in small]
    return compat, canonical, lower


def spell_classes():
    out, after, c = [], 0, 0
    while c < 0x110000:
        k, n = ucd.combining(chr(c)), 1
        while c + n < 0x110000 and ucd.combining(chr(c + n)) == k:
            n += 1
        if k:
            out.append(number(c - after) + number(n) + number(k))
            after = c + n
        c += n
    return out


def table(name):
    compat, canonical, lower = tables()
    return lines(spell_classes() if name == "class" else spell_map({"compat": compat, "canonical": canonical, "lower": lower}[name]))


def in_header(*names):
    header = (Path(__file__).resolve().parents[2] / "llm.h").read_text()
    for name in names:
        assert table(name) in header, f"the table {name} of llm.h is not that of this Unicode"


def main():
    if len(sys.argv) > 1:
        print(table(sys.argv[1]))
        return
    in_header("canonical")
    _, canonical, _ = tables()
    g = Golden(__file__, seed=16)
    answers = [canonical.get(c, []) for c in range(0x110000)]
    g.save("canonical", blocks=[hostile.block_hash(answers[b:b + 4096]) for b in range(0, 0x110000, 4096)],
           count=len(canonical))
    g.write()


if __name__ == "__main__":
    main()
