"""Golden values of @gguf_file and @gguf_write: a file of the gguf package with tensors of several types, and its values."""
import tempfile
from pathlib import Path

import gguf
import numpy as np

from golden import Golden  # tests/golden.py: writes named arrays as text


def main():
    g = Golden(__file__, seed=1302)
    Q = gguf.GGMLQuantizationType
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.gguf"
        w = gguf.GGUFWriter(path, "llama")
        w.add_uint32("llama.block_count", 3)
        w.add_float32("llama.rope.freq_base", 10000.5)
        w.add_int8("an.int8", -5)
        w.add_float64("a.double", 0.1)
        w.add_bool("a.bool", True)
        w.add_array("tokens", ["<s>", "", "gr\u00fc\u00df"])
        w.add_array("scores", [0.5, -1.5, 2.25])
        tensors = {"token_embd.weight": g.normal(3, 5), "a.vector": g.normal(7), "four": g.normal(2, 1, 2, 3),
                   "half": g.normal(2, 3).astype(np.float16)}
        for name, x in tensors.items():
            w.add_tensor(name, x)
            g.save("value", **{name: x})
        for name, kind, shape in (("blk.0.q8", Q.Q8_0, (2, 64)), ("blk.0.q4", Q.Q4_0, (3, 32)), ("brain", Q.BF16, (1, 3))):
            data = gguf.quants.quantize(g.normal(*shape), kind)
            w.add_tensor(name, data, raw_dtype=kind)
            g.save("value", **{name: gguf.dequantize(data, kind)})
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()
        g.save("file", data=list(path.read_bytes()))
    g.write()


if __name__ == "__main__":
    main()
