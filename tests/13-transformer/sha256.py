"""Golden values of @sha256: hashlib's fingerprints of 0, 1, 2, ... bytes, and of a million letters a."""
import hashlib

from golden import Golden  # tests/golden.py: writes named arrays as text


def main():
    g = Golden(__file__, seed=1304)
    message = bytes((7 * i + i // 256) % 256 for i in range(300))
    g.save("length", first=[int.from_bytes(hashlib.sha256(message[:n]).digest()[:3], "big") for n in range(301)],
           last=[int.from_bytes(hashlib.sha256(message[:n]).digest()[-3:], "big") for n in range(301)])
    g.write()


if __name__ == "__main__":
    main()
