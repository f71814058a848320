"""Golden values of @token_id: the hostile strings in pieces through Python's incremental decoder, and the characters that each
piece touches."""
import codecs

from unicode import characters  # unicode.py beside this file

import hostile  # tests/hostile.py: the strings of tiny_hostile.h
from golden import Golden  # tests/golden.py: writes named arrays as text


def pieces(data, most):
    out, at = [], 0
    while at < len(data):
        n = 1 + len(out) ** 2 % most
        out.append(data[at:at + n])
        at += n
    return out


def stream(most):
    def answer(data):
        decoder, out = codecs.getincrementaldecoder("utf-8")("replace"), []
        for p in pieces(data, most):
            out.append(len(decoder.decode(p).encode()))
        return out + [len(decoder.decode(b"", True).encode())]
    return answer


def offsets(data):
    owner = [k for k, (_, n) in enumerate(characters(data)) for _ in range(n)]
    out, at = [], 0
    for p in pieces(data, 5):
        out += [at, at + len(p), owner[at], owner[at + len(p) - 1] + 1]
        at += len(p)
    return out


def main():
    g = Golden(__file__, seed=20)
    g.save("hostile", **hostile.hashes(hostile.GROUPS, stream5=stream(5), stream1=stream(1), offsets=offsets))
    g.write()


if __name__ == "__main__":
    main()
