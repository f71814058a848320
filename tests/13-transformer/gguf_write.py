"""Golden values of @gguf_write: the bytes of a file of the gguf package, which the test writes again from its tensors."""
import tempfile
from pathlib import Path

from gguf import GGUFWriter, GGMLQuantizationType

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=1303)
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "small.gguf"
    writer = GGUFWriter(file, "llama")
    writer.add_block_count(3)
    writer.add_rope_freq_base(10000.5)
    writer.add_int8("an.int8", -5)
    writer.add_float64("a.double", 0.1)
    writer.add_bool("a.bool", True)
    writer.add_array("tokens", ["<s>", "", "gr\u00fc\u00df"])
    writer.add_array("scores", [0.5, -1.5, 2.25])
    writer.add_tensor("wide", g.normal(3, 5))
    writer.add_tensor("deep", g.normal(2, 1, 2, 3).astype("float16"))
    writer.add_tensor("blocks", g.rng.integers(0, 99, (2, 68), dtype="uint8"), raw_dtype=GGMLQuantizationType.Q8_0)
    writer.add_tensor("last", g.normal(7))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    g.save("file", data=list(file.read_bytes()))
g.write()
