"""Golden values of @pad: batches of DataCollatorForLanguageModeling of transformers, padded on either side and to multiples."""
import os

os.environ["CUDA_VISIBLE_DEVICES"] = ""
from transformers import DataCollatorForLanguageModeling, GPT2Tokenizer

from golden import Golden  # tests/golden.py: writes named arrays as text

TEXTS = [[2, 3, 4], [5], [2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12, 13, 14, 15], [3, 3]]


def main():
    g = Golden(__file__, seed=1)
    vocab = {"<|endoftext|>": 0, "<pad>": 1, **{chr(97 + i): 2 + i for i in range(26)}}
    t = GPT2Tokenizer(vocab=vocab, merges=[], pad_token="<pad>")
    g.save("texts", start=[sum(map(len, TEXTS[:i])) for i in range(len(TEXTS) + 1)], tokens=sum(TEXTS, []))
    for side in ("right", "left"):
        t.padding_side = side
        for multiple in (1, 4, 8):
            for n in (1, 3, 5):
                batch = DataCollatorForLanguageModeling(t, mlm=False, pad_to_multiple_of=multiple)(
                    [{"input_ids": text} for text in TEXTS[:n]])
                g.save(f"{side}/{multiple}/{n}", ids=batch["input_ids"], mask=batch["attention_mask"], labels=batch["labels"],
                       position=(batch["attention_mask"].cumsum(-1) - 1).clamp(min=0))
    g.write()


if __name__ == "__main__":
    main()
