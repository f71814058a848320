"""Golden values of @rng: Philox from its paper in plain integers, the draws in exact or double arithmetic."""
import cmath
import math
from fractions import Fraction

from golden import Golden  # tests/golden.py: writes named arrays as text

M32 = (1 << 32) - 1


def philox(counter, key):
    """Figure 2 of the paper, on 64-bit halves: R0 L0 R1 L1."""
    r0, l0, r1, l1 = counter
    keys = [((key[0] + i * 0x9E3779B9) & M32, (key[1] + i * 0xBB67AE85) & M32) for i in range(10)]
    for k0, k1 in keys:
        hi0, lo0 = divmod(r0 * 0xD2511F53, 1 << 32)
        hi1, lo1 = divmod(r1 * 0xCD9E8D57, 1 << 32)
        r0, l0, r1, l1 = hi1 ^ l0 ^ k0, lo1, hi0 ^ l1 ^ k1, lo0
    return [r0, l0, r1, l1]


class Stream:
    def __init__(self, seed, first_block=0):
        self.key, self.at = (seed & M32, seed >> 32), 4 * first_block

    def word(self):
        block, lane = divmod(self.at, 4)
        self.at += 1
        return philox((block & M32, block >> 32, 0, 0), self.key)[lane]

    def below(self, n):
        if n <= 1 << 32:  # keep the words whose value has floor(2^32 / n) others, no more
            each = (1 << 32) // n
            while True:
                w = self.word()
                value = w * n >> 32
                first = -(-(value << 32) // n)  # smallest word with this value
                last = -(-(value + 1 << 32) // n) - 1
                if last - w < each:
                    return value
        bits = (n - 1).bit_length()
        while True:
            x = (self.word() << 32 | self.word()) % (1 << bits)
            if x < n:
                return x

    def normals(self, n):  # in pairs, the real and the imaginary part of a point in the plane
        z = []
        while len(z) < n:
            u = float(Fraction(2 * self.word() + 1, 1 << 33))
            point = cmath.rect(math.sqrt(-2 * math.log(u)), math.tau * (self.word() / (1 << 32)))
            z += [point.real, point.imag]
        return z[:n]


def halves(words):
    return [h for w in words for h in (w >> 48, w >> 32 & 65535, w >> 16 & 65535, w & 65535)]


g = Golden(__file__, seed=0)
for i, (seed, block) in enumerate([(0, 0), (1, 0), (2**32, 0), (2**64 - 1, 2**32 - 2), (20261120, 2**40 + 5)]):
    s = Stream(seed, block)
    g.save(f"stream{i}", words=halves([s.word() for _ in range(17)]), uniform=[(s.word() >> 8) / 2**24 for _ in range(7)],
           normal=s.normals(9), single=s.normals(1) + s.normals(1))

# ranges whose rejected share is 0, tiny, 1/4 and nearly 1/2
ranges = [1, 2, 10, 3 << 30, (1 << 31) + 1, (1 << 32) - 1, 1 << 32, (1 << 32) + 1, 1 << 33, 3 << 40, 1 << 63, (1 << 63) + 1]
s = Stream(7)
g.save("below", range=halves(ranges), draws=halves([s.below(n) for n in ranges for _ in range(12)]))
g.write()
