"""Golden values of @spm_text: a small unigram model with rules, user-defined pieces and squeezed spaces (T5's kind), the same
without squeezing, and with the space behind; of each the hashes of ids, of the decoded and of the normalized text for every
ten hostile strings."""
import tempfile
from pathlib import Path

import hostile  # tests/hostile.py
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from spm import train  # spm.py beside this file

from golden import Golden  # tests/golden.py: writes named arrays as text

RULES = [("\u00e9", "e"), ("\u00df", "ss"), ("\ufb01", "fi"), ("\u3000", " "), ("\t", " "), ("\n", " "), ("\u00a0", " "),
         ("\u200d", ""), ("\u0301", ""), ("A\u030a", "\u00c5"), ("...", "\u2026"), ("..", ":"), ("THE", " the "), ("\u2581", " "),
         ("\U0001f600", ":)"), ("\u4e2d\u6587", "zh"), ("X", "  x")]


def main():
    g = Golden(__file__, seed=51)
    with tempfile.TemporaryDirectory() as folder:
        tsv = Path(folder) / "rules.tsv"
        code = lambda s: " ".join("%X" % ord(c) for c in s)
        tsv.write_text("".join(f"{code(a)}\t{code(b)}\n" for a, b in RULES))
        data = train(model_type="unigram", vocab_size=210, normalization_rule_tsv=str(tsv), character_coverage=0.98,
                     user_defined_symbols=["<|x|>", "the\u00e9", "..."])
    g.save("model", size=[len(data)], data=[a << 8 | b for a, b in zip(data[::2], data[1::2] + b"\0")])
    for name, more in ("t5", {}), ("loose", {"remove_extra_whitespaces": False}), ("bare", {"add_dummy_prefix": False}), (
            "behind", {}):
        proto = sentencepiece_model_pb2.ModelProto()
        proto.ParseFromString(data)
        for key, value in more.items():
            setattr(proto.normalizer_spec, key, value)
        proto.trainer_spec.treat_whitespace_as_suffix = name == "behind"
        sp = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
        groups = {"ids": lambda t: sp.encode(t.decode()), "line": lambda t: sp.normalize(t.decode()).encode()}
        if name != "behind":
            groups["back"] = lambda t: sp.decode(sp.encode(t.decode())).encode()
        g.save(name, **hostile.hashes(hostile.VALID if name == "t5" else 6, **groups))
    g.write()


if __name__ == "__main__":
    main()
