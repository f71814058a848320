"""Golden values of @tokenizer_gguf: three files that the gguf package writes, of a byte-level BPE, of SentencePiece BPE and of a
unigram model with rules, and the hash of the ids that tokenizers and sentencepiece give for every ten hostile strings."""
import tempfile
from pathlib import Path

import gguf
import hostile  # tests/hostile.py
import sentencepiece
from bpe import TEXT, train as train_bpe  # bpe.py beside this file
from sentencepiece import sentencepiece_model_pb2
from spm import train  # spm.py beside this file
from tokenizer_text import tokenizer  # tokenizer_text.py beside this file
from transformers.convert_slow_tokenizer import bytes_to_unicode

from golden import Golden  # tests/golden.py: writes named arrays as text


def write(fill):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.gguf"
        w = gguf.GGUFWriter(path, "llama")
        fill(w)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.close()
        return path.read_bytes()


def save(g, name, file, answer, groups):
    g.save(name, size=[len(file)], data=[a << 8 | b for a, b in zip(file[::2], file[1::2] + b"\0")],
           **hostile.hashes(groups, ids=answer))


def main():
    g = Golden(__file__, seed=54)
    merges, ranks = train_bpe(TEXT, 300)
    code, end = bytes_to_unicode(), "<|end|>"
    spelt = {id: "".join(code[b] for b in token) for token, id in ranks.items()}

    def bpe(w):
        w.add_tokenizer_model("gpt2")
        w.add_tokenizer_pre("gpt-2")
        w.add_token_list([spelt[i] for i in range(300)] + [end])
        w.add_token_types([1] * 300 + [3])
        w.add_token_merges([f"{spelt[a]} {spelt[b]}" for a, b in merges])

    t = tokenizer(merges, ranks, added=[(end, True, False)])
    save(g, "gpt2", write(bpe), lambda text: t.encode(text.decode()).ids, hostile.KNOWN)

    def pieces(w, model, sp, proto):
        w.add_tokenizer_model(model)
        w.add_tokenizer_pre("default")
        w.add_token_list([p.piece for p in proto.pieces])
        w.add_token_scores([p.score for p in proto.pieces])
        w.add_token_types([p.type for p in proto.pieces])
        w.add_bos_token_id(sp.bos_id())
        w.add_eos_token_id(sp.eos_id())
        w.add_add_space_prefix(proto.normalizer_spec.add_dummy_prefix)
        if model == "t5":
            w.add_remove_extra_whitespaces(proto.normalizer_spec.remove_extra_whitespaces)
            w.add_precompiled_charsmap(proto.normalizer_spec.precompiled_charsmap)

    with tempfile.TemporaryDirectory() as folder:
        tsv = Path(folder) / "rules.tsv"
        tsv.write_text("E9\t65\n2E 2E 2E\t2026\n9\t20\nA\t20\n")
        for model, options in ("llama", dict(model_type="bpe", normalization_rule_name="identity", add_dummy_prefix=False,
                                             remove_extra_whitespaces=False)), (
                "t5", dict(model_type="unigram", normalization_rule_tsv=str(tsv))):
            data = train(vocab_size=100, character_coverage=0.98, **options)
            sp, proto = sentencepiece.SentencePieceProcessor(model_proto=data), sentencepiece_model_pb2.ModelProto()
            proto.ParseFromString(data)
            save(g, model, write(lambda w: pieces(w, model, sp, proto)), lambda text: sp.encode(text.decode()), 6)
    g.write()


if __name__ == "__main__":
    main()
