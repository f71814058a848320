"""Golden values of @input_layer: scikit-learn's StandardScaler, RobustScaler, OneHotEncoder and MissingIndicator on a table
with holes, torch's Embedding with its gradient, and the usual normalisation of image bytes."""
import warnings

import numpy as np
import torch
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, RobustScaler, StandardScaler

from golden import Golden  # tests/golden.py: writes named arrays as text

warnings.filterwarnings("ignore")
g = Golden(__file__, seed=19)
N = 23
table = np.column_stack([5 + 3 * g.normal(N), np.exp(2 * g.normal(N)), g.rng.integers(0, 24, N), g.rng.integers(0, 4, N),
                         g.rng.integers(0, 3, N)]).astype(np.float32)
fresh = np.column_stack([5 + 3 * g.normal(7), np.exp(2 * g.normal(7)), g.rng.integers(0, 24, 7), g.rng.integers(0, 4, 7),
                         g.rng.integers(0, 3, 7)]).astype(np.float32)
for t in (table, fresh):
    for column, row in [(0, 3), (1, 0), (1, 5), (2, 2), (4, 1)]:
        t[row, column] = np.nan
fresh[0, 3] = 9  # a class that was not there
fresh[4, 4] = 7
number = make_pipeline(StandardScaler(), SimpleImputer(strategy="constant", fill_value=0.0)).fit(table[:, :1])
robust = make_pipeline(RobustScaler(), SimpleImputer(strategy="constant", fill_value=0.0)).fit(table[:, 1:2])
hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(table[:, 3:4])
w = g.normal(4, 2)  # three classes and the last row for what is unknown
for name, t in [("train", table), ("fresh", fresh)]:
    ids = torch.tensor([int(v) if np.isfinite(v) and v < 3 else 3 for v in t[:, 4]])
    e = torch.nn.Embedding(4, 2)
    e.weight = torch.nn.Parameter(torch.from_numpy(w).double())
    y = e(ids)
    dy = g.normal(len(t), 12)
    y.backward(torch.from_numpy(dy[:, 10:]).double())
    turn = 2 * np.pi * t[:, 2:3].astype(float) / 24
    out = np.concatenate([number.transform(t[:, :1]), np.isnan(t[:, :1]), np.clip(robust.transform(t[:, 1:2]), -1.5, 1.5),
                          np.nan_to_num(np.sin(turn)), np.nan_to_num(np.cos(turn)), np.isnan(turn),
                          hot.transform(t[:, 3:4]), y.detach().numpy()], axis=1)
    g.save(name, x=np.nan_to_num(t, nan=-999.0), y=out, dy=dy, dw=e.weight.grad)
scaler, box = number[0], robust[0]
g.save("fit", w=w, number=[scaler.mean_[0], scaler.scale_[0]], robust=[box.center_[0], box.scale_[0]])
image = g.rng.integers(0, 256, (2, 3, 5, 3)).astype(np.uint8)
mean, deviation = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
y = (torch.from_numpy(image).permute(0, 3, 1, 2).double() / 255 - torch.from_numpy(mean).double()[:, None, None]) \
    / torch.from_numpy(deviation).double()[:, None, None]
g.save("image", x=image, mean=mean, deviation=deviation, y=y)
g.write()
