"""Golden values of @byte_level: transformers' bytes_to_unicode, and the order that tokenizers gives the alphabet."""
from tokenizers import pre_tokenizers
from transformers.convert_slow_tokenizer import bytes_to_unicode

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=13)
code = bytes_to_unicode()
order = sorted(pre_tokenizers.ByteLevel.alphabet())
assert sorted(code.values()) == order and len(order) == 256
g.save("byte", code=[ord(code[b]) for b in range(256)], id=[order.index(code[b]) for b in range(256)])
g.write()
