"""Golden values of @one_hot: scikit-learn's OneHotEncoder on mixed columns."""
import numpy as np
from sklearn.preprocessing import OneHotEncoder

from golden import Golden  # tests/golden.py: writes named arrays as text

ROWS = [["red", "S", "a b"], ["blue", "M", ""], ["green", "S", "10"], ["red", "L", "9"], ["Red", "M", "a b"]]
NEW = [["red", "XL", "9"], ["pink", "S", "10"], ["", "", ""]]
g = Golden(__file__, seed=29)
for name, options in [("full", {}), ("drop", {"drop": "first"}), ("ignore", {"handle_unknown": "ignore"})]:
    encoder = OneHotEncoder(sparse_output=False, **options).fit(np.array(ROWS, dtype=object))
    g.save(name, y=encoder.transform(np.array(ROWS, dtype=object)))
    if name == "ignore":
        g.save("new", y=encoder.transform(np.array(NEW, dtype=object)))
g.write()
