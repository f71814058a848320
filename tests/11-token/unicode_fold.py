"""Golden values of @unicode_fold: the normalizers of Hugging Face's tokenizers on the hostile strings that their Unicode knows,
and small letters of every code point."""
import unicodedata2 as ucd
from tokenizers import normalizers
from unicode_map import EVERY, in_header  # unicode_map.py beside this file

import hostile  # tests/hostile.py: the strings of tiny_hostile.h
from golden import Golden  # tests/golden.py: writes named arrays as text

LOWER = normalizers.Lowercase()
CLEAN = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)


def bare(text):
    """the library drops the marks of an older Unicode"""
    return "".join(c for c in ucd.normalize("NFD", text) if ucd.category(c) != "Mn")


def main():
    in_header("lower")
    g, every = Golden(__file__, seed=24), set(EVERY)
    run = lambda f: lambda data: list(f(data.decode()).encode())
    g.save("hostile", **hostile.hashes(
        hostile.KNOWN, small=run(LOWER.normalize_str), bare=run(bare), clean=run(CLEAN.normalize_str),
        bert=run(lambda text: LOWER.normalize_str(bare(CLEAN.normalize_str(text))))))
    library = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)
    differ = {c for text in hostile.strings(hostile.KNOWN) for c in text.decode() if library.normalize_str(c) != bare(c)}
    assert all(ucd.category(c) == "Mn" for c in differ) and len(differ) < 9, differ
    small = [list(LOWER.normalize_str(chr(c)).encode()) if c in every else [] for c in range(0x110000)]
    g.save("small", blocks=[hostile.block_hash(small[b:b + 4096]) for b in range(0, 0x20000, 4096)])
    g.write()


if __name__ == "__main__":
    main()
