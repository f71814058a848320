"""What the scripts of the parts of a tokenizer.json share: small tokenizers of each kind that Hugging Face's library trains on
hostile strings, and its answers with places. tests/tiny_parts.h reads what these write."""
import collections
import io
import json
import re
import tempfile
from pathlib import Path

import hostile  # tests/hostile.py
import sentencepiece
import unicodedata2 as ucd
from sentencepiece import sentencepiece_model_pb2
from tokenizer_text import LLAMA3  # tokenizer_text.py beside this file
from tokenizer_vocab import pack  # tokenizer_vocab.py beside this file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

MOST = 3000
TEXTS = [x.decode() for x in hostile.strings(hostile.KNOWN)]
BYTES = ["<0x%02X>" % b for b in range(256)]
MARK = "\u2581"
RULES = "E9\t65\nC9\t45 301\n2E 2E 2E\t2026\n9\t20\nA\t20\n61 308\t61 65\nFB01\t66 69\n"
GONE = "3042\t\n" # of what is swallowed at the start of a text the library loses count


def old():
    """the characters that this library's tables do not know as today's Unicode does"""
    forms = {f: getattr(normalizers, f)() for f in ("NFC", "NFD", "NFKC", "NFKD")}
    marks, differ = normalizers.StripAccents(), set()
    for c in set("".join(TEXTS)):
        if any(n.normalize_str(c) != ucd.normalize(f, c) for f, n in forms.items()):
            differ.add(c)
        if (marks.normalize_str(c) == "") != (ucd.category(c)[0] == "M"):
            differ.add(c)
    bare = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)
    differ |= {c for c in set("".join(TEXTS)) if ucd.category(c) == "Mn" and bare.normalize_str(c)}
    assert len(differ) < 20, differ
    return differ


OLD = old()


def save_old(g):
    g.save("old", code=sorted(map(ord, OLD)))


def known(answer):
    """an answer of nothing for a text that has one of them"""
    return lambda data: [] if OLD & set(data.decode()) else answer(data.decode())[:MOST]


def save_text(g, name, text):
    data = text if isinstance(text, bytes) else text.encode()
    g.save(name, size=[len(data)], text=pack(data))


def file(t):
    """a file without what is null, and BYTES for the 256 byte tokens of `pieces`, whose ids begin at 3"""
    text = re.sub(r'"[a-z_]+":(null|"1.0"),', "", t.to_str(pretty=False))
    return text.replace("".join('"%s":%d,' % (b, i + 3) for i, b in enumerate(BYTES)), "BYTES")


def rules(more=""):
    """the rules above as SentencePiece compiles them, in a model"""
    with tempfile.TemporaryDirectory() as folder:
        tsv = Path(folder) / "rules.tsv"
        tsv.write_text(RULES + more)
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXTS[:200]), model_writer=model, model_type="unigram", vocab_size=420, hard_vocab_limit=False,
            normalization_rule_tsv=str(tsv), minloglevel=2, character_coverage=0.98)
        proto = sentencepiece_model_pb2.ModelProto()
        proto.ParseFromString(model.getvalue())
        return proto


def corpus(most=70):
    """texts of the most frequent characters; the trainers choose an alphabet by chance where counts are equal"""
    count = collections.Counter("".join(TEXTS[:800]))
    keep = {c for c, _ in sorted(count.items(), key=lambda e: (-e[1], e[0]))[:most]}
    return ["".join(c if c in keep else " " for c in text) for text in TEXTS[:800]]


def wordpiece(size=220, lower=True):
    """frequent characters and parts of words; the library's trainer numbers ## characters in an order of chance"""
    normalizer, cut, count = normalizers.BertNormalizer(lowercase=lower), pre_tokenizers.BertPreTokenizer(), collections.Counter()
    for text in corpus():
        for word, _ in cut.pre_tokenize_str(normalizer.normalize_str(text)):
            for i in range(len(word)):
                for j in range(i + 1, min(len(word), i + 4) + 1):
                    count["##" * (i > 0) + word[i:j]] += 1
    common = sorted(count, key=lambda x: (-count[x], x))
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + common[:size]
    t = Tokenizer(models.WordPiece({x: i for i, x in enumerate(vocab)}, unk_token="[UNK]"))
    t.normalizer, t.pre_tokenizer, t.decoder = normalizer, cut, decoders.WordPiece()
    t.add_special_tokens(vocab[:5])
    t.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return t


def pieces(size=220, fallback=True, fuse=True, unknown=True):
    """a BPE of characters, as Llama 2's"""
    special = ["<unk>", "<s>", "</s>"] + (BYTES if fallback else [])
    t = Tokenizer(models.BPE(unk_token="<unk>"))
    t.train_from_iterator([x.replace(" ", MARK) for x in corpus()], trainers.BpeTrainer(
        vocab_size=size + len(special), special_tokens=special, show_progress=False))
    m = json.loads(t.to_str())["model"]
    t = Tokenizer(models.BPE(m["vocab"], [tuple(x) for x in m["merges"]], unk_token="<unk>" if unknown else None, fuse_unk=fuse,
                             byte_fallback=fallback))
    t.add_special_tokens([AddedToken(x, normalized=False, special=True) for x in special[:3]])
    return t


def unigram(size=150, fallback=False):
    """the first pieces of a SentencePiece model, and the model"""
    proto = rules()
    vocab = [(p.piece, round(p.score, 3)) for p in proto.pieces[:size]]
    return Tokenizer(models.Unigram(vocab + [(b, -30.0) for b in BYTES if fallback], 0, fallback)), proto


def characters(offsets):
    out = []
    for place in offsets:
        out += place
    return out


def encoding(t, special, back=True):
    """ids, places and words, and the bytes that the ids decode to"""
    def answer(text):
        t.encode_special_tokens = not special
        e = t.encode(text, add_special_tokens=False)
        out = []
        for id, place, word in zip(e.ids, e.offsets, e.word_ids):
            out += [id, *place, word]
        return out + (list(t.decode(e.ids, skip_special_tokens=False).encode()) if back else [])
    return answer
