"""Golden values of @safetensors_dtype: torch's conversions, of every 8-bit code and of some 16-bit ones. NaN is 1e9."""
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=0)
wide = torch.arange(0, 65536, 131, dtype=torch.int32)
wide = torch.cat([wide, torch.tensor([1, 0x3FF, 0x400, 0x7BFF, 0x7C00, 0x7C01, 0x7FFF, 0x8000, 0xFBFF, 0xFC00, 0x80, 0x7F, 0x7F80, 0xFF80])])
for name, dtype, codes in [("f16", torch.float16, wide), ("bf16", torch.bfloat16, wide),
                           ("e5m2", torch.float8_e5m2, torch.arange(256)), ("e4m3", torch.float8_e4m3fn, torch.arange(256))]:
    size = 2 if dtype.itemsize == 2 else 1
    raw = torch.tensor([b for c in codes.tolist() for b in c.to_bytes(size, "little")], dtype=torch.uint8)
    g.save(name, code=codes, value=raw.view(dtype).float().nan_to_num(1e9, float("inf"), -float("inf")))
g.write()
