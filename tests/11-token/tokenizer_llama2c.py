"""Golden values of @tokenizer_llama2c: what llama2.c's export writes for a small SentencePiece model, and the hash of
SentencePiece's ids for every ten hostile strings."""
import struct

import hostile  # tests/hostile.py
import sentencepiece
from spm import train  # spm.py beside this file

from golden import Golden  # tests/golden.py: writes named arrays as text


def export(sp):
    """tokenizer.py of llama2.c, line by line"""
    tokens, scores = [], []
    for i in range(sp.vocab_size()):
        t, s = sp.id_to_piece(i), sp.get_score(i)
        if i == sp.bos_id():
            t = "\n<s>\n"
        elif i == sp.eos_id():
            t = "\n</s>\n"
        tokens.append(t.replace("\u2581", " ").encode("utf-8"))
        scores.append(s)
    out = struct.pack("I", max(map(len, tokens)))
    for token, score in zip(tokens, scores):
        out += struct.pack("fI", score, len(token)) + token
    return out


def main():
    g = Golden(__file__, seed=53)
    sp = sentencepiece.SentencePieceProcessor(model_proto=train(
        model_type="bpe", vocab_size=420, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False))
    file = export(sp)
    g.save("file", size=[len(file)], data=[a << 8 | b for a, b in zip(file[::2], file[1::2] + b"\0")])
    g.save("model", **hostile.hashes(hostile.VALID, ids=lambda t: sp.encode(t.decode())))
    g.write()


if __name__ == "__main__":
    main()
