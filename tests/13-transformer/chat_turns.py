"""Golden values of @chat_turns: what transformers' apply_chat_template makes of conversations."""
import hashlib
import os
import random

from chat_template import TEMPLATES
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from golden import Golden  # tests/golden.py: writes named arrays as text

TEXTS = ["", " ", "Hi", " Hi there \n", "\u3000caf\u00e9\u00a0", "a\n\nb", "\n\n", "[/INST]", "<|im_end|>", "</s>x", "\n4.\n",
         "<think>\nso\n\n</think>\n\n42", "<think></think>7", "x</think>\n\n\ny", "a<think>b<think>\nc\n</think>d</think>\ne"]


def tokenizer(name):
    bos, eos = {"llama3": ("<|begin_of_text|>", "<|eot_id|>"), "llama3.1": ("<|begin_of_text|>", "<|eot_id|>"),
                "gemma": ("<bos>", "<eos>")}.get(name, ("<s>", "</s>"))
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0})), bos_token=bos, eos_token=eos)


def conversations():
    rng = random.Random(13)
    for k in range(44):
        talk = ["system"] * rng.randrange(2) + ["user", "assistant"] * 3
        talk = talk[:rng.randrange(1, len(talk) + 1)]
        if k % 8 == 7:  # in an order that some refuse
            rng.shuffle(talk)
        yield [(role, rng.choice(TEXTS)) for role in talk]


def main():
    g = Golden(__file__, seed=1307)
    talks = list(conversations())
    g.save("texts", bytes=list("".join(TEXTS).encode()), size=[len(x.encode()) for x in TEXTS])
    g.save("talks", size=[len(t) for t in talks], role=["system user assistant".split().index(r) for t in talks for r, _ in t],
           text=[TEXTS.index(x) for t in talks for _, x in t])
    for name, jinja in TEMPLATES.items():
        t, out = tokenizer(name), []
        for talk in talks:
            for prompt in (False, True):
                try:
                    if name == "gemma" and talk[1:] and "system" in [r for r, _ in talk[1:]]:
                        raise ValueError("System: the template would take it for an answer")
                    text = t.apply_chat_template([{"role": r, "content": x} for r, x in talk], chat_template=jinja,
                                                 tokenize=False, add_generation_prompt=prompt)
                except Exception as refused:
                    assert "lternate" in str(refused) or "System" in str(refused), refused
                    out += [-1, -1]
                    continue
                if os.environ.get("SHOW"):
                    print(name, repr(text))
                text = text.encode()
                out += [len(text), int.from_bytes(hashlib.sha256(text).digest()[:3], "big")]
        g.save(name, hash=out)
    g.write()


if __name__ == "__main__":
    main()
