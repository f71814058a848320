"""Golden values of @agc: pytorch_optimizer's agc (rows; after timm's adaptive_clip_grad) and optax.adaptive_grad_clip (columns, and rows
with axis=1), in double. Units within, at and beyond the bound, units of zeros, infinite ratios."""
import jax
import numpy as np
import optax
import torch
from pytorch_optimizer.optimizer.agc import agc

from golden import Golden

jax.config.update("jax_enable_x64", True)
g = Golden(__file__, seed=81)
single = lambda x: float(np.float32(x))


def by_optax(grad, w, lam, eps, axis):
    clip = optax.adaptive_grad_clip(lam, eps, axis=axis)
    return np.asarray(clip.update(jax.numpy.asarray(grad), clip.init(w), jax.numpy.asarray(w))[0])


for name, shape, lam, eps in (("dense", (7, 5), 0.01, 1e-3), ("conv", (3, 2, 3, 3), 0.05, 0.1), ("bias", (6,), 0.02, 1e-3), ("one", (1, 1), 0.3, 1e-3)):
    w, grad = g.normal(*shape), g.normal(*shape)
    unit = (len(w),) + (1,) * (len(shape) - 1)
    grad *= np.float32(10.0) ** ((np.arange(len(w)).reshape(unit) % 4 - 3).astype(np.float32))
    if name in ("dense", "conv"):
        w[1] = 0.0
    lam, eps = single(lam), single(eps)
    wd, gd = w.astype(np.float64), grad.astype(np.float64)
    rows = agc(torch.from_numpy(wd), torch.from_numpy(gd), eps, lam).numpy()
    if len(shape) > 1:
        assert np.allclose(rows, by_optax(gd, wd, lam, eps, tuple(range(1, len(shape)))), rtol=1e-12)
        # optax's own rule: the last axis is the output, so units are the columns of (everything else, outputs)
        columns = by_optax(gd.reshape(-1, shape[-1]), wd.reshape(-1, shape[-1]), lam, eps, 0)
        g.save(name, columns=columns)
    g.save(name, w=w, g=grad, config=[lam, eps], rows=rows)
g.write()
