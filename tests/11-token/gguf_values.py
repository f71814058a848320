"""Golden values of @gguf_values: the header of a file that the gguf package writes, with every type, alone and in arrays."""
import tempfile
from pathlib import Path

import gguf

from golden import Golden  # tests/golden.py: writes named arrays as text


def main():
    g = Golden(__file__, seed=52)
    numbers = {"uint8": [0, 200, 255], "int8": [-128, -1, 127], "uint16": [0, 40000, 65535], "int16": [-32768, -2, 32767],
               "uint32": [0, 3 << 30, 5], "int32": [-2**31, -3, 7], "float32": [1.5, -2.25e-8, 3e38], "uint64": [0, 1 << 60, 9],
               "int64": [-2**62, -5, 11], "float64": [1.5, -2.5e30, 1e-20], "bool": [True, False, True]}
    T = gguf.GGUFValueType
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.gguf"
        w = gguf.GGUFWriter(path, "llama")
        for name, values in numbers.items():
            kind = T[name.upper()]
            w.add_key_value(f"one.{name}", values[1], kind)
            w.add_key_value(f"many.{name}", values, T.ARRAY, kind)
            g.save(name, values=[float(v) for v in values])
        w.add_string("a.string", "gr\u00fc\u00dfe\0!")
        w.add_array("strings", ["", "a", "b" * 300, "\u4e2d"])
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.close()
        g.save("file", data=list(path.read_bytes()))
    g.write()


if __name__ == "__main__":
    main()
