"""Golden values of @protobuf: messages of every type, written by google.protobuf, with the fields that they hold."""
import random
import struct

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from golden import Golden  # tests/golden.py: writes named arrays as text

KINDS = {"uint64": 4, "int64": 3, "int32": 5, "sint64": 18, "bool": 8, "fixed64": 6, "double": 1, "fixed32": 7, "float": 2,
         "bytes": 12, "string": 9, "message": 11}
WIRE = {"fixed64": 1, "double": 1, "bytes": 2, "string": 2, "message": 2, "fixed32": 5, "float": 5}


def main():
    g, rng = Golden(__file__, seed=20), random.Random(20)
    file = descriptor_pb2.FileDescriptorProto(name="t.proto", package="t", syntax="proto2")
    m = file.message_type.add(name="M")
    names = {}
    for i, (kind, number) in enumerate(KINDS.items()):
        for k, tag in enumerate([i + 1, 20 + 100 * i, 2**29 - 1 - i]):
            names[tag] = kind
            f = m.field.add(name=f"{kind}{k}", number=tag, type=number, label=3)
            if kind == "message":
                f.type_name = ".t.M"
    M = message_factory.GetMessages([file])["t.M"] if hasattr(message_factory, "GetMessages") else None
    if M is None:
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        M = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.M"))

    def value(kind):
        bits = rng.choice([1, 7, 8, 14, 15, 31, 32, 63])
        n = rng.getrandbits(bits)
        return {"uint64": lambda: rng.getrandbits(64) >> rng.randrange(64), "int64": lambda: n - 2**(bits - 1), "int32": lambda:
                max(-2**31, min(2**31 - 1, n - 2**(bits - 1))), "sint64": lambda: n - 2**(bits - 1), "bool": lambda: n % 2 == 1,
                "fixed64": lambda: rng.getrandbits(64), "double": lambda: rng.gauss(0, 1e3), "fixed32": lambda: rng.getrandbits(32),
                "float": lambda: struct.unpack("f", struct.pack("f", rng.gauss(0, 1e3)))[0], "bytes": lambda:
                rng.randbytes(rng.choice([0, 1, 3, 200])), "string": lambda: "\u4e2d" * rng.randrange(4), "message": lambda:
                M(uint640=[rng.getrandbits(40)], bytes0=[b"\0\xff"])}[kind]()

    def raw(kind, v):
        """the 64 bits, or the bytes"""
        if kind in ("bytes", "string", "message"):
            return v if kind == "bytes" else v.encode() if kind == "string" else v.SerializeToString()
        if kind == "sint64":
            return 2 * v if v >= 0 else -2 * v - 1
        if kind in ("double", "float"):
            return int.from_bytes(struct.pack("<d" if kind == "double" else "<f", v), "little")
        return int(v) % 2**64

    for i in range(12):
        message, want = M(), []
        for tag in sorted(rng.sample(sorted(names), rng.choice([0, 1, 6, 20]))):  # in this order they are written
            kind = names[tag]
            field = next(f.name for f in M.DESCRIPTOR.fields if f.number == tag)
            for v in [value(kind) for _ in range(rng.choice([1, 1, 3]))]:
                getattr(message, field).append(v)
                r = raw(kind, v)
                parts = [len(r), sum((k + 1) * b for k, b in enumerate(r))] if isinstance(r, bytes) else [
                    r >> 48, r >> 32 & 0xFFFF, r >> 16 & 0xFFFF, r & 0xFFFF]
                want += [tag >> 16, tag & 0xFFFF, WIRE.get(kind, 0)] + parts
        g.save(f"{i}", data=list(message.SerializeToString()), fields=want)
    zigzag = [0, -1, 1, 2**40 + 5, -2**40 - 7]
    g.save("zigzag", value=[v / 1024 for v in zigzag], data=list(M(sint640=zigzag).SerializeToString()))
    g.save("numbers", float=[1.5, -3.25e-8], double=[2.5, -1e30], data=list(M(float0=[1.5, -3.25e-8], double0=[2.5, -1e30],
           int640=[-5, 7]).SerializeToString()))
    g.write()


if __name__ == "__main__":
    main()
