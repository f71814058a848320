"""Golden values of @unigram: ids and scores of SentencePiece with a trained model, and ids of Hugging Face's Unigram, which
adds in double where SentencePiece adds in float."""
import random

import hostile  # tests/hostile.py: the strings of tiny_hostile.h
import sentencepiece
from pieces import model, save_model, save_texts, texts  # pieces.py beside this file
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer, models

from golden import Golden  # tests/golden.py: writes named arrays as text

USER = ["<|x|>", "token"]


def main():
    g, rng = Golden(__file__, seed=41), random.Random(41)
    sp = model("unigram", 260, user_defined_symbols=USER, character_coverage=0.99)
    sample = texts(rng, 100) + ["a<|x|>b tokens <|x|><|x|", "x" * 60]
    save_model(g, sp, USER)
    save_texts(g, "text", sample, [sp.encode(t) for t in sample])
    best = [sp.nbest_encode_as_proto(t, nbest_size=2).nbests[0].score if t else 0 for t in sample]
    g.save("text", score=[min(s, 0) for s in best])

    pairs = [(sp.id_to_piece(i), sp.get_score(i)) for i in range(len(sp)) if i not in (1, 2, 3, 4)]
    shift = [i for i in range(len(sp)) if i not in (1, 2, 3, 4)]  # without control and USER pieces
    double = Tokenizer(models.Unigram(pairs, unk_id=0))
    spelt = lambda data: data.decode().replace(" ", "\u2581")
    g.save("hostile", **hostile.hashes(
        hostile.VALID, single=lambda data: sp.encode(data.decode()),
        decoded=lambda data: sp.decode(sp.encode(data.decode())).encode()[:4096],
        double=lambda data: [shift[i] for i in double.encode(spelt(data)).ids]))

    # runs of letters have many segmentations with the same pieces, whose sums differ in rounding only
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(sp.serialized_model_proto())
    del proto.pieces[3:]
    for piece in ["a", "aa", "aaa", "aaaaa", "b", "ab", "ba", "bab"]:
        proto.pieces.add(piece=piece, score=-(1 + len(piece) ** 0.7) * rng.uniform(0.97, 1.03), type=1)
    ties = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    hf = Tokenizer(models.Unigram([(ties.id_to_piece(i), ties.get_score(i)) for i in range(len(ties))], unk_id=0))
    pool = ["".join(rng.choice("aaab") for _ in range(rng.randrange(1, 40))) for _ in range(2000)]
    pairs = [(t, ties.encode(t), hf.encode(t).ids) for t in pool]
    pairs = [p for p in pairs if p[1] != p[2]][:30] + pairs[:15]
    assert len(pairs) == 45
    runs, single, double = zip(*pairs)
    save_model(g, ties, prefix="tie")
    save_texts(g, "double", runs, list(double))
    g.save("single", ids=sum(single, []), count=[len(i) for i in single])
    g.write()


if __name__ == "__main__":
    main()
