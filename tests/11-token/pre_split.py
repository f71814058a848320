"""Golden values of @pre_split: the pieces that the library's pre-tokenizers cut hostile strings into, with their places."""
import hostile  # tests/hostile.py
import parts  # tests/parts.py
from tokenizers import pre_tokenizers as p

from golden import Golden  # tests/golden.py: writes named arrays as text


def pieces(pre):
    def answer(text):
        cut = pre.pre_tokenize_str(text)
        return [len(cut)] + [x for piece, place in cut for x in (len(piece.encode()), *place)] + [
            x for piece, _ in cut for x in piece.encode()]
    return parts.known(answer)


def main():
    g = Golden(__file__, seed=83)
    parts.save_old(g)
    g.save("hash", **hostile.hashes(
        hostile.KNOWN, bert=pieces(p.BertPreTokenizer()), signs=pieces(p.Punctuation("contiguous")),
        before=pieces(p.Punctuation("merged_with_previous")), behind=pieces(p.Punctuation("merged_with_next")),
        digits=pieces(p.Sequence([p.WhitespaceSplit(), p.Digits(True)])), runs=pieces(p.Digits(False)),
        meta=pieces(p.Sequence([p.WhitespaceSplit(), p.Metaspace(), p.Punctuation("removed")])),
        first=pieces(p.Metaspace(prepend_scheme="first")), whole=pieces(p.Metaspace(split=False)),
        string=pieces(p.Split("a", "removed", invert=True)), bytes=pieces(p.ByteLevel())))
    g.write()


if __name__ == "__main__":
    main()
