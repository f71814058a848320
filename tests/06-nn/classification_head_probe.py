"""Golden values of @classification_head_probe: scikit-learn's LogisticRegression and NearestCentroid, and torch's
cosine_similarity with autograd in float64."""
import numpy as np
import torch
from golden import Golden
from sklearn.linear_model import LogisticRegression

g = Golden(__file__, seed=62)

n, d, k, l2 = 40, 3, 4, 0.02
a = g.normal(n, d)
label = np.argmax(a @ g.normal(d, k) + 0.7 * g.normal(n, k), 1)
label[:k] = range(k)
fit = LogisticRegression(C=1 / (l2 * n), tol=1e-10, max_iter=10000).fit(a.astype(float), label)
g.save("probe", a=a, label=label, w=fit.coef_, b=fit.intercept_, p=fit.predict_proba(a.astype(float)))

means = np.stack([a[label == c].astype(float).mean(0) for c in range(k)])
near = np.square(a[:, None].astype(float) - means).sum(-1)
g.save("means", distance=near)

for n, d, k in [(1, 1, 1), (2, 3, 5), (7, 5, 2)]:
    a, w, t, dz = g.normal(n, d), g.normal(k, d), g.normal(1), g.normal(n, k)
    ad, wd, td = (torch.from_numpy(v).double().requires_grad_() for v in (a, w, t))
    z = td.exp() * torch.nn.functional.cosine_similarity(ad[:, None], wd[None], dim=-1)
    da, dw, dt = torch.autograd.grad(z, [ad, wd, td], torch.from_numpy(dz).double())
    g.save(f"cosine/{n}", a=a, w=np.append(w, t), dz=dz, z=z, da=da, dw=torch.cat([dw.flatten(), dt]))

g.write()
