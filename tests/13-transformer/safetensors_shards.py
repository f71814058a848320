"""Golden values of @safetensors_shards: a model in three files and its index, as transformers saves it."""
import json
import sys

del sys.path[0]  # or `import safetensors` finds a script of this folder
import tempfile
from pathlib import Path

import torch
import transformers

from golden import Golden  # tests/golden.py: writes named arrays as text


def main():
    g = Golden(__file__, seed=1305)
    torch.manual_seed(5)
    config = transformers.LlamaConfig(vocab_size=11, hidden_size=4, intermediate_size=6, num_hidden_layers=1,
                                      num_attention_heads=1, num_key_value_heads=1, tie_word_embeddings=False)
    model = transformers.LlamaForCausalLM(config)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, max_shard_size=300)
        files = sorted(Path(folder).glob("model*.safetensors"))
        index = Path(folder) / "model.safetensors.index.json"
        g.save("index", text=list(index.read_bytes()))
        for i, f in enumerate(files):
            g.save(f"file{i}", name=list(f.name.encode()), data=list(f.read_bytes()))
        g.save("count", files=[len(files)], tensors=[len(json.loads(index.read_text())["weight_map"])])
    for name in ("lm_head.weight", "model.norm.weight", "model.layers.0.mlp.down_proj.weight"):
        g.save("value", **{name: model.state_dict()[name]})
    g.write()


if __name__ == "__main__":
    main()
