"""Golden values of @gguf_bert: BERT's vocabulary as the gguf package writes it, in the spelling of llama.cpp's converter, and the
ids that tokenizers gives hostile strings."""
import gguf
import hostile  # tests/hostile.py
import parts  # tests/parts.py
from tokenizer_gguf import write  # tokenizer_gguf.py beside this file

from golden import Golden  # tests/golden.py: writes named arrays as text


def spelt(token):
    return token[2:] if token.startswith("##") else parts.MARK + token


def main():
    g = Golden(__file__, seed=87)
    parts.save_old(g)
    for lower in (True, False):
        t = parts.wordpiece(180, lower)
        tokens = [t.id_to_token(i) for i in range(t.get_vocab_size())]

        def bert(w):
            w.add_tokenizer_model("bert")
            w.add_token_list([x if i < 5 else spelt(x) for i, x in enumerate(tokens)])
            w.add_token_types([gguf.TokenType.CONTROL if i < 5 else gguf.TokenType.NORMAL for i in range(len(tokens))])
            if not lower:
                w.add_bool("tokenizer.ggml.normalizer.lowercase", False)

        name = "uncased" if lower else "cased"
        parts.save_text(g, name, write(bert))
        g.save("hash", **hostile.hashes(hostile.KNOWN, **{name: parts.known(lambda text: t.encode(text, add_special_tokens=False).ids)}))
    g.write()


if __name__ == "__main__":
    main()
