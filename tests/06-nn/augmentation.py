"""Golden values of @augmentation: scipy.ndimage.affine_transform (linear, in doubles) on the float32 pictures and maps
that the test reads back, numpy.rot90 and fliplr."""
import numpy as np
from scipy.ndimage import affine_transform

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=20)
for k, (C, H, W) in enumerate([(1, 1, 1), (2, 5, 4), (1, 8, 8), (3, 3, 7)]):
    x, m = g.normal(C, H, W), g.normal(6)
    m[[2, 5]] = m[[2, 5]] + np.float32([H / 2, W / 2])
    matrix = m.astype(np.float64).reshape(2, 3)
    y = [affine_transform(a.astype(np.float64), matrix[:, :2], matrix[:, 2], order=1, mode="grid-constant", cval=0.25)
         for a in x]
    g.save(f"{k}", shape=[C, H, W], x=x, m=m, y=np.stack(y))
x = g.normal(2, 3, 3)
g.save("square", x=x, y=np.stack([np.rot90(a, k, (1, 2)) for a in (x, x[:, :, ::-1]) for k in range(4)]))
g.write()
