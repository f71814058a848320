"""Golden values of @tokenizer_parts: a file of Qwen's kind, byte-level BPE behind NFC, with added tokens that have flags as
RoBERTa's <mask> has, and for hostile strings the library's ids, places, words and decoded text."""
import hostile  # tests/hostile.py
import parts  # tests/parts.py
from bpe import TEXT, train  # bpe.py beside this file
from tokenizer_text import LLAMA3, tokenizer  # tokenizer_text.py beside this file
from tokenizers import AddedToken, normalizers

from golden import Golden  # tests/golden.py: writes named arrays as text


def main():
    g = Golden(__file__, seed=89)
    parts.save_old(g)
    merges, ranks = train(TEXT, 300)
    t = tokenizer(merges, ranks, pattern=LLAMA3, added=[("<|end|>", True, False)])
    t.normalizer = normalizers.NFC()
    t.add_tokens([AddedToken("Don't", lstrip=True, normalized=True), AddedToken("de", single_word=True, normalized=False),
                  AddedToken("caf\u0065\u0301", normalized=True)])
    parts.save_text(g, "qwen", parts.file(t))
    g.save("hash", **hostile.hashes(9, qwen=parts.known(parts.encoding(t, True))))
    g.write()


if __name__ == "__main__":
    main()
