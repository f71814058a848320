"""Golden values of @normalizer: what the library's normalizers make of hostile strings, with places."""
import base64

import hostile  # tests/hostile.py
import parts  # tests/parts.py
from text_places import characters  # text_places.py beside this file
from tokenizers import Regex, normalizers as n

from golden import Golden  # tests/golden.py: writes named arrays as text


def main():
    g = Golden(__file__, seed=82)
    parts.save_old(g)
    map_ = parts.rules(parts.GONE).normalizer_spec.precompiled_charsmap
    parts.save_text(g, "rules", base64.b64encode(map_))
    ruled = n.Precompiled(map_)
    g.save("hash", **hostile.hashes(
        hostile.KNOWN, bert=characters(n.BertNormalizer()), cased=characters(n.BertNormalizer(lowercase=False)),
        bare=characters(n.Sequence([n.NFKD(), n.StripAccents(), n.Lowercase()])),
        spell=characters(n.Sequence([n.Prepend("<>"), n.Replace("the", "xyzw"), n.Replace(" ", parts.MARK)])),
        strip=characters(n.Sequence([n.Strip(), n.Replace(Regex(" {2,}"), "__")])), left=characters(n.Strip(right=False)),
        rules=parts.known(lambda text: [ord(c) for c in ruled.normalize_str(text)])))
    g.write()


if __name__ == "__main__":
    main()
