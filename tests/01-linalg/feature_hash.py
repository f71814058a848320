"""Golden values of @feature_hash: scikit-learn's FeatureHasher (alternate_sign=True) and its murmurhash3_32."""
import numpy as np
from sklearn.feature_extraction import FeatureHasher
from sklearn.utils import murmurhash3_32

from golden import Golden  # tests/golden.py: writes named arrays as text

NAMES = ["", "a", "ab", "abc", "abcd", "hello", "Hello, world!", "The quick brown fox jumps over the lazy dog", "naive", "x=1"]
g = Golden(__file__, seed=27)
for k, name in enumerate(NAMES):
    h = murmurhash3_32(name.encode(), seed=0, positive=True), murmurhash3_32(name.encode(), seed=42, positive=True)
    g.save(f"murmur{k}", halves=[h[0] >> 16, h[0] & 65535, h[1] >> 16, h[1] & 65535])
    for n in (7, 64, 1 << 20):
        row = FeatureHasher(n_features=n).transform([{name: 2.5}]).tocoo()
        g.save(f"hash{k}n{n}", pair=[row.col[0], row.data[0]])
g.write()
