"""Golden values of @pieces: what SentencePiece makes of ids, with a trained model of each kind; and the helpers by which
@bpe_scores and @unigram get such models."""
import io
import random

import sentencepiece
from bpe import TEXT  # bpe.py beside this file

from golden import Golden  # tests/golden.py: writes named arrays as text

MORE = """Der Flu\u00df flie\u00dft, und das Stra\u00dfenfest f\u00e4ngt sp\u00e4ter an. El ni\u00f1o y la ni\u00f1a comen pi\u00f1a.
\u041c\u043e\u0441\u043a\u0432\u0430 \u2014 \u0441\u0442\u043e\u043b\u0438\u0446\u0430 \u0420\u043e\u0441\u0441\u0438\u0438. \u6771\u4eac\u306f\u65e5\u672c\u306e\u9996\u90fd\u3067\u3059\u3002 \u4e2d\u6587\u4e2d\u6587
hello hello yellow fellow, tokens token tokenize tokenizing retokenize; hmmmm hahahaha zzzzzz
"""


def model(kind, vocab, **more):
    """a trained SentencePiece model that leaves texts as they are"""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter((TEXT + MORE).splitlines() * 2), model_writer=out, model_type=kind, vocab_size=vocab,
        normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False, num_threads=1,
        hard_vocab_limit=False, minloglevel=2, **more)
    return sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())


def kinds(sp, user=()):
    return [2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 5 if sp.is_unused(i) else
            4 if sp.id_to_piece(i) in user else 1 for i in range(len(sp))]


def save_model(g, sp, user=(), prefix="piece"):
    text = [sp.id_to_piece(i).encode() for i in range(len(sp))]
    g.save(prefix, bytes=list(b"".join(text)), size=[len(t) for t in text], score=[sp.get_score(i) for i in range(len(sp))],
           kind=kinds(sp, user))


def texts(rng, count):
    """some of the corpus, some from other alphabets, some runs of one letter"""
    out, all = ["", " ", "a", "\u2581", "<unk>", "<0x0A>", "\U0001f600", "\u4e2d", "  two  spaces  "], TEXT + MORE
    while len(out) < count:
        at, kind = rng.randrange(len(all)), rng.random()
        if kind < 0.4:
            out.append(all[at:at + rng.randrange(1, 30)])
        elif kind < 0.6:
            out.append("".join(rng.choice("aeholnt \u00e9\u0416\u03a9\U0001f600") for _ in range(rng.randrange(1, 20))))
        elif kind < 0.8:
            out.append(rng.choice("amhaz=0 \u4e2d") * rng.randrange(1, 40))
        else:
            out.append("".join(rng.choice(["token", "ize", " the", " th", "low", "hello ", "ha", "\u0416"]) for _ in range(5)))
    return [t.replace("\n", " ") for t in out]


def save_texts(g, name, texts, ids):
    data = [t.encode() for t in texts]
    g.save(name, bytes=list(b"".join(data)), size=[len(t) for t in data], ids=sum(ids, []), count=[len(i) for i in ids])


def main():
    g, rng = Golden(__file__, seed=40), random.Random(40)
    for name, more in [("unknown", {}), ("bytes", {"byte_fallback": True})]:
        sp = model("unigram", 420, character_coverage=0.98, user_defined_symbols=["<|x|>"], **more)
        save_model(g, sp, ["<|x|>"], name)
        ids = [sp.encode(t) for t in texts(rng, 40)]
        if name == "unknown":  # any ids will do where no bytes are
            ids += [[rng.randrange(len(sp)) for _ in range(rng.randrange(1, 8))] for _ in range(60)]
        ids += [[1] + ids[20] + [2], ids[21] + [0, 0] + ids[22]]
        save_texts(g, name + "/text", [sp.decode(i) for i in ids], ids)
    g.write()


if __name__ == "__main__":
    main()
