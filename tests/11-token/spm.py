"""Golden values of @spm: a small model of Llama's kind (BPE, byte fallback, text as it is, a space in front), the
file itself, its pieces, and the hash of the ids and of the decoded text for every ten hostile strings."""
import io

import hostile  # tests/hostile.py
import sentencepiece
from bpe import TEXT  # bpe.py beside this file
from pieces import MORE  # pieces.py beside this file

from golden import Golden  # tests/golden.py: writes named arrays as text


def train(**options):
    """the bytes of a model, without the part that says how it was trained where nobody reads it"""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter((TEXT[:6000] + MORE).splitlines() * 2), model_writer=out, num_threads=1, hard_vocab_limit=False,
        minloglevel=2, **options)
    return out.getvalue()


def save(g, name, data, groups):
    g.save(name, size=[len(data)], data=[a << 8 | b for a, b in zip(data[::2], data[1::2] + b"\0")])
    sp = sentencepiece.SentencePieceProcessor(model_proto=data)
    text = lambda data: data if groups == hostile.GROUPS else data.decode()
    g.save(name, kind=[2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 1 for i in range(len(sp))],
           score=[sp.get_score(i) for i in range(len(sp))], special=[sp.bos_id(), sp.eos_id(), sp.pad_id()],
           **hostile.hashes(groups, ids=lambda t: sp.encode(text(t))),
           **hostile.hashes(hostile.VALID, back=lambda t: sp.decode(sp.encode(t.decode())).encode()))


def main():
    g = Golden(__file__, seed=50)
    save(g, "llama", train(model_type="bpe", vocab_size=460, byte_fallback=True, normalization_rule_name="identity",
                           remove_extra_whitespaces=False, add_dummy_prefix=True, pad_id=3), hostile.VALID)
    g.write()


if __name__ == "__main__":
    main()
