"""Golden values of @causal_mask: PyTorch's scaled_dot_product_attention with is_causal (top left) and with the bias
causal_lower_right (bottom right), Tq and Tk equal or not, in float64. Run by `make golden`; writes causal_mask.txt."""
import torch
import torch.nn.functional as F
from torch.nn.attention.bias import causal_lower_right

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=34)
D = 3
for Tq, Tk in [(1, 1), (2, 5), (5, 2), (1, 17), (17, 3), (4, 4)]:
    arrays = dict(q=g.normal(Tq, D), k=g.normal(Tk, D), v=g.normal(Tk, D))
    q, k, v = (torch.from_numpy(a).double()[None, None] for a in arrays.values())
    left = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    right = F.scaled_dot_product_attention(q, k, v, attn_mask=causal_lower_right(Tq, Tk)._materialize())
    g.save(f"{Tq}x{Tk}", **arrays, left=left, right=right.nan_to_num(0.0))
g.write()
