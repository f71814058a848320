"""Golden values of @bos: ids that the tokenizers of transformers give with add_bos_token on and off, of texts with and without
a BOS of their own."""
from transformers import GPT2Tokenizer, LlamaTokenizer

from golden import Golden  # tests/golden.py: writes named arrays as text

LLAMA = {"<unk>": 0, "<s>": 1, "</s>": 2, "\u2581": 3, "a": 4, "b": 5, "ab": 6, "\u2581a": 7}
GPT2 = {"<|endoftext|>": 0, "a": 1, "b": 2, "ab": 3}


def main():
    g = Golden(__file__, seed=1)
    for add in (False, True):
        llama = LlamaTokenizer(vocab=LLAMA, merges=[("a", "b"), ("\u2581", "a")], add_bos_token=add)
        gpt2 = GPT2Tokenizer(vocab=GPT2, merges=[("a", "b")], add_bos_token=add)
        for name, t, bos in ("llama", llama, "<s>"), ("gpt2", gpt2, "<|endoftext|>"):
            for i, text in enumerate(["", "a", "ab", "baab", bos, bos + "ab", bos + bos + "ab", "ab" + bos]):
                ids = t(text)["input_ids"]
                g.save(f"{name}/{i}", **{"on" if add else "off": ids})
    g.write()


if __name__ == "__main__":
    main()
