"""Golden values of @token_pipeline: what tokenizers makes of every ten hostile strings, alone and in pairs, with a template, cut
by each strategy, with windows: ids, types, texts, words and places (in characters) of the first three windows."""
import hostile  # tests/hostile.py
import parts  # tests/parts.py
from bpe import TEXT, train  # bpe.py beside this file
from tokenizer_text import tokenizer  # tokenizer_text.py beside this file
from tokenizers.processors import TemplateProcessing
from transformers.convert_slow_tokenizer import bytes_to_unicode

from golden import Golden  # tests/golden.py: writes named arrays as text

GROUPS, MOST = 11, 500
OTHER = "the cat sat, caf\u00e9s and so on"
SETTINGS = {"single": (None, None, 0, 0), "windows": (None, "longest_first", 9, 3), "tight": (None, "longest_first", 4, 1),
            "pair": (OTHER, None, 0, 0), "longest": (OTHER, "longest_first", 16, 2), "odd": (OTHER, "longest_first", 12, 0),
            "first": (OTHER, "only_first", 30, 2)}


def main():
    g = Golden(__file__, seed=60)
    merges, ranks = train(TEXT, 300)
    g.save("bpe", merges=[id for pair in merges for id in pair])
    t = tokenizer(merges, ranks, added=[("[CLS]", True, False), ("[SEP]", True, False)])
    cls, sep = t.token_to_id("[CLS]"), t.token_to_id("[SEP]")
    t.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
                                          special_tokens=[("[CLS]", cls), ("[SEP]", sep)])

    def numbers(e):
        out = [len(e.ids)]
        for i in range(len(e.ids)):
            none = lambda x: 0 if x is None else x + 1
            out += [e.ids[i], e.type_ids[i], none(e.sequence_ids[i]), none(e.word_ids[i]), *e.offsets[i]]
        return out

    def answer(name):
        other, strategy, most, stride = SETTINGS[name]

        def one(data):
            t.no_truncation()
            if strategy:
                t.enable_truncation(most, stride=stride, strategy=strategy)
            try:
                e = t.encode(data.decode(), other) if other else t.encode(data.decode())
            except BaseException:
                return [0]
            return ([1 + len(e.overflowing)] + sum(map(numbers, [e] + e.overflowing[:2]), []))[:MOST]
        return one

    g.save("hash", **hostile.hashes(GROUPS, **{name: answer(name) for name in SETTINGS}))

    bert = parts.wordpiece(150)
    parts.save_old(g)
    parts.save_text(g, "bert", parts.file(bert))

    def with_bert(other):
        def one(text):
            bert.no_truncation()
            if other:
                bert.enable_truncation(9, stride=3, strategy="longest_first")
            e = bert.encode(text, other) if other else bert.encode(text)
            return ([1 + len(e.overflowing)] + sum(map(numbers, [e] + e.overflowing[:2]), []))[:MOST]

        def answer(text):
            bert.encode_special_tokens = True
            try:
                return one(text)
            except BaseException:
                return [0]
        return parts.known(answer)
    g.save("hash", **hostile.hashes(6, bert=with_bert(None), bert_pair=with_bert(OTHER)))
    g.write()


if __name__ == "__main__":
    main()
