"""Golden values of @spm_units: SentencePiece models of words and of characters, with and without bytes for what they do not
know, and the ids and the decoded text of hostile strings."""
import hostile  # tests/hostile.py
import sentencepiece
from spm import train  # spm.py beside this file

from golden import Golden  # tests/golden.py: writes named arrays as text


def main():
    g = Golden(__file__, seed=88)
    options = {"word": dict(model_type="word", vocab_size=120), "char": dict(model_type="char", vocab_size=60),
               "user": dict(model_type="char", vocab_size=60, user_defined_symbols=["the", "<x>"], add_dummy_prefix=False,
                            remove_extra_whitespaces=False, normalization_rule_name="identity")}
    for name, more in options.items():
        data = train(**{"normalization_rule_name": "identity", "character_coverage": 0.98, **more})
        sp = sentencepiece.SentencePieceProcessor(model_proto=data)
        g.save(name, size=[len(data)], data=[a << 8 | b for a, b in zip(data[::2], data[1::2] + b"\0")])
        g.save(name, **hostile.hashes(9, ids=lambda t: sp.encode(t.decode()), back=lambda t: sp.decode(sp.encode(t.decode())).encode()))
    g.write()


if __name__ == "__main__":
    main()
