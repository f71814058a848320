"""Golden values of @eagle: one drafting block in torch (RMSNorm, rotated halves, causal attention, gated MLP), its loss and
gradients by autograd. Run by `make golden`."""
import numpy as np
import torch
import torch.nn.functional as F

from golden import Golden

g = Golden(__file__, seed=51)


def rotate(x, theta):
    T, D = x.shape[-2:]
    angle = torch.arange(T)[:, None].double() / theta ** (torch.arange(0, D, 2).double() / D)
    a, b = x[..., :D // 2], x[..., D // 2:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def rms(x, w):
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * w


for case, (B, T, C, H, K, D, E, V) in enumerate([(1, 1, 3, 1, 1, 2, 4, 3), (2, 5, 6, 4, 2, 2, 5, 7)]):
    f, e, head, want = g.normal(B, T, C), g.normal(B, T, C), g.normal(V, C), g.normal(B, T, C)
    shapes = [(C, 2 * C), (C,), (C,), (C,), ((H + 2 * K) * D, C), (C, H * D), (E, C), (E, C), (C, E)]
    weights = [g.normal(*s) * np.float32(0.5) for s in shapes]
    t = [torch.tensor(a.astype(float), requires_grad=True) for a in [f, *weights]]
    ft, (fc, b, n1, n2, qkv, out, gate, up, down) = t[0], t[1:]
    x = torch.cat([torch.tensor(e.astype(float)), ft], -1) @ fc.T + b
    y = rms(x, n1) @ qkv.T
    q, k, v = y.split([H * D, K * D, K * D], -1)
    q, k, v = (a.view(B, T, -1, D).transpose(1, 2) for a in (q, k, v))
    q, k = rotate(q, 10000), rotate(k, 10000)
    k, v = (a.repeat_interleave(H // K, 1) for a in (k, v))
    o = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, H * D)
    m = x + o @ out.T
    y = rms(m, n2)
    guess = m + (F.silu(y @ gate.T) * (y @ up.T)) @ down.T
    ht, wt = torch.tensor(head.astype(float)), torch.tensor(want.astype(float))
    p = (wt @ ht.T).softmax(-1)
    loss = F.smooth_l1_loss(guess, wt) - 0.1 * (p * (guess @ ht.T).log_softmax(-1)).sum(-1).mean()
    loss.backward()
    g.save(f"{case}", shape=[B, T, C, H, K, D, E, V], f=f, e=e, head=head, want=want,
           w=np.concatenate([a.ravel() for a in weights]), guess=guess, loss=loss, df=ft.grad,
           dw=np.concatenate([a.grad.numpy().ravel() for a in t[1:]]))
g.write()
