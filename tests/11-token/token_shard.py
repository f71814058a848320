"""Golden values of @token_shard: the bytes of two files that NumPy writes in the way of llm.c's data_common.py."""
import numpy as np

from golden import Golden  # tests/golden.py: writes named arrays as text


def shard(ids, wide):
    header = np.zeros(256, dtype=np.int32)
    header[:3] = [20240801, 7, len(ids)] if wide else [20240520, 1, len(ids)]
    return header.tobytes() + np.array(ids, dtype=np.uint32 if wide else np.uint16).tobytes()


def main():
    g = Golden(__file__, seed=21)
    narrow, wide = [50256, 0, 1, 255, 256, 65535, 31373], [128000, 0, 65536, 2147483, 9]
    for name, ids in (("narrow", narrow), ("wide", wide)):
        g.save(name, ids=ids, bytes=np.frombuffer(shard(ids, name == "wide"), dtype=np.uint8))
    g.write()


if __name__ == "__main__":
    main()
