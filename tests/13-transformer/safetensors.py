"""Golden values of @safetensors: files written by the format's own library, and what it says to broken ones."""
import sys

del sys.path[0]  # or `import safetensors` finds this file
import json
import random

import numpy as np
import safetensors
import safetensors.torch
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=0)


def accepts(data):
    try:
        safetensors.deserialize(data)
        return True
    except safetensors.SafetensorError:
        return False


def file(header, data=b""):
    header = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return len(header).to_bytes(8, "little") + header + data


# a file of many dtypes and shapes, read by @safetensors and written again by @safetensors_write
tensors = {"wte.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3) / 7, "scalar": torch.tensor(-1.5),
           "half": torch.tensor([1 / 3, 65504.0, 6e-8]).half(), "brain": torch.tensor([[1 / 3], [1e38]]).bfloat16(),
           "empty": torch.zeros(2, 0, 3), "e4m3": torch.tensor([1.1, -448.0]).to(torch.float8_e4m3fn),
           "e5m2": torch.tensor([1.1, 57344.0]).to(torch.float8_e5m2), "mask": torch.tensor([True, False, True]),
           "ids": torch.tensor([1, -2], dtype=torch.int64), "bytes": torch.arange(5, dtype=torch.uint8),
           "\u00e9\"\n\x7f": torch.ones(1, 1, 1, 1, 1, 1, 1, 2), "double": torch.tensor([0.1], dtype=torch.float64)}
g.save("all", file=list(safetensors.torch.save(tensors, {"format": "pt"})))
for name in ("wte.weight", "half", "brain", "e4m3", "e5m2", "scalar"):
    g.save("value", **{name: tensors[name].float()})

# small files, right and wrong, and the library's verdict
f32, u8 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, {"dtype": "U8", "shape": [3], "data_offsets": [8, 11]}
two = {"b": f32, "a": u8}
eleven = bytes(range(11))


def change(**fields):
    return file({"b": f32 | fields, "a": u8}, eleven)


cases = [file(two, eleven), file({}), file(b"{}      "), file({"__metadata__": {"k": "v"}}), file({"a": u8, "b": f32}, eleven),
         file(two, eleven[:-1]), file(two, eleven + b"x"), file({}, b"x"), b"", b"1234567", bytes(8), file(b""), file(b"[]"),
         file(b"{} {}"), file(b'"a"'), file(b"null"), file(b"{"), (2**63).to_bytes(8, "little") + b"{}", b"\xff" * 8 + b"{}",
         (100000001).to_bytes(8, "little") + b"{}", (3).to_bytes(8, "little") + b"{}", (1).to_bytes(8, "little") + b"{}",
         change(shape=[3]), change(shape=[]), change(shape=[-2]), change(shape=[2.0]), change(shape=["2"]), change(shape=2),
         change(shape=[1, 2]), change(shape=[2, 1, 1, 1, 1, 1, 1, 1]), change(shape=[2, 0]), change(shape=[2**64]),
         change(shape=[2**63, 2**63]), change(shape=[2**62, 8]), change(shape=[2**32, 2**32, 2]), change(shape=[True]),
         change(shape=[[2]]), change(shape=None), change(shape={}), change(dtype="F16"), change(dtype="f32"), change(dtype=""),
         change(dtype="F32 "), change(dtype="F32\x00"), change(dtype=1), change(dtype=None), change(dtype="F64", shape=[1]),
         change(dtype="I32"), change(dtype="C64", shape=[1]), change(dtype="U64", shape=[1]), change(dtype="BF16", shape=[4]),
         change(dtype="F8_E8M0", shape=[8]), change(dtype="BOOL", shape=[2, 4]), change(dtype="I16", shape=[4]),
         change(data_offsets=[8, 0]), change(data_offsets=[0]), change(data_offsets=[0, 8, 8]), change(data_offsets=[]),
         change(data_offsets=[1, 9]), change(data_offsets=[3, 11]), change(data_offsets=[0, 7]), change(data_offsets=[-1, 7]),
         change(data_offsets=[0.0, 8.0]), change(data_offsets=["0", "8"]), change(data_offsets={"0": 8}), change(data_offsets=8),
         change(data_offsets=[2**64 - 4, 4]), change(data_offsets=[2**64, 8]), change(data_offsets=[0, 2**64 + 8]),
         change(extra=[1, {}]), file({"b": {}, "a": u8}, eleven), file({"b": [], "a": u8}, eleven), file({"b": None}, b""),
         file({"b": {k: f32[k] for k in ("dtype", "shape")}}, eleven[:8]), file({"b": f32, "a": u8 | {"data_offsets": [7, 10]}}, eleven),
         file({"b": f32, "a": u8 | {"data_offsets": [9, 12]}}, eleven + b"x"), file({"a": f32, "b": f32}, eleven[:8]),
         file({"e": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}), file({"e": {"dtype": "F32", "shape": [0, 2**63, 2**63], "data_offsets": [0, 0]}}),
         file({"e": {"dtype": "F32", "shape": [2**62, 0], "data_offsets": [0, 0]}}), file({"e": {"dtype": "F32", "shape": [2**63, 2, 0], "data_offsets": [0, 0]}}),
         file({"b": f32, "e": {"dtype": "U8", "shape": [0], "data_offsets": [8, 8]}, "a": u8}, eleven),
         file({"e": {"dtype": "U8", "shape": [0], "data_offsets": [0, -1]}}), file({"e": {"dtype": "U8", "shape": [0], "data_offsets": [-1, 0]}}),
         file({"b": f32, "e": {"dtype": "U8", "shape": [0], "data_offsets": [4, 4]}, "a": u8}, eleven),
         file({"b": f32, "e": {"dtype": "U8", "shape": [0], "data_offsets": [11, 11]}, "a": u8}, eleven),
         file({"e": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}, "b": f32, "a": u8}, eleven),
         file({"__metadata__": {"k": 1}}), file({"__metadata__": []}), file({"__metadata__": "x"}), file({"__metadata__": {"k": ["v"]}}),
         file({"__metadata__": {}}), file({"__metadata__": {"a": "b", "c": "d"}, "a": f32}, eleven[:8]),
         file(b'{"\xff":{}}'), file(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},}', b"x"),
         file(b'{"a":{"dtype":"U8","shape":[01],"data_offsets":[0,1]}}', b"x"), file(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}\x00', b"x"),
         file(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"dtype":"U8"}}', b"x"),
         file(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"shape":[1]}}', b"x"),
         file(b'{"__metadata__":{},"__metadata__":{}}'), file(b'{"\\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x")]


def shared(a, b):  # how many bytes are the same at the start
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


# case = 8 bytes, then the first case's bytes with the middle replaced: start, end of that, what stands there
starts, ends, middles = [], [], []
first = cases[0][8:]
for c in cases:
    start = shared(c[8:], first)
    end = min(shared(c[8:][::-1], first[::-1]), len(first) - start, max(len(c) - 8 - start, 0))
    starts.append(start), ends.append(end), middles.append(c[8 + start : max(len(c) - end, 8)])
    assert (c[:8] + first[:start] + middles[-1] + first[len(first) - end :])[: len(c)] == c
g.save("case", sizes=[len(c) for c in cases], accepted=[int(accepts(c)) for c in cases], starts=starts, ends=ends,
       first=list(first), heads=list(b"".join(c[:8] for c in cases)), middles=list(b"".join(middles)))

# one byte changed: anywhere in the length, anywhere in the header, mostly to characters that JSON knows
rng = random.Random(0)
small = file(json.dumps(two, separators=(",", ":")).encode(), eleven)
mutants, accepted = [], []
for i in range(1100):
    place = rng.randrange(8) if i < 100 else 8 + rng.randrange(len(small) - 19)
    byte = rng.randrange(256) if i < 300 else rng.choice(b'"{}[]:,0123456789-.eE \\abdeFUu')
    data = bytearray(small)
    data[place] = byte
    mutants.append(256 * place + byte)
    if accepts(bytes(data)):
        accepted.append(i)
g.save("mutant", file=list(small), changes=mutants, accepted=accepted)
g.write()
