"""Golden values of @tokenizer_json: a tokenizer.json as Hugging Face tokenizers writes it, and its ids."""
from bpe import TEXT, train  # bpe.py beside this file
from tokenizer_text import LLAMA3, tokenizer
from tokenizer_vocab import pack

from golden import Golden  # tests/golden.py: writes named arrays as text


def main():
    g = Golden(__file__, seed=19)
    merges, ranks = train(TEXT, 2000)
    ranks = {token: id for token, id in ranks.items() if id < 290}
    ranks[b" theme"] = len(ranks)
    added = [("<|end|>", True, False), ("the", False, True), ("<\u4e2d>", True, True)]
    t = tokenizer(merges[:34], ranks, pattern=LLAMA3, ignore=True, added=added)
    file = t.to_str(pretty=False).encode()
    text = "the theme<|end|> of 12345 <\u4e2d>\n\nit's caf\u00e9"
    g.save("file", size=[len(file)], text=pack(file))
    g.save("text", size=[len(text.encode())], text=pack(text.encode()), ids=t.encode(text).ids)
    g.write()


if __name__ == "__main__":
    main()
