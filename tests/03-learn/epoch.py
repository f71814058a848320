"""Golden values of @epoch: the indices of torch's DistributedSampler without shuffling, and the orders themselves, from
Philox and Feistel written here in Python's integers: a stored run must find its order again after any change."""
import math

from torch.utils.data import DistributedSampler

from golden import Golden

g = Golden(__file__, seed=42)
for n, ranks in [(1, 1), (7, 3), (8, 4), (2, 5), (23, 4)]:
    for drop in (False, True):
        if drop and n < ranks:
            continue
        every = [list(DistributedSampler(range(n), ranks, r, shuffle=False, drop_last=drop)) for r in range(ranks)]
        g.save(f"{n}x{ranks}x{int(drop)}", index=[i for rank in every for i in rank])

WORD = 2**32


def philox(counter, key):
    """Philox 4x32-10 (Salmon et al. 2011): counter and key as lists of words."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c[0], WORD)
        high1, low1 = divmod(0xCD9E8D57 * c[2], WORD)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) % WORD, (k[1] + 0xBB67AE85) % WORD]
    return c


assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]  # known answer of Random123


def stream(seed):
    block = 0
    while True:
        yield from philox([block % WORD, block // WORD, 0, 0], [seed % WORD, seed // WORD])
        block += 1


def shuffle(n, seed, epoch):
    w = philox([epoch % WORD, epoch // WORD, 1, 0], [seed % WORD, seed // WORD])
    words, order = stream(w[0] * WORD + w[1]), list(range(n))
    for i in reversed(range(1, n)):
        while True:  # uniform in 0..i: the words that would be one too many are drawn again
            j, rest = divmod(next(words) * (i + 1), WORD)
            if rest >= WORD % (i + 1):
                break
        order[i], order[j] = order[j], order[i]
    return order


def feistel(n, seed, epoch):
    bits = max(1, math.ceil(math.log2(n) / 2))
    half, order = 2**bits, []
    for x in range(n):
        while True:
            left, right = divmod(x, half)
            for r in range(6):
                w = philox([right, epoch % WORD, epoch // WORD, 2 + r], [seed % WORD, seed // WORD])
                left, right = right, left ^ w[0] % half
            x = left * half + right
            if x < n:
                break
        order.append(x)
    return order


for n, seed, epoch in [(2, 1, 0), (5, 3, 1), (16, 2**33 + 1, 2), (17, 7, 2**32 + 5), (40, 1, 2)]:
    g.save(f"order/{n}", shuffle=shuffle(n, seed, epoch), at=feistel(n, seed, epoch))
g.write()
