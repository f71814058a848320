"""Golden values of @dense_vector: NumPy in float64; the drift of a running float32 sum from np.cumsum, which adds in order."""
import numpy as np

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=26)
for n in (1, 7, 8, 17, 130):
    x, y = g.normal(n), g.normal(n)
    g.save(f"{n}", x=x, y=y, dot=[x.astype(np.float64) @ y.astype(np.float64)], sum=[x.astype(np.float64).sum()],
           argmax=[x.argmax()])
ones = np.full(1 << 20, np.float32(0.1))
g.save("drift", naive=[np.cumsum(ones, dtype=np.float32)[-1]], exact=[float(np.float32(0.1)) * (1 << 20)])
g.write()
