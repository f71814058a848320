"""Golden values of @absolute_position_resize: torch.nn.functional.interpolate in float64, linear and bicubic, both
conventions of align_corners, larger and smaller, with autograd gradients; and transformers' ViT, whose class token
stays. Run by `make golden`; writes absolute_position_resize.txt."""
import torch
from torch.nn.functional import interpolate
from transformers import ViTConfig
from transformers.models.vit.modeling_vit import ViTEmbeddings

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=23)
C = 2

for F, T in ((1, 3), (3, 1), (2, 5), (5, 5), (7, 3), (5, 12)):
    for align in (0, 1):
        x, dy = g.normal(F, C), g.normal(T, C)
        xd = torch.from_numpy(x).double().requires_grad_()
        y = interpolate(xd.T[None], size=T, mode="linear", align_corners=bool(align))[0].T
        y.backward(torch.from_numpy(dy).double())
        g.save(f"linear{F}-{T}-{align}", x=x, dy=dy, y=y, dx=xd.grad)

for Fh, Fw, Th, Tw in ((1, 1, 2, 3), (2, 3, 5, 4), (4, 4, 7, 3), (5, 4, 2, 4)):
    for align in (0, 1):
        for mode in ("bilinear", "bicubic"):
            x, dy = g.normal(1 + Fh * Fw, C), g.normal(1 + Th * Tw, C)
            xd = torch.from_numpy(x).double().requires_grad_()
            grid = xd[1:].T.reshape(1, C, Fh, Fw)
            out = interpolate(grid, size=(Th, Tw), mode=mode, align_corners=bool(align))
            y = torch.cat([xd[:1], out[0].reshape(C, -1).T])
            y.backward(torch.from_numpy(dy).double())
            g.save(f"{mode}{Fh}x{Fw}-{Th}x{Tw}-{align}", x=x, dy=dy, y=y, dx=xd.grad)

config = ViTConfig(hidden_size=4, image_size=6, patch_size=2, num_attention_heads=1)
vit = ViTEmbeddings(config).double()
vit.position_embeddings.data = torch.from_numpy(g.normal(1, 10, 4)).double()
g.save("vit", x=vit.position_embeddings, y=vit.interpolate_pos_encoding(torch.zeros(1, 1 + 20, 4), 10, 8))
g.write()
