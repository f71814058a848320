"""Golden values of @unicode_apart: NFD and NFKD of single code points by unicodedata2, which need no ordering."""
import unicodedata2 as ucd
from unicode_map import EVERY, in_header  # unicode_map.py beside this file

import hostile  # tests/hostile.py: block_hash
from golden import Golden  # tests/golden.py: writes named arrays as text


def main():
    in_header("compat")
    g, every = Golden(__file__, seed=17), set(EVERY)
    for name in ("NFD", "NFKD"):
        answers = [list(map(ord, ucd.normalize(name, chr(c)))) if c in every else [c] for c in range(0x110000)]
        g.save("blocks", **{name.lower(): [hostile.block_hash(answers[b:b + 4096]) for b in range(0, 0x110000, 4096)]})
    g.write()


if __name__ == "__main__":
    main()
