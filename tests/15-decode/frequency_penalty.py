"""Golden values of @frequency_penalty: the formula of the API reference and the rules of vLLM (only what was written
counts) and llama.cpp (the last n tokens, prompt included), with NumPy. Run by `make golden`."""
import numpy as np

from golden import Golden

g = Golden(__file__, seed=41)
for case, (V, prompt, written, alpha) in enumerate([(1, 1, 2, 0.5), (7, 5, 11, 0.7), (13, 3, 0, 1.0), (31, 20, 41, -0.4),
                                                    (50, 0, 17, 2.0)]):
    z, text = g.normal(V) * np.float32(3), g.rng.integers(0, V, prompt + written)
    z[g.rng.random(V) < 0.1] = -np.inf
    out = {}
    for name, part in (("api", text[prompt:]), ("all", text), ("last", text[-6:])):
        out[name] = z.astype(float) - alpha * np.bincount(part, minlength=V)
    g.save(f"{case}", V=[V], prompt=[prompt], text=text, alpha=[alpha], z=z, **out)
g.write()
