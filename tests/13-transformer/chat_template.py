"""Golden values of @chat_template and, as chat_turns.txt, of @chat_turns: what transformers' apply_chat_template makes of
conversations. Llama 3, Qwen 2.5 and 3 and Gemma are the released templates, as trl brings them along; the others are written
here after the released ones, turns of text only."""
import hashlib
import importlib.util
import os
import random

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from golden import Golden  # tests/golden.py: writes named arrays as text

TRL = os.path.join(os.path.dirname(importlib.util.find_spec("trl").origin), "chat_templates")
ALTERNATE = ("{% for m in all %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) or m.role == 'system' %}"
             "{{ raise_exception('alternate') }}{% endif %}{% endfor %}")
SPLIT = ("{% set all = messages %}{% if messages[0].role == 'system' %}{% set s = messages[0].content %}"
         "{% set all = messages[1:] %}{% endif %}")
ML = ("{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def silent(text):
    return "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\\n" + text + "<|im_end|>\\n' }}{% endif %}" + ML


def released(name):
    with open(os.path.join(TRL, name + ".jinja")) as f:
        return f.read()


TEMPLATES = {
    "llama2": SPLIT + ALTERNATE + "{% for m in all %}{% if m.role == 'user' %}{% set c = m.content %}{% if loop.first and s is "
              "defined %}{% set c = '<<SYS>>\\n' + s + '\\n<</SYS>>\\n\\n' + c %}{% endif %}{{ '<s>[INST] ' + c.strip() + "
              "' [/INST]' }}{% else %}{{ ' ' + m.content.strip() + ' </s>' }}{% endif %}{% endfor %}",
    "llama3.1": released("llama3_1"),
    "llama3": released("llama3"),
    "mistral": SPLIT + ALTERNATE + "{{ '<s>' }}{% for m in all %}{% if m.role == 'user' %}{{ ' [INST] ' + (s + '\\n\\n' if "
               "loop.first and s is defined else '') + m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content + '</s>' }}"
               "{% endif %}{% endfor %}",
    "mistral-v3": SPLIT + ALTERNATE + "{{ '<s>' }}{% for m in all %}{% if m.role == 'user' %}{{ '[INST] ' + (s + '\\n\\n' if "
                  "loop.last and s is defined else '') + m.content + '[/INST]' }}{% else %}{{ ' ' + m.content|trim + '</s>' }}"
                  "{% endif %}{% endfor %}",
    "qwen3": released("qwen3"),
    "qwen2.5": released("qwen2_5"),
    "qwen2": silent("You are a helpful assistant."),
    "smollm2": silent("You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
    "chatml": ML,
    "zephyr": "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '</s>\\n' }}{% endfor %}"
              "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}",
    "gemma": released("gemma"),
}
WORDS = ["<<SYS>>", "[INST]", "<|start_header_id|>", "Cutting Knowledge Date", "<|eot_id|>", "Date", "tool", "' [INST] '",
         "' [/INST]'", "\"[INST] \"", "\"[AVAILABLE_TOOLS] [\"", "SYSTEM_PROMPT", "<|im_start|>", "enable_thinking", "You are",
         "You are Qwen, created by Alibaba Cloud. You are a", "<|im_start|>system", "You are a helpful assistant.",
         "content.lstrip('\\n')", "named SmolLM, trained by Hugging Face", "'<|im_start|>' + message", "'<|im_end|>'", "think",
         "'<|user|>", "'<|assistant|>'", "<|end|>", "<start_of_turn>", "System role not supported", "image"]
OURS = {"llama3": 2, "llama3_training": 2, "llama3_1": 1, "llama3_2": 1, "qwen3": 5, "qwen3_training": 5, "qwen2_5": 6,
        "qwen2_5_training": 6, "gemma": 11, "gemma_training": 11}
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
    g.save("words", bytes=list("".join(WORDS).encode()), size=[len(w) for w in WORDS])
    files = sorted(f[:-6] for f in os.listdir(TRL) if f.endswith(".jinja"))
    g.save("files", known=[OURS.get(f, -1) for f in files],
           has=[sum(1 << i % 14 for i in range(at, min(at + 14, len(WORDS))) if WORDS[i] in released(f))
                for f in files for at in (0, 14, 28)])
    g.write()

    g = Golden(__file__.replace("chat_template", "chat_turns"), seed=1307)
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
