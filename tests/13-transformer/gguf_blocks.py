"""Golden values of @gguf_blocks: random blocks of every type, and what gguf.dequantize makes of them."""
import gguf
import numpy as np

from golden import Golden  # tests/golden.py: writes named arrays as text

TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def main():
    g = Golden(__file__, seed=1301)
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        weights, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = 3 if weights == 32 else 1
        data = g.rng.integers(0, 256, (blocks, size), dtype=np.uint8)
        for at in HALVES[name]:  # scales of ordinary size, one of them tiny, one negative
            scale = g.rng.uniform(1e-3, 2e-2, blocks).astype(np.float16)
            scale[0] *= -1
            scale[1:2] = np.float16(3e-7)
            data[:, at:at + 2] = scale.view(np.uint8).reshape(blocks, 2)
        values = gguf.dequantize(data, kind)
        g.save(name, data=data, values=values)
    known = [kind for kind in gguf.GGML_QUANT_SIZES]
    g.save("sizes", type=[int(k) for k in known], weights=[gguf.GGML_QUANT_SIZES[k][0] for k in known],
           bytes=[gguf.GGML_QUANT_SIZES[k][1] for k in known])
    g.write()


if __name__ == "__main__":
    main()
