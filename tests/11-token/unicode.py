"""The rows of llm_unicode_class in llm.h, and golden values for @unicode, from the character data of the regex module:
    python unicode.py rows > rows.txt
A row holds the code point that it starts with and runs of equal class. A run of length n >= 1 is the character
'#' + 7 * class + min(n, 7) - 1; where n >= 7, n - 7 follows in base 28, lowest digit first, digits as '#' + d, the
last one as '#' + 28 + d. CASED is a run of upper and lower case in turn, upper first (Latin, Cyrillic)."""
import sys

import regex

OTHER, SPACE, NUMBER, MARK, CASED, UPPER, LOWER, LETTER = range(8)
PATTERNS = [(r"\s", SPACE), (r"\p{N}", NUMBER), (r"\p{M}", MARK), (r"[\p{Lu}\p{Lt}]", UPPER), (r"\p{Ll}", LOWER),
            (r"[\p{Lm}\p{Lo}]", LETTER)]


def classes():
    """class of every code point; the patterns exclude each other"""
    text = "".join(map(chr, range(0x110000)))  # surrogates too: they are OTHER
    found = [OTHER] * 0x110000
    for pattern, name in PATTERNS:
        for match in regex.finditer(pattern, text):
            assert found[match.start()] == OTHER
            found[match.start()] = name
    return found


def runs(found):
    def turns(c):
        n = 0
        while c + n < len(found) and found[c + n] == (LOWER if n % 2 else UPPER):
            n += 1
        return n

    c = 0
    while c < len(found):
        name, n = CASED, turns(c)
        if n < 3:
            name, n = found[c], 1
            while c + n < len(found) and found[c + n] == name:
                n += 1
            if name == UPPER and n > 1 and turns(c + n - 1) > 3:
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


def rows(found, width=80):
    out = []
    for c, name, n in runs(found):
        if not out or len(out[-1][1] + spell(name, n)) > width:
            out.append([c, ""])
        out[-1][1] += spell(name, n)
    assert not any("??" in row or "\\" in row or '"' in row for _, row in out)
    return ['    {0x%05X, "%s"},' % tuple(row) for row in out]


if __name__ == "__main__":
    found = classes()
    if sys.argv[1:] == ["rows"]:
        print("\n".join(rows(found)))
        sys.exit()
