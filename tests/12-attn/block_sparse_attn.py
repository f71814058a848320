"""Golden values of @block_sparse_attn: BigBirdBlockSparseAttention of transformers with random blocks that are given to
it, and autograd in float64. Run by `make golden`; writes block_sparse_attn.txt."""
import torch
from transformers import BigBirdConfig
from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention, BigBirdModel

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=52)

for B, H, rows, block, D, r in [(1, 1, 7, 1, 2, 1), (1, 2, 8, 2, 3, 2)]:
    T = rows * block
    module = BigBirdBlockSparseAttention(BigBirdConfig(hidden_size=H * D, num_attention_heads=H, block_size=block, num_random_blocks=r,
                                                       max_position_embeddings=T)).double()
    inputs = {n: g.normal(B, H, T, D) for n in "qkv"}
    dout = g.normal(B, H, T, D)
    q, k, v = (torch.from_numpy(a).double().requires_grad_() for a in inputs.values())
    random = [[list(g.rng.permutation([j for j in range(1, rows - 1) if abs(i - j) > 1])[:r]) for i in range(1, rows - 1)] for h in range(H)]
    module._bigbird_block_rand_mask_with_head = lambda **_: [torch.tensor(x).numpy() for x in random]
    blocked, band, frm, to = BigBirdModel.create_masks_for_block_sparse_attn(torch.ones(B, T).double(), block)
    out, _ = module.bigbird_block_sparse_attention(q, k, v, band, frm, to, blocked, blocked, H, r, D, block, block, B, T, T, seed=0,
                                                   plan_from_length=None, plan_num_rand_blocks=None)
    out = out.reshape(B, T, H, D).transpose(1, 2)
    out.backward(torch.from_numpy(dout).double())
    lists = [[list(range(rows)) if i in (0, rows - 1) else sorted({0, i - 1, i, i + 1, rows - 1, *map(int, random[h][i - 1])})
              for i in range(rows)] for h in range(H)]
    start = [[sum(len(x) for x in one[:i]) for i in range(rows + 1)] for one in lists]
    column = [j for one in lists for x in one for j in x]
    g.save(f"{B}x{H}x{rows}x{block}x{D}x{r}", **inputs, dout=dout, out=out, dq=q.grad, dk=k.grad, dv=v.grad, start=start, column=column)
g.write()
