"""Golden values of @npy: the bytes numpy.save writes, what NumPy reads from them, and files it reads of another form."""
import io
import tokenize

import numpy as np
from numpy.lib import format as npy

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=1)


def saved(x, version=None):
    f = io.BytesIO()
    npy.write_array(f, x, version) if version else np.save(f, x)
    return f.getvalue()


pi = np.array([np.pi, -0.0, 1e-45, np.inf, -3e38, 1 / 3, 65504], np.float32)
arrays = {"f0": np.float32(-1.5).reshape(()), "f1": pi, "f2": g.normal(2, 3), "f3": g.normal(1, 5, 2), "f8": g.normal(1, 1, 1, 1, 2, 1, 1, 1),
          "none": np.zeros((3, 0, 2), np.float32), "empty": np.zeros(0, np.float64), "d1": np.array([0.1, -1e300, 1e-320, 2.0**53 + 2]),
          "d2": g.rng.standard_normal((3, 2)), "i1": np.array([0, 1, -1, 2**31 - 1, -2**31, 65536], np.int32),
          "i2": np.arange(12, dtype=np.int32).reshape(4, 3) - 6, "long": np.zeros((1234567, 0), np.int32)}
for name, x in arrays.items():
    g.save(name, file=list(saved(x)), shape=x.shape)
    if name != "d1":  # no floats; its four numbers stand in the test
        g.save(name, floats=x.astype(np.float32))
g.save("two", file=list(saved(arrays["f2"], (2, 0))))

# Texts that numpy reads: other orders, spaces and commas. The last ones it refuses.
data = bytes(range(24))
texts = ["{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }", "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3)}",
         "{'shape':(6,),'descr':'<f4','fortran_order':False}", "{ 'fortran_order' : False , 'shape' : ( 3 , ) , 'descr' : '<f8' , } \n \n",
         "{'descr': '<i4', 'fortran_order': False, 'shape': (3, 2, 1,), }", "{'descr': '<f4', 'fortran_order': False, 'shape': (1,6), }",
         "{'descr': '<i4', 'fortran_order': False, 'shape': (6), }", "{'descr': '<i4', 'fortran_order': False, 'shape': (2 3), }",
         "{'descr': '<i4', 'fortran_order': False, 'shape': (2,,3), }", "{'descr': '<i4', 'fortran_order': False, 'shape': (,), }",
         "{'descr': '<i4', 'fortran_order': False, 'shape': (-6,), }", "{'descr': '<i4', 'fortran_order': False, 'shape': (6.,), }",
         "{'descr': '<i4', 'fortran_order': False, 'shape': [6], }", "{'descr': '<i4', 'fortran_order': False, 'shape': 6, }",
         "{'descr': '<i4', 'fortran_order': False, }", "{'descr': '<i4', 'shape': (6,), }", "{'fortran_order': False, 'shape': (6,), }",
         "{'descr': '<i4' 'fortran_order': False, 'shape': (6,), }", "{'descr': '<i4', 'fortran_order': False, 'shape': (6,), 'more': 1}",
         "{'descr': '<i4', 'fortran_order': Falsey, 'shape': (6,), }", "{'descr': '<i4', 'fortran_order': 0, 'shape': (6,), }",
         "{'descr': '<i4', 'fortran_order': False, 'shape': (6,), ", "{'descr': '<i4', 'fortran_order': False, 'shape': (6,", "", "{", "{}",
         "{'descr': '<i4', 'fortran_order': False, 'shape': (6,), } x", "{'descr': '<i4', 'fortran_order': False, 'shape': (6,),, }",
         "{,'descr': '<i4', 'fortran_order': False, 'shape': (6,)}", "'descr': '<i4', 'fortran_order': False, 'shape': (6,)",
         "{'descr', '<i4', 'fortran_order': False, 'shape': (6,), }", "{'descr': '<i9', 'fortran_order': False, 'shape': (6,), }",
         "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 4), }", "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }"]


def reads(file):
    try:
        return np.load(io.BytesIO(file))
    except (ValueError, EOFError, tokenize.TokenError):
        return None


files = [b"\x93NUMPY\1\0" + len(t).to_bytes(2, "little") + t.encode() + data for t in texts]
results = [reads(f) for f in files]
g.save("text", sizes=[len(f) for f in files], files=list(b"".join(files)), accepted=[int(x is not None) for x in results])
for i, x in enumerate(results):
    if x is not None:
        g.save(f"text{i}", values=x, shape=x.shape)
g.write()
