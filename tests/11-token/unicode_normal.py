"""Golden values of @unicode_normal: normalize of unicodedata2 on every code point, alone and between others, and on the
hostile strings. Far more sequences than a golden file can hold are checked here, through llm.h as a shared library."""
import ctypes
import random
import re

import unicodedata2 as ucd
from unicode import library  # unicode.py beside this file
from unicode_map import EVERY, in_header

import hostile  # tests/hostile.py: the strings of tiny_hostile.h
from golden import Golden  # tests/golden.py: writes named arrays as text

FORMS = ["NFD", "NFC", "NFKD", "NFKC"]


def normal(form, data):
    """bytes that are no UTF-8 stay"""
    text = data.decode("utf-8", "surrogateescape")
    parts = re.split("([\udc80-\udcff]+)", text)
    return b"".join((p if i % 2 else ucd.normalize(form, p)).encode("utf-8", "surrogateescape") for i, p in enumerate(parts))


class Buffer(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("capacity", ctypes.c_size_t)]


def main():
    in_header("canonical", "compat", "class")
    g, rng, lib = Golden(__file__, seed=18), random.Random(18), library()
    tables = ctypes.create_string_buffer(1024)
    lib.llm_unicode_normal_open.restype = lib.llm_unicode_normal_text.restype = ctypes.c_bool
    assert lib.llm_unicode_normal_open(tables)

    def got(form, data):
        out = Buffer(None, 0, 0)
        assert lib.llm_unicode_normal_text(tables, ctypes.byref(out), data, ctypes.c_size_t(len(data)), FORMS.index(form))
        result = ctypes.string_at(out.data, out.size) if out.size else b""
        lib.llm_buffer_free(ctypes.byref(out))
        return result

    marks = [c for c in EVERY if ucd.combining(chr(c))]
    taken = [c for c in EVERY if ucd.decomposition(chr(c)) or 0xAC00 <= c < 0xD7A4 and c % 50 == 0]
    parts = sorted({ord(p) for c in taken for p in ucd.normalize("NFKD", chr(c))})
    pools = [marks, taken, parts, [0x41, 0x20, 0x1100, 0x1161, 0x11A8, 0xAC00, 0x301, 0x323, 0x345, 0x34F]]
    for _ in range(10000):  # sequences as in NormalizationTest.txt
        text = "".join(chr(rng.choice(rng.choice(pools))) for _ in range(rng.randrange(1, 9))).encode()
        for form in FORMS:
            assert got(form, text) == normal(form, text), (form, ascii(text.decode()))
    for form in FORMS:
        n = form.lower()
        alone = [list(ucd.normalize(form, "a\u0327" + chr(c) + "\u0301\u0323").encode()) if not 0xD800 <= c < 0xE000 else []
                 for c in range(0x110000)]
        g.save("blocks", **{n: [hostile.block_hash(alone[b:b + 4096]) for b in range(0, 0x110000, 4096)]})
        g.save("hostile", **hostile.hashes(hostile.GROUPS, **{n: lambda data: list(normal(form, data))}))
    g.write()


if __name__ == "__main__":
    main()
