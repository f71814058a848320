"""Golden values of @tokenizer_save: a tokenizer.json as Hugging Face tokenizers writes it. What llm.h writes is given to
tokenizers and transformers here, which must load it and give the ids of llm.h on thousands of texts."""
import ctypes
import random
import tempfile

from bpe import TEXT, train  # bpe.py beside this file
from pre_tokenize import fuzzed
from tokenizer_text import tokenizer
from tokenizer_vocab import pack
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from unicode import library

from golden import Golden  # tests/golden.py: writes named arrays as text

CONTROL = ["<|endoftext|>", "<|im_start|>", "<\u4e2d>", "a b"]


class Llm:
    """The C functions; a tokenizer is a buffer that is larger than the struct."""

    def __init__(self):
        self.lib, self.error = library(), ctypes.create_string_buffer(256)
        for name in ("load", "save_json", "encode", "encode_special", "decode", "add_special"):
            getattr(self.lib, "llm_tokenizer_" + name).restype = ctypes.c_bool
        self.lib.llm_bpe_train.restype = ctypes.c_bool

    def call(self, name, *arguments):
        assert getattr(self.lib, name)(*arguments, self.error), self.error.value

    def trained(self, text, vocab, kind):
        bpe, t, data = ctypes.create_string_buffer(4096), ctypes.create_string_buffer(8192), text.encode()
        self.call("llm_bpe_train", bpe, data, ctypes.c_size_t(len(data)), kind, ctypes.c_size_t(vocab))
        self.lib.llm_tokenizer_from_bpe(t, bpe, kind)
        return t

    def loaded(self, path):
        t = ctypes.create_string_buffer(8192)
        self.call("llm_tokenizer_load", t, str(path).encode())
        return t

    def encode(self, t, text, special):
        ids, count, data = ctypes.POINTER(ctypes.c_int)(), ctypes.c_size_t(), text.encode()
        self.call("llm_tokenizer_encode" + ("_special" if special else ""), t, ctypes.byref(ids), ctypes.byref(count), data,
                  ctypes.c_size_t(len(data)))
        out = ids[:count.value]
        ctypes.CDLL(None).free(ids)
        return out


def main():
    g, rng, llm = Golden(__file__, seed=20), random.Random(20), Llm()
    for kind in range(5):
        t = llm.trained(TEXT * 2, 420, kind)
        for text in CONTROL:
            llm.call("llm_tokenizer_add_special", t, text.encode())
        with tempfile.NamedTemporaryFile(suffix=".json") as f:
            llm.call("llm_tokenizer_save_json", t, f.name.encode())
            oracle, fast = Tokenizer.from_file(f.name), PreTrainedTokenizerFast(tokenizer_file=f.name)
        for turn in range(1500):
            text = fuzzed(rng) + rng.choice(["", TEXT[rng.randrange(400):][:40]]) + rng.choice(["", "", *CONTROL]) + fuzzed(rng)
            if not text.isascii() and any(ord(c) > 0x2FFF and c not in TEXT + "\u4e2d" for c in text):
                continue  # the engine's Unicode is older
            oracle.encode_special_tokens = False
            want = oracle.encode(text).ids
            assert llm.encode(t, text, True) == want == fast.encode(text), (kind, text)
            assert oracle.decode(want, skip_special_tokens=False) == text
            oracle.encode_special_tokens = True
            assert llm.encode(t, text, False) == oracle.encode(text).ids, (kind, text)
        llm.lib.llm_tokenizer_free(t)

    merges, ranks = train(TEXT, 2000)
    ranks = {token: id for token, id in ranks.items() if id < 280}
    added = [("<|end|>", True, False), ("the", False, True), ("<\u4e2d>", True, True), ("a\"\\b\n", False, False)]
    file = tokenizer(merges[:24], ranks, added=added).to_str(pretty=False).encode()
    g.save("file", size=[len(file)], text=pack(file))
    g.write()


if __name__ == "__main__":
    main()
