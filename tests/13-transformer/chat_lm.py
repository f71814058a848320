"""Golden values of @chat_lm: ids and assistant masks of transformers' apply_chat_template with trl's training templates, which
say what of a conversation the loss sees. The tokenizer knows bytes and a few pairs."""
import importlib.util
import os
import random

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from golden import Golden  # tests/golden.py: writes named arrays as text

TRL = os.path.join(os.path.dirname(importlib.util.find_spec("trl").origin), "chat_templates")
FILES = {"llama3": ("llama3_training", "<|begin_of_text|>", "<|eot_id|>"), "gemma": ("gemma_training", "<bos>", "<eos>"),
         "qwen2.5": ("qwen2_5_training", "<s>", "</s>")}
SPECIAL = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<bos>", "<start_of_turn>",
           "<end_of_turn>", "<|im_start|>", "<|im_end|>", "<s>", "</s>"]
PAIRS = ["\n\n", "in", "an", " t", "Hi", "\nH"]
TEXTS = ["", "Hi", "\nHi", " in tan\n\n", "caf\u00e9 [INST]", "\n\n", "tin"]


def tokenizer():
    spell = bytes_to_unicode()
    vocab = {c: i for i, c in enumerate(spell.values())}
    merges = [tuple(spell[b] for b in pair.encode()) for pair in PAIRS]
    for pair in merges:
        vocab["".join(pair)] = len(vocab)
    t = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIAL])
    return t


def main():
    g, rng = Golden(__file__, seed=1308), random.Random(7)
    g.save("text", bytes=list("".join(TEXTS).encode()), size=[len(x.encode()) for x in TEXTS])
    talks = [[rng.randrange(len(TEXTS)) for _ in range(rng.randrange(1, 5))] for _ in range(14)]
    g.save("talk", size=[len(t) for t in talks], text=[i for t in talks for i in t])
    for name, (file, bos, eos) in FILES.items():
        t = PreTrainedTokenizerFast(tokenizer_object=tokenizer(), bos_token=bos, eos_token=eos)
        with open(os.path.join(TRL, file + ".jinja")) as f:
            # trl counts Qwen's newline in front of an answer as the answer's, though no model has to write it
            t.chat_template = (f.read().replace("{{- '<|im_start|>assistant' }}", "{{- '<|im_start|>assistant\\n' }}")
                               .replace("{{- '\\n' + message.content + '<|im_end|>", "{{- message.content + '<|im_end|>"))
        for k, talk in enumerate(talks):
            messages = [{"role": ["user", "assistant"][i % 2], "content": TEXTS[x]} for i, x in enumerate(talk)]
            out = t.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
            g.save(f"{name}/{k}", ids=out["input_ids"], mask=out["assistant_masks"])
    g.write()


if __name__ == "__main__":
    main()
