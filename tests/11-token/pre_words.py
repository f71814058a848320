"""Golden values of @pre_words: the pre-tokenizers of Hugging Face's tokenizers, on the hostile strings that their Unicode
knows."""
from tokenizers import normalizers, pre_tokenizers

import hostile  # tests/hostile.py: the strings of tiny_hostile.h
from golden import Golden  # tests/golden.py: writes named arrays as text

CHINESE = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False)


def pieces(tokenizer, data, spell=str):
    return [byte for piece, _ in tokenizer.pre_tokenize_str(spell(data.decode())) for byte in piece.encode() + b"\n"]


def main():
    g = Golden(__file__, seed=15)
    bert, digits, each = (pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Digits(False), pre_tokenizers.Digits(True))
    always, never = pre_tokenizers.Metaspace(prepend_scheme="always"), pre_tokenizers.Metaspace(prepend_scheme="never")
    g.save("hostile", **hostile.hashes(
        hostile.KNOWN, bert=lambda data: pieces(bert, data), chinese=lambda data: pieces(bert, data, CHINESE.normalize_str),
        always=lambda data: pieces(always, data), never=lambda data: pieces(never, data),
        digits=lambda data: pieces(digits, data), each=lambda data: pieces(each, data)))
    isolated = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and CHINESE.normalize_str(chr(c)) != chr(c)]
    inside = set(isolated)
    edges = [c for c in isolated if c - 1 not in inside or c + 1 not in inside]
    g.save("chinese", edges=edges)
    g.write()


if __name__ == "__main__":
    main()
