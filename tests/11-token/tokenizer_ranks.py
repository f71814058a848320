"""Golden values of @tokenizer_ranks: a small rank file, trained here, and what tiktoken encodes with it: the hash of the ids of
every ten hostile strings, under three patterns."""
import base64

import hostile  # tests/hostile.py
import tiktoken
from bpe import TEXT, train  # bpe.py beside this file

from golden import Golden  # tests/golden.py: writes named arrays as text

GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)"
          r"|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def main():
    g = Golden(__file__, seed=19)
    _, ranks = train(TEXT + " ".join(s.decode() for s in hostile.strings(6)[::9]), 700)
    file = b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items())
    g.save("file", size=[len(file)], text=[a << 8 | b for a, b in zip(file[::2], file[1::2] + b"\0")])
    for name, pattern in ("gpt2", GPT2), ("llama3", LLAMA3), ("qwen2", QWEN2):
        t = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        g.save("ids", **hostile.hashes(hostile.KNOWN, **{name: lambda text: t.encode(text.decode(), disallowed_special=())}))
    g.write()


if __name__ == "__main__":
    main()
