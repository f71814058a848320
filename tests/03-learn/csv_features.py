"""Golden values of @csv_features: pandas, read_csv and get_dummies(drop_first=True, dummy_na=False)."""
import io

import numpy as np
import pandas as pd

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=1)
text = """area,quarter,age,sold,empty,one
80,hills,12,yes,,x
55.5,centre,,no,,x
,,3,,,x
1e2,harbour,-4,yes,,x
70,hills,NA,yes,,x
"""
table = pd.read_csv(io.StringIO(text))
x = pd.get_dummies(table, drop_first=True, dtype=float)
order = ["area", "quarter_harbour", "quarter_hills", "age", "sold_yes", "empty"]
assert sorted(x.columns) == sorted(order)
for name in ("quarter", "sold"):  # a missing text: here all of its indicators are missing
    x.loc[table[name].isna(), [c for c in x.columns if c.startswith(name + "_")]] = np.nan
g.save("table", text=list(text.encode()), x=x[order].to_numpy())
g.write()
