"""Golden values of @json: documents as bytes, and what Python's json makes of them, in a form without choices:
n t f, numbers as the 16 hex digits of the double, strings as hex bytes, [a,b] and {key:value}, duplicates kept."""
import sys

del sys.path[0]  # or `import json` finds this file
import json
import random
import struct

from golden import Golden  # tests/golden.py: writes named arrays as text


def plain(v):
    if v is None or v is True or v is False:
        return {None: "n", True: "t", False: "f"}[v]
    if isinstance(v, float):
        return struct.pack(">d", v).hex()
    if isinstance(v, str):
        return '"' + v.encode().hex()  # fails on half a surrogate pair
    if isinstance(v, list):
        return "[" + ",".join(plain(x) for x in v) + "]"
    return "{" + ",".join(plain(k) + ":" + plain(x) for k, x in v) + "}"


class Pairs(tuple):
    pass


def refuse(word):
    raise ValueError(word)  # NaN and Infinity are Python's, not JSON's


def want(document):
    """The plain form, or an empty one where the document is refused."""
    try:
        v = json.loads(document.decode(), parse_int=float, parse_constant=refuse, object_pairs_hook=Pairs)
        return plain(list(v) if isinstance(v, list) else v).encode()
    except (ValueError, RecursionError):
        return b""


documents = r'''
null|true|false|nul|nulll|True|NULL|tru e|nan|NaN|Infinity|-Infinity|undefined|0|-0|-0.0|-|+1|01|-01|00|1.|.5|1.0|-1.5
1e5|1E5|1e+5|1E-5|1e|1e+|1e-|1e5.5|1.e1|0e0|0E+0|1.5e3|0x10|1_000|1 000|- 1|--1|1e05|1.00|2.|.|e5|1,2|1a|1-|1.5.5
9007199254740993|9007199254740992.9999999|18446744073709551615|123456789012345678901234567890|1e22|1e23|1e999|-1e999
1e308|1.7976931348623157e308|1.7976931348623158e308|1.7976931348623159e308|179769313486231580e291|4.9e-324|2.4e-324
2.5e-324|2.2250738585072011e-308|2.2250738585072014e-308|1e-400|0.1|0.3|1e-7|123e-2|0.000001234|100000000000000000000
8.5e15|5e-1|3.14159265358979323846264338327950288|0.1e1|0.0|-0e5|0.00000000000000000000000000000000000000000000001e48
""|"a"|"a b"|"\"\\\/\b\f\n\r\t"|"\u0041\u00e9\u20ac\uD83D\uDE00\ud834\udd1e"|"\u0000"|"a\u0000b"|"\uFFFF\ufffe\uFEFF"
"\u000"|"\u00g0"|"\U0041"|"\x41"|"\'"|"\a"|"\0"|"\|"\"|"a|a"|'a'|"\u"|"\u12"|"\ud800"|"\udc00"|"\ud800\ud800"|"\ud800x"
"\ud800\u0041"|"\udc00\ud800"|"\udbff\udfff"|"\ud800\udc00"|"\ud800\n"|"\ud83d\\ude00"|"\u007f"|"\u0080\u07ff\u0800"
[]|[ ]|[1]|[1,2]|[1,]|[,1]|[,]|[1,,2]|[1 2]|[1|[|]|[]]|[[]|[[]]|[[],[]]|[[[[]]]]|[1,[2,[3,[]]],4]|["a","b"]|[1}|[1:2]
{}|{ }|{"a":1}|{"a":1,"b":2}|{"a":1,}|{,"a":1}|{"a"}|{"a":}|{:1}|{a:1}|{"a" 1}|{"a":1 "b":2}|{1:2}|{"a":1]|{"a":1|{|}|{}}
{"a":{"b":{"c":[1,{"d":null}]}}}|{"":0}|{"a":1,"a":2,"a":3}|{"\u0061":1,"a":2}|{null:1}|{"a"::1}|{"a":b}|{"a":"b",}
 1 | [ 1 , 2 ] | { "a" : 1 } |1 1|[] []|{}[]|1]|1}|,|:|"a""b"|// 1|/* */1|[1]#|[1,//
[1,2]|{"a":[],"b":{},"c":""}|{"version":"1.0","model":{"type":"BPE","vocab":{"a":0,"\u0120b":1},"merges":["a b","c d"]}}
{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}|[true,false,null,0,"",[],{}]
[{"a":1},{"a":2}]|[1.5,-2e3,"\n",{"x":[{}]}]|[[1,2],[3,[4,5]],6]|{"a":[1,{"b":[2,{"c":3}]}]}|["\\","\"","/"]
'''.strip().replace("\n", "|").split("|")
documents = [d.encode() for d in dict.fromkeys(documents)] + [b'"|"', b'["\\u007c","a|b"]', b"", b" ", b"\n\t\r ", b"\n[\t1\r,\n2 ]\t"]
for c in (0, 1, 8, 9, 10, 13, 31, 32, 127):  # control characters in and outside strings
    documents += [b'"' + bytes([c]) + b'"', b"[1" + bytes([c]) + b"]"]
documents += [b"[1\x0b]", b"[1\x0c]", b"[\xc2\xa01]", b"\xef\xbb\xbf1", b"1\x00", b"\x00", b'"\xe2\x80\xa8\x7f"', b"[\xff]", b"\xe9"]
for s in ["c280", "dfbf", "e0a080", "e28282ac", "ed9fbf", "ee8080", "efbfbf", "f0908080", "f48fbfbf", "f0a08080", "e282ac41",  # right
          "80", "bf", "c0", "c080", "c1bf", "c2", "c241", "c2c2", "e0", "e080", "e09fbf", "e0a0", "e28241", "eda080", "edbfbf",
          "eda0bdedb880", "f0", "f0908041", "f08fbfbf", "f09080", "f4908080", "f5808080", "f8888080", "fe", "ff", "e2c280", "f09f41"]:
    documents.append(b'"' + bytes.fromhex(s) + b'"')

rng = random.Random(0)
words = ["", "a", "key", "\u00e9", "\U0001f600", "\n", '"\\', "\u2028", "\x7f", "\u0120the"]


def value(depth):
    kind = rng.randrange(8 if depth else 6)
    if kind < 3:
        return rng.choice([None, True, False, rng.choice(words), "".join(rng.choices(words, k=3))])
    if kind < 5:
        return rng.choice([rng.randrange(-1000, 1000), rng.uniform(-1, 1), rng.uniform(1, 9) * 10.0 ** rng.randrange(-320, 308)])
    if kind % 2:
        return [value(depth - 1) for _ in range(rng.randrange(4))] if depth else []
    return {rng.choice(words): value(depth - 1) for _ in range(rng.randrange(4))}


for _ in range(14):
    documents.append(json.dumps(value(3), ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 1])).encode()[:250])
for _ in range(60):  # one byte of a small document changed
    d = bytearray(b'{"a":[1,-2.5e3,"\\u00e9\\n"],"b":{"c":null,"d":true}}')
    d[rng.randrange(len(d))] = rng.choice(b'"\\{}[],:0123456789eE+-.tfn u\x1f\x80\xc3')
    documents.append(bytes(d))

g = Golden(__file__, seed=0)
kept = [want(d) for d in documents]
g.save("all", count=[len(documents)], documents=list(b"".join(documents)), sizes=[len(d) for d in documents],
       wants=list(b"".join(kept)), want_sizes=[len(w) for w in kept])
g.write()
