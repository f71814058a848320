"""Golden values of @chat_template: which of its words stand in the templates that trl brings along. Those of Llama 3, Qwen
2.5 and 3 and Gemma are the released ones; the others are written here after the released ones, turns of text only."""
import importlib.util
import os

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


def main():
    g = Golden(__file__, seed=1307)
    g.save("words", bytes=list("".join(WORDS).encode()), size=[len(w) for w in WORDS])
    files = sorted(f[:-6] for f in os.listdir(TRL) if f.endswith(".jinja"))
    g.save("files", known=[OURS.get(f, -1) for f in files],
           has=[sum(1 << i % 14 for i in range(at, min(at + 14, len(WORDS))) if WORDS[i] in released(f))
                for f in files for at in (0, 14, 28)])
    g.write()


if __name__ == "__main__":
    main()
