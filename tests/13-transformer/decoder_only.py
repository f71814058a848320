"""Golden values of @decoder_only and @llama_block: transformers' LlamaForCausalLM in float64. Writes decoder_only.txt."""
import sys

del sys.path[0]  # or `import safetensors` finds a script of this folder
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=139)
V, T, L, H, K, D, C, F, B = 7, 5, 2, 4, 2, 2, 4, 5, 3
ids = g.rng.integers(0, V, (B, T))
labels = np.roll(ids, -1, axis=1)
labels[:, -1] = -100
labels[1, 2:4] = -100
g.save("in", ids=ids, targets=labels)

for name, tied in [("tied", True), ("untied", False)]:
    config = LlamaConfig(vocab_size=V, max_position_embeddings=T, hidden_size=C, num_hidden_layers=L, head_dim=D,
                         num_attention_heads=H, num_key_value_heads=K, intermediate_size=F, rms_norm_eps=1e-5,
                         rope_theta=100.0, rope_parameters={"rope_type": "default", "rope_theta": 100.0},
                         tie_word_embeddings=tied, attn_implementation="eager", bos_token_id=0, eos_token_id=0)
    model = LlamaForCausalLM(config)
    for p in model.parameters():
        p.data = torch.from_numpy(np.round(24 * g.normal(*p.shape)) / 64)
    model = model.double()
    layers = model.model.layers
    parts = [model.model.embed_tokens] + ([] if tied else [model.lm_head])
    for l in layers:
        parts += [l.self_attn.q_proj, l.self_attn.k_proj, l.self_attn.v_proj, l.self_attn.o_proj, l.mlp.gate_proj,
                  l.mlp.up_proj, l.mlp.down_proj]
    matrices = [m.weight for m in parts]
    vectors = [m.weight for l in layers for m in (l.input_layernorm, l.post_attention_layernorm)]
    vectors.append(model.model.norm.weight)

    def flat(f):
        return torch.cat([f(p).reshape(-1) for p in matrices + vectors])

    weights = flat(lambda p: p.detach().clone())

    def loss_of():
        z = model(torch.from_numpy(ids)).logits
        return z, torch.nn.functional.cross_entropy(z.reshape(-1, V), torch.from_numpy(labels).reshape(-1))

    z, loss = loss_of()
    loss.backward()
    g.save(name, weights=weights, logits=z, loss=loss, grads=flat(lambda p: p.grad))
    opt = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
                            lr=1e-2, betas=(0.9, 0.95), eps=1e-8)
    losses = []
    for _ in range(50):
        opt.zero_grad()
        z, loss = loss_of()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    g.save(name, losses=losses)

g.write()
