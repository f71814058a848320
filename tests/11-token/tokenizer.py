"""Golden values of @tokenizer: a tokenizer in the files of Hugging Face and of GPT-2, and its ids. Larger ones that
tokenizers has trained are loaded here in both forms and compared on thousands of texts."""
import random
import tempfile
from pathlib import Path

from bpe import TEXT, train  # bpe.py beside this file
from pre_tokenize import fuzzed
from tokenizer_save import Llm
from tokenizer_text import tokenizer
from tokenizer_vocab import pack

from golden import Golden  # tests/golden.py: writes named arrays as text


def main():
    g, rng, llm = Golden(__file__, seed=21), random.Random(21), Llm()
    with tempfile.TemporaryDirectory() as folder:
        merges, ranks = train(TEXT * 3, 2000)
        ranks[b"<|endoftext|>"] = len(ranks)
        t = tokenizer(merges, ranks, added=[("<|endoftext|>", True, False)])
        for name in ("one", "two"):
            (Path(folder) / name).mkdir()
        t.save(folder + "/one/tokenizer.json")
        t.model.save(folder + "/two")
        own = [llm.loaded(folder + name) for name in ("/one", "/two", "/one/tokenizer.json")]
        for turn in range(3000):
            text = fuzzed(rng) + rng.choice([TEXT[rng.randrange(400):][:40], "<|endoftext|>", ""]) + fuzzed(rng)
            if any(ord(c) > 0x2FFF and c not in TEXT for c in text):
                continue  # the engine's Unicode is older
            for special in (False, True):
                t.encode_special_tokens = not special
                want = t.encode(text).ids
                assert all(llm.encode(one, text, special) == want for one in own), text

    merges, ranks = train(TEXT, 2000)
    ranks = {token: id for token, id in ranks.items() if id < 286}
    ranks[b"<|endoftext|>"] = len(ranks)
    t = tokenizer(merges[:30], ranks, added=[("<|endoftext|>", True, False)])
    file = t.to_str(pretty=False).encode()
    text = TEXT[:180] + "<|endoftext|>\u4e2d then"
    g.save("file", size=[len(file)], text=pack(file))
    g.save("text", size=[len(text.encode())], text=pack(text.encode()), ids=t.encode(text).ids)
    t.encode_special_tokens = True
    g.save("text", plain=t.encode(text).ids)
    g.write()


if __name__ == "__main__":
    main()
