"""The strings of tiny_hostile.h: the same generator, with the atoms read from that file, and the hashes that golden files
keep of what a library answers for them.

    g.save("spans", **hostile.hashes(hostile.KNOWN, gpt2=answer)) # spans/gpt2; answer(bytes) -> list of numbers

A library that takes str gets data.decode() for the groups before VALID; KNOWN leaves out the code points that only some
Unicode versions know. `python hostile.py 3 17` prints string 17 of group 3."""
import re
import sys
from pathlib import Path

KNOWN, VALID, GROUPS, MIX, EACH, BLOCK = 11, 12, 13, 10, 200, 10
BROKEN = [0x80, 0x9F, 0xA0, 0xBF, 0xC0, 0xC3, 0xE2, 0xE0, 0xED, 0xF0, 0xF4, 0xFF]
BELOW = [0x250, 0x3000, 0x20000, 0x110000]
MASK = 2**64 - 1


def atoms():
    source = (Path(__file__).parent / "tiny_hostile.h").read_text()
    table = re.search(r"tiny_hostile_atoms\[TINY_HOSTILE_MIX\] = \{(.*?)\};", source, re.S).group(1)
    lists = []
    for part in re.split(r"/\* \d+: [A-Za-z ]+ \*/", table)[1:]:
        text = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', part))
        text = re.sub(r"\\(.)", r"\1", text)
        spell = lambda atom: re.sub("`([0-9A-F]+)`", lambda m: chr(int(m.group(1), 16)), atom)
        lists.append([spell(atom).encode() for atom in text.split(" ")])
    assert len(lists) == MIX
    return lists


ATOMS = atoms()


class Maker:
    def __init__(self, seed):
        self.state, self.text = seed, bytearray()

    def below(self, n):
        self.state = z = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
        return ((z ^ z >> 31) >> 33) % n

    def atom(self, which, times=1):
        self.text += ATOMS[which][self.below(len(ATOMS[which]))] * times


def string(group, i):
    m = Maker(1000 * group + i)
    for _ in range(m.below(4 if i < 40 else 40 if group == 7 else 5 if group == 8 else 24)):
        if group == 8:
            m.atom(8, 1 + m.below(500 if i % 20 == 19 else 60))
            for _ in range(m.below(3)):
                m.atom(8)
            if m.below(3) == 0:
                m.text += b" "
        elif group < MIX:
            m.atom(group)
        else:
            extra = m.below(4) if group > MIX else 1
            m.atom(m.below(MIX))
            if extra == 0 and group == 11:
                c = m.below(BELOW[m.below(4)])
                m.text += chr(c - 0xD800 if 0xD800 <= c < 0xE000 else c).encode()
            elif extra == 0 and m.below(2) == 0:
                m.text.append(BROKEN[m.below(12)])
            elif extra == 0 and m.text:
                m.text.pop()
    return bytes(m.text)


def strings(groups):
    return [string(group, i) for group in range(groups) for i in range(EACH)]


def block_hash(answers):
    h = 2166136261
    for answer in answers:
        answer = [int(a) for a in answer]
        for byte in b"".join(x.to_bytes(4, "little") for x in [len(answer)] + answer):
            h = (h ^ byte) * 16777619 & 0xFFFFFFFF
    return (h ^ h >> 24) & 0xFFFFFF


def hashes(groups, **answers):
    """name: one hash for every ten strings of the first groups, of what each function answers"""
    texts = strings(groups)
    return {name: [block_hash(map(answer, texts[b:b + BLOCK])) for b in range(0, len(texts), BLOCK)]
            for name, answer in answers.items()}


if __name__ == "__main__":
    print(string(int(sys.argv[1]), int(sys.argv[2])))
