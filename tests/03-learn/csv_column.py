"""Golden values of @csv_column: pandas reads the same table; and of @csv: what Python's csv module reads. Texts and cells
stand here as their bytes, cells end in 0."""
import csv
import io

import pandas

from golden import Golden

g = Golden(__file__, seed=32)
words = ["b", "a", "aa", "", "B", "\u00e9", "a b"]
rows = ["x,word,y"]
for i in range(40):
    x = ["%.6g", "%e", "%+.3f", "%.0f.", "%d"][i % 5] % (10 ** g.rng.uniform(-3, 4) * (-1) ** i)
    rows.append(",".join(["NA" if i % 7 == 3 else x, words[g.rng.integers(7)], "" if i % 11 == 5 else "%.9g" % g.rng.normal()]))
text = "\n".join(rows) + "\n"
t = pandas.read_csv(io.StringIO(text))
code, name = pandas.factorize(t["word"], sort=True)
g.save("table", text=list(text.encode()), x=t["x"], y=t["y"], code=code, names=list("\0".join(name).encode() + b"\0"))
PIECES = ["a", "7", "-1.5", " ", ",", '"', "\n", "\r\n", ";", "name", "\u00e9", "x y", "'"]


def field():
    return "".join(PIECES[g.rng.integers(len(PIECES))] for _ in range(g.rng.integers(1, 5)))


def save(name, text, separator):
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    cells = b"".join(c.encode() + b"\0" for row in rows for c in row)
    g.save(name, text=list(text.encode()), shape=[len(rows) - 1, len(rows[0])], cells=list(cells))


for k, (rows, columns, ending, separator) in enumerate(
        [(1, 1, "\n", ","), (2, 3, "\r\n", ","), (13, 2, "\n", ";"), (7, 5, "\r\n", "\t"), (30, 3, "\n", ",")]):
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=separator, lineterminator=ending, quoting=csv.QUOTE_ALL if k % 2 else csv.QUOTE_MINIMAL)
    for _ in range(rows + 1):
        # blanks at the edge of an unquoted field are kept by Python and not here: only in the quoted files
        writer.writerow([field() if k % 2 else "q" + field().replace("\r\n", "").strip() + "q" for _ in range(columns)])
    text = out.getvalue()
    save(f"csv/{k}", text[:-len(ending)] if k == 2 else text, separator)
g.write()
