"""Golden values of @flash_fp8: PyTorch's own casts to float8_e4m3fn and bfloat16, SciPy's matrix of Hadamard, and the
algorithm over tiles of 64 in float64 with these casts between. Run by `make golden`; writes flash_fp8.txt."""
import numpy as np
import torch
from scipy.linalg import hadamard

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=71)


def cast(x, kind):
    to = dict(e4m3=torch.float8_e4m3fn, bf16=torch.bfloat16)[kind]
    return torch.from_numpy(np.asarray(x, dtype=np.float32)).to(to).double().numpy()


x = np.concatenate([g.normal(60), 100 * g.normal(30), 0.004 * g.normal(40), np.arange(0, 20) / 1024,  # ties of the small grid
                    1 + np.arange(0, 20) / 16, -16 - np.arange(0, 40), [0.0, 448, -447.9, 0.0009765625, 0.00097656256]]).astype(np.float32)
x = x[abs(x) <= 448]
g.save("round", x=x, e4m3=cast(x, "e4m3"), bf16=cast(x, "bf16"))

for D in [1, 2, 8]:
    sign, rows = np.where(g.coin(D, 0.5), 1.0, -1.0), g.normal(3, D)
    g.save(f"rotate{D}", sign=sign, x=rows, y=rows.astype(float) @ np.diag(sign) @ hadamard(D) / D**0.5)


def store(x, block, kind, turn):
    """Rounded numbers and a scale a row, of (heads,rows,D)."""
    x = (x.astype(float) @ turn).astype(np.float32)
    scale = np.ones(x.shape[:2])
    for h in range(x.shape[0]):
        for r in range(0, x.shape[1], block):
            if kind == "e4m3":
                scale[h, r : r + block] = np.float32(abs(x[h, r : r + block]).max()) / np.float32(448)
    return cast(x / scale[..., None].astype(np.float32), kind), scale


for H, Hkv, T, S, D, block, causal, kind, rotate in [(1, 1, 1, 1, 1, 64, 1, "e4m3", 0), (2, 1, 5, 9, 4, 64, 1, "e4m3", 1), (1, 1, 2, 130, 2, 64, 0, "e4m3", 0),
                                                     (1, 1, 2, 130, 2, 128, 1, "e4m3", 0), (1, 1, 67, 3, 2, 64, 1, "bf16", 1)]:
    q, k, v = g.normal(H, T, D), g.normal(Hkv, S, D), g.normal(Hkv, S, D)
    sign = np.where(g.coin(D, 0.5), 1.0, -1.0)
    turn = np.diag(sign) @ hadamard(D) / D**0.5 if rotate else np.eye(D)
    (qq, sq), (kk, sk), (vv, sv) = store(q, block, kind, turn), store(k, block, kind, turn), store(v, block, kind, np.eye(D))
    out, lse = np.zeros((H, T, D)), np.full((H, T), -np.inf)
    for h in range(H):
        kv = h * Hkv // H
        for t in range(T):
            end, m, l = (min(S, max(0, t + S - T + 1)) if causal else S), -np.inf, 0.0
            for j in range(0, end, 64):
                n = slice(j, min(j + 64, end))
                s = kk[kv, n] @ qq[h, t] * sk[kv, n] * sq[h, t] / D**0.5
                new = max(m, s.max())
                p = np.exp(s - new)
                l = l * np.exp(m - new) + p.sum()
                out[h, t] = out[h, t] * np.exp(m - new) + (cast(256 * p, kind) / 256 * sv[kv, n]) @ vv[kv, n]
                m = new
            if end:
                out[h, t] /= l
                lse[h, t] = m + np.log(l)
    g.save(f"{H}x{Hkv}x{T}x{S}x{D}x{block}x{causal}x{kind}x{rotate}", q=q, k=k, v=v, sign=sign, out=out, lse=lse)
g.write()
