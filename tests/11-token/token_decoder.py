"""Golden values of @token_decoder: what the library's decoders make of strings, which are hostile texts cut at spaces, every
third one replaced by a byte token."""
import hostile  # tests/hostile.py
import parts  # tests/parts.py
from tokenizers import decoders as d

from golden import Golden  # tests/golden.py: writes named arrays as text


def strings(text):
    """as the suite makes them"""
    return ["<0x%02X>" % (61 * i + 37 * len(s.encode()) & 255) if i % 3 == 2 else s for i, s in enumerate(text.split(" "))]


def main():
    g = Golden(__file__, seed=86)
    run = lambda dec: lambda data: list(dec.decode(strings(data.decode())).encode())[:parts.MOST]
    g.save("hash", **hostile.hashes(
        hostile.KNOWN, wordpiece=run(d.WordPiece("a", True)), plain=run(d.WordPiece("##", False)), meta=run(d.Metaspace("e")),
        never=run(d.Metaspace(prepend_scheme="never")), bytes=run(d.ByteLevel()), fallback=run(d.ByteFallback()),
        llama=run(d.Sequence([d.Replace(parts.MARK, " "), d.ByteFallback(), d.Fuse(), d.Strip(" ", 1, 0)])),
        strip=run(d.Sequence([d.ByteFallback(), d.Strip("e", 2, 0)])), replace=run(d.Replace("th", "<>"))))
    g.write()


if __name__ == "__main__":
    main()
