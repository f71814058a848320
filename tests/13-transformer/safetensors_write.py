"""Golden values of @safetensors_write: files of the format's own library."""
import sys

del sys.path[0]  # or `import safetensors` finds the script of that name
import safetensors.torch
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=0)
tensors = {"wte.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3) / 7, "scalar": torch.tensor(-1.5),
           "half": torch.tensor([1 / 3, 65504.0, 6e-8]).half(), "brain": torch.tensor([[1 / 3], [1e38]]).bfloat16(),
           "Empty": torch.zeros(2, 0, 3), "e4m3": torch.tensor([1.1, -448.0]).to(torch.float8_e4m3fn),
           "e5m2": torch.tensor([1.1, 57344.0]).to(torch.float8_e5m2), "mask": torch.tensor([True, False, True]),
           "ids": torch.tensor([1, -2], dtype=torch.int64), "bytes": torch.arange(5, dtype=torch.uint8),
           "\u00e9\"\n\x7f": torch.ones(1, 1, 1, 1, 1, 1, 1, 2), "half.2": torch.tensor([0.1], dtype=torch.float16)}
g.save("all", file=list(safetensors.torch.save(tensors, {"format": "pt"})))
g.save("plain", file=list(safetensors.torch.save({"b": torch.tensor([0.5, -1.0, 2.0])})))
g.save("none", file=list(safetensors.torch.save({})))
g.write()
