"""Golden values of @attn_mask: tables and tile classes of torch.nn.attention.flex_attention (create_mask, create_block_mask),
and the masks of transformers (AttentionMaskConverter, masking_utils), as 0 and 1. Run by `make golden`; writes attn_mask.txt."""
import torch
from torch.nn.attention.flex_attention import and_masks, create_block_mask, create_mask, or_masks
from transformers.masking_utils import sliding_window_causal_mask_function
from transformers.modeling_attn_mask_utils import AttentionMaskConverter

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=33)
T = 12
document = torch.tensor([0] * 3 + [1] * 1 + [3] * 6 + [4] * 2)
present = torch.arange(T) < 9


def causal(b, h, q, k):
    return q >= k


def window(b, h, q, k):
    return (q - k).abs() < 3


def prefix(b, h, q, k):
    return k < 5


def packed(b, h, q, k):
    return document[q] == document[k]


def keys(b, h, q, k):
    return present[k]


masks = dict(causal=causal, window=window, prefix=prefix, packed=packed, keys=keys, mistral=and_masks(causal, window),
             prefix_lm=or_masks(causal, prefix), packed_causal=and_masks(causal, packed),
             nested=and_masks(or_masks(and_masks(causal, packed), prefix), keys))
for name, mask in masks.items():
    table = create_mask(mask, 1, 1, T, T, device="cpu")[0, 0]
    g.save(name, allowed=table.int())
    for high, wide in [(2, 3), (4, 2), (6, 12)]:
        m = create_block_mask(mask, 1, 1, T, T, device="cpu", BLOCK_SIZE=(high, wide))
        kind = torch.zeros(T // high, T // wide)  # 0 empty, 1 full, 2 partial
        for r in range(T // high):
            kind[r, m.kv_indices[0, 0, r, :m.kv_num_blocks[0, 0, r]].long()] = 2
            kind[r, m.full_kv_indices[0, 0, r, :m.full_kv_num_blocks[0, 0, r]].long()] = 1
        g.save(name, **{f"{high}x{wide}": kind})

for name, tokens, queries in [("right", [[1] * 5, [1] * 3 + [0] * 2], 5), ("left", [[1] * 5, [0] * 2 + [1] * 3], 5),
                              ("cached", [[0] + [1] * 6, [1] * 7], 2)]:
    attention_mask = torch.tensor(tokens)
    m = AttentionMaskConverter(True).to_4d(attention_mask, queries, torch.float32, key_value_length=attention_mask.shape[1])
    g.save(f"transformers/{name}", allowed=(m[:, 0] == 0).int())
sliding = sliding_window_causal_mask_function(3)
g.save("transformers/sliding", allowed=create_mask(sliding, 1, 1, 7, 7, device="cpu")[0, 0].int())
g.write()
