"""Golden values of @presence_penalty: the formula of the API reference on random texts, prompt left out as vLLM does, with
NumPy; groups of tokens by a set for each. Run by `make golden`."""
import numpy as np

from golden import Golden

g = Golden(__file__, seed=42)
for case, (V, prompt, written, freq, pres) in enumerate([(1, 0, 3, 0.5, 1.0), (7, 5, 11, 0.7, 0.3), (13, 3, 0, 1.0, 1.0),
                                                         (31, 20, 41, -0.4, 0.9), (50, 0, 17, 0.2, -2.0)]):
    z, text = g.normal(V) * np.float32(3), g.rng.integers(0, V, prompt + written)
    group = g.rng.integers(-1, 6, V)
    count = np.bincount(text[prompt:], minlength=V)
    said = {group[v] for v in text[prompt:]} - {-1}
    g.save(f"{case}", V=[V], prompt=[prompt], text=text, freq=[freq], pres=[pres], z=z, group=group,
           presence=z.astype(float) - pres * (count > 0), both=z.astype(float) - freq * count - pres * (count > 0),
           topics=[float(z[v]) - pres * (group[v] in said) for v in range(V)])
g.write()
