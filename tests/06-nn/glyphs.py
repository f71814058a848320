"""Golden values of @glyphs: the digits as they look, and moved by scipy.ndimage.shift with linear interpolation."""
import numpy as np
from scipy.ndimage import shift

from golden import Golden  # tests/golden.py: writes named arrays as text

FONT = """
.##. ..#. .##. ###. ..#. #### .##. #### .##. .##.
#..# .##. #..# ...# .##. #... #... ...# #..# #..#
#..# ..#. ...# .##. #.#. ###. ###. ...# .##. #..#
#..# ..#. ..#. ...# #### ...# #..# ..#. #..# .###
#..# ..#. .#.. ...# ..#. ...# #..# .#.. #..# ...#
.##. .### #### ###. ..#. ###. .##. .#.. .##. .##.
"""
g = Golden(__file__, seed=1)
rows = [line.split() for line in FONT.split("\n") if line]
pictures = np.zeros((10, 8, 8))
for digit in range(10):
    for r in range(6):
        for c in range(4):
            pictures[digit, 1 + r, 2 + c] = rows[r][digit][c] == "#"
g.save("still", x=pictures)
for k, (dx, dy) in enumerate([(0.25, -0.5), (-1.0, 1.0), (0.875, 0.125), (-2.75, 3.5), (1.0, -0.375)]):
    for digit in (2, 7):
        moved = shift(pictures[digit], (dy, dx), order=1, mode="grid-constant", cval=0.0)
        g.save(f"{k}/{digit}", move=[dx, dy], x=moved)
g.write()
