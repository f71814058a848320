"""Golden values of @llama: logits and 50 greedy tokens of transformers' models of seven families with tiny weights that the
test makes, too, and their config.json."""
import sys

del sys.path[0]  # or `import safetensors` finds a script of this folder
import numpy as np
import torch
import transformers as t

from golden import Golden  # tests/golden.py: writes named arrays as text

SMALL = dict(vocab_size=24, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64)
STRETCHED = {"rope_type": "llama3", "rope_theta": 100.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
             "original_max_position_embeddings": 32}
FAMILIES = {"llama": t.LlamaConfig(**SMALL, rms_norm_eps=1e-5),
            "llama3": t.LlamaConfig(**SMALL, rms_norm_eps=1e-5, rope_parameters=STRETCHED, tie_word_embeddings=True),
            "mistral": t.MistralConfig(**SMALL, sliding_window=5), "qwen2": t.Qwen2Config(**SMALL, tie_word_embeddings=True),
            "qwen3": t.Qwen3Config(**SMALL, head_dim=8),
            "gemma2": t.Gemma2Config(**SMALL, head_dim=8, sliding_window=6, query_pre_attn_scalar=12, attn_logit_softcapping=3.0,
                                     final_logit_softcapping=5.0),
            "gpt2": t.GPT2Config(vocab_size=24, n_embd=16, n_inner=24, n_layer=2, n_head=4, n_positions=64)}


def weights(model, gemma):
    """Sorted by name, numbered through: 8 bits of a product, so that every format holds them exactly."""
    k = 0
    for name, w in sorted(model.state_dict().items()):
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        n = np.arange(k + 1, k + 1 + w.numel(), dtype=np.uint64) * 2654435761 % 2**32
        n = (n ^ n >> 15) * 2246822519 % 2**32
        x = (n >> 24).astype(np.float64) / 256 - 0.5
        if name.endswith("norm.weight") or ".ln_" in name and name.endswith(".weight"):
            x = ((n >> 28).astype(np.float64) - 8) / 32 + (0 if gemma else 1)
        w.copy_(torch.from_numpy(x.reshape(w.shape)))
        k += w.numel()


@torch.no_grad()
def main():
    g = Golden(__file__, seed=1306)
    for name, config in FAMILIES.items():
        config._attn_implementation = "eager"
        model = t.AutoModelForCausalLM.from_config(config).double().eval()
        weights(model, name == "gemma2")
        model.tie_weights()
        ids = g.rng.integers(0, 24, 12).tolist()
        logits = model(torch.tensor([ids])).logits[0]
        text = list(ids)
        for _ in range(50):
            text.append(int(model(torch.tensor([text]), use_cache=False).logits[0, -1].argmax()))
        last = model(torch.tensor([text]), use_cache=False).logits[0]
        top = last[11:-1].sort(descending=True).values
        assert (top[:, 0] - top[:, 1]).min() > 1e-4, name  # no choice hangs on rounding
        config.architectures = None
        g.save(name, config=list(config.to_json_string(use_diff=True).encode()), ids=text,
               logits=logits[[0, 5, 11]], last=last[-1])
    g.write()


if __name__ == "__main__":
    main()
