"""Golden values of @parts_text: tokenizers of the kinds of BERT, Llama 2, Mistral and T5, as files, and for hostile strings the
ids, places and words that the library finds and the text that it makes of the ids; with added tokens of every kind."""
import hostile  # tests/hostile.py
import parts  # tests/parts.py
from tokenizers import AddedToken, Regex, decoders as d, normalizers as n, pre_tokenizers as p, processors as r

from golden import Golden  # tests/golden.py: writes named arrays as text


def llama():
    t = parts.pieces(40)
    t.normalizer = n.Sequence([n.Prepend(parts.MARK), n.Replace(" ", parts.MARK)])
    t.decoder = d.Sequence([d.Replace(parts.MARK, " "), d.ByteFallback(), d.Fuse(), d.Strip(" ", 1, 0)])
    t.post_processor = r.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    return t


def t5():
    t, proto = parts.unigram(60)
    t.normalizer = n.Sequence([n.Precompiled(proto.normalizer_spec.precompiled_charsmap), n.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer = p.Metaspace(prepend_scheme="first")
    t.decoder = d.Metaspace(prepend_scheme="first")
    t.add_special_tokens(["</s>", "<extra_id_0>"])
    t.add_tokens([AddedToken("the", normalized=True, single_word=True), AddedToken("A", normalized=False, lstrip=True),
                  AddedToken("2", normalized=False, rstrip=True), AddedToken("caf\u00e9", normalized=True)])
    return t


def main():
    g = Golden(__file__, seed=85)
    parts.save_old(g)
    bert = parts.wordpiece(110)
    bert.add_tokens([AddedToken("Don't", normalized=True), AddedToken("! ", normalized=False)])
    answers = {}
    for name, t in dict(bert=bert, llama=llama(), t5=t5()).items():
        parts.save_text(g, name, parts.file(t))
        answers[name] = parts.known(parts.encoding(t, True))
        answers[name + "_plain"] = parts.known(parts.encoding(t, False))
    g.save("hash", **hostile.hashes(7, **answers))
    g.write()


if __name__ == "__main__":
    main()
