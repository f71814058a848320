"""Golden values of @transformer and @transformer_layout: what transformers' models of five families, tiny, list as their
tensors, and how many operations PyTorch's own counter sees in a forward and a backward pass. Writes both files."""
import os
import sys

sys.path.pop(0)  # of this folder: its safetensors.py is not the library that transformers asks for

import torch
import transformers as tf
from torch.utils.flop_counter import FlopCounterMode

from golden import Golden  # tests/golden.py: writes named arrays as text

B, S, T = 2, 5, 3
eager = dict(attn_implementation="eager")
models = {
    "2017": tf.MarianMTModel(tf.MarianConfig(vocab_size=11, d_model=8, encoder_layers=2, decoder_layers=1,
                                             encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=6,
                                             decoder_ffn_dim=6, max_position_embeddings=8, pad_token_id=0,
                                             decoder_start_token_id=0, forced_eos_token_id=0, eos_token_id=0, **eager)),
    "bert": tf.BertModel(tf.BertConfig(vocab_size=11, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                                       intermediate_size=6, max_position_embeddings=7, **eager)),
    "gpt2": tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=11, n_positions=7, n_embd=8, n_layer=2, n_head=2, n_inner=6,
                                             bos_token_id=0, eos_token_id=0, **eager)),
    "t5": tf.T5ForConditionalGeneration(tf.T5Config(vocab_size=11, d_model=8, d_kv=3, d_ff=6, num_layers=2,
                                                    num_decoder_layers=1, num_heads=2, relative_attention_num_buckets=4,
                                                    decoder_start_token_id=0, **eager)),
    "t5_gated": tf.T5ForConditionalGeneration(tf.T5Config(vocab_size=11, d_model=8, d_kv=3, d_ff=6, num_layers=1,
                                                          num_decoder_layers=2, num_heads=2, tie_word_embeddings=False,
                                                          relative_attention_num_buckets=4, decoder_start_token_id=0,
                                                          feed_forward_proj="gated-gelu", **eager)),
    "llama": tf.LlamaForCausalLM(tf.LlamaConfig(vocab_size=11, hidden_size=8, num_hidden_layers=2, head_dim=4,
                                                num_attention_heads=4, num_key_value_heads=2, intermediate_size=6,
                                                bos_token_id=0, eos_token_id=0, **eager)),
}
# this release of transformers ties T5's head whatever it is told; the files of v1.1 have one of their own
models["t5_gated"].lm_head.weight = torch.nn.Parameter(models["t5_gated"].lm_head.weight.detach().clone())
g = Golden(__file__, seed=1)
layout = Golden(os.path.join(os.path.dirname(__file__), "transformer_layout.py"), seed=1)
for name, m in models.items():
    two = name in ("2017", "t5", "t5_gated")
    ids = torch.ones(B, S if two or name == "bert" else T, dtype=torch.long)
    inputs = dict(input_ids=ids, **(dict(decoder_input_ids=torch.ones(B, T, dtype=torch.long)) if two else {}))
    counter = FlopCounterMode(display=False)
    with counter:
        out = m(**inputs)
    forward = counter.get_total_flops()
    with counter:
        (out.pooler_output if name == "bert" else out.logits).sum().backward()
    backward = counter.get_total_flops()
    seen, names, shapes = set(), [], []
    for k, p in m.named_parameters():  # aliases are listed once
        if "embed_positions" in k or "final_logits_bias" in k:
            continue
        names.append(k.removeprefix("model.") if name == "2017" else k.removeprefix("transformer."))
        shapes += [p.shape[0], p.shape[1] if p.dim() > 1 else 1]
    params = sum(shapes[i] * shapes[i + 1] for i in range(0, len(shapes), 2))
    g.save(name, count=params, forward=forward, backward=backward)
    layout.save(name, names=[ord(c) for c in "\n".join(names) + "\n"], shapes=shapes)
g.write()
layout.write()
