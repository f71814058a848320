"""Golden values of @sinusoidal: the tables of transformers' DistilBERT (neighbours), Marian (halves), M2M-100 and
Whisper (halves, up to 1/10000 inclusive), all made in float32 or by numpy, so positions are small; and the embedding of
diffusion time steps, [cos | sin], in float64. Run by `make golden`; writes sinusoidal.txt."""
import numpy as np
import torch
from transformers.models.distilbert import modeling_distilbert as distilbert
from transformers.models.m2m_100 import modeling_m2m_100 as m2m
from transformers.models.marian import modeling_marian as marian
from transformers.models.whisper import modeling_whisper as whisper

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=21)

for C in (2, 6, 22):
    g.save(f"distilbert{C}", table=distilbert._create_sinusoidal_embeddings(11, C, torch.empty(11, C)))
    g.save(f"marian{C}", table=marian.MarianSinusoidalPositionalEmbedding(11, C).create_weight())
for C in (4, 14):
    g.save(f"m2m{C}", table=m2m.M2M100SinusoidalPositionalEmbedding.get_embedding(11, C))
    g.save(f"whisper{C}", table=whisper.sinusoids(5, C))

# guided-diffusion and Stable Diffusion: cosines first, exponents i / (C/2), time steps between whole numbers
t = np.array([0, 0.5, 1, 17.25, 999], dtype=np.float64)
for C in (2, 10):
    angle = torch.outer(torch.from_numpy(t), torch.logspace(0, -4, C // 2 + 1, dtype=torch.float64)[:-1])
    g.save(f"diffusion{C}", t=t, table=torch.cat([angle.cos(), angle.sin()], 1))

# Far out: exact sines of a product that mpmath keeps whole
import mpmath
mpmath.mp.dps = 40
far = [99999, 1000003, 16777216]
g.save("far", t=np.array(far), table=np.array([[float(fn(p * mpmath.mpf(10000) ** (-mpmath.mpf(i) / 8))) for i in range(8)
                                               for fn in (mpmath.sin, mpmath.cos)] for p in far]))

x, dy, pos = g.normal(7, 6), g.normal(7, 6), g.rng.integers(0, 11, 7)
xd = torch.from_numpy(x).double().requires_grad_()
y = xd * 6 ** 0.5 + distilbert._create_sinusoidal_embeddings(11, 6, torch.empty(11, 6)).double()[pos]
y.backward(torch.from_numpy(dy).double())
g.save("add", x=x, dy=dy, pos=pos, y=y, dx=xd.grad)
g.write()
