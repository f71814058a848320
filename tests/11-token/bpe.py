"""Golden values of @bpe: merges that Hugging Face's BpeTrainer finds, and the ids that tiktoken gives with them as ranks.
Many more strings than the golden file holds are compared here, through llm.h as a shared library."""
import ctypes
import json
import random

import hostile  # tests/hostile.py: the strings of tiny_hostile.h
import tiktoken
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers.convert_slow_tokenizer import bytes_to_unicode
from unicode import library  # unicode.py beside this file

from golden import Golden  # tests/golden.py: writes named arrays as text

TEXT = """The tokenizer merges the most frequent pair, then the next: low lower lowest, new newer newest, wide wider widest.
No text is unknown to it, neither caf\u00e9 nor \u4e2d\u6587 nor \U0001f600\U0001f600. banana bananas, aaaa aaaaaaaa, abababab; ======== ----
the theme of the thesis is that these themes are then there. 2024 2025 1999 100000 1000000.
    for (i = 0; i < n; i++) {
        sum += x[i] * y[i];
    }
"""


def train(text, vocab, least=2):
    """(left, right) of each merge, and {token bytes: id}, by Hugging Face tokenizers"""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.train_from_iterator([text], trainers.BpeTrainer(vocab_size=vocab, min_frequency=least, show_progress=False,
                                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    model = json.loads(t.to_str())["model"]
    byte = {c: b for b, c in bytes_to_unicode().items()}
    ranks = {bytes(byte[c] for c in token): id for token, id in model["vocab"].items()}
    return [(model["vocab"][a], model["vocab"][b]) for a, b in model["merges"]], ranks


def main():
    g, rng, lib = Golden(__file__, seed=14), random.Random(14), library()
    lib.llm_bpe_encode.restype = lib.llm_bpe_encode_naive.restype = ctypes.c_size_t
    bpe, arena = ctypes.create_string_buffer(4096), ctypes.create_string_buffer(256)  # more than the structs take
    lib.llm_arena_create(arena, ctypes.c_size_t(1 << 20))
    merges, ranks = train(TEXT * 3, 2000)
    assert lib.llm_bpe_create(bpe) & 1
    for rank, (left, right) in enumerate(merges):
        assert lib.llm_bpe_add(bpe, left, right) == 256 + rank
    oracle = tiktoken.Encoding("golden", pat_str=r"[\s\S]+", mergeable_ranks=ranks, special_tokens={})

    def encode(function, piece, *rest):
        ids = (ctypes.c_int * (len(piece) + 1))()
        return list(ids[:function(ids, bpe, piece, ctypes.c_size_t(len(piece)), *rest)])

    def made(size):
        if rng.random() < 0.3:
            return bytes(rng.choice([rng.randrange(256), 0xC3, 0xA9, 0x20, 0x61]) for _ in range(size))
        if rng.random() < 0.3:
            return bytes(rng.choice(b"ab= ") for _ in range(size))
        data = (TEXT * 2).encode()
        at = rng.randrange(len(data) // 2)
        return data[at:at + size]

    pieces = [made(rng.randrange(1, 60)) for _ in range(10000)] + [made(2000) for _ in range(20)]
    for piece in pieces:
        want = oracle._encode_single_piece(piece)
        assert encode(lib.llm_bpe_encode, piece, ctypes.c_float(0), None, arena) == want, piece
        assert encode(lib.llm_bpe_encode_naive, piece) == want, piece
    sample = [TEXT.encode()] + pieces[:110] + [b"a" * 37, b"b", b"ab" * 9]
    ids = [oracle._encode_single_piece(piece) for piece in sample]
    g.save("hostile", **hostile.hashes(hostile.GROUPS, ids=lambda data: oracle._encode_single_piece(data) if data else []))
    g.save("merge", left=[a for a, _ in merges], right=[b for _, b in merges])
    g.save("piece", bytes=list(b"".join(sample)), size=[len(p) for p in sample], ids=sum(ids, []), count=[len(i) for i in ids])
    g.write()


if __name__ == "__main__":
    main()
