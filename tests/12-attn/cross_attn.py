"""Golden values of @cross_attn: torch.nn.MultiheadAttention in float64 with a memory of its own width and padding, plain
and behind Flamingo's tanh gate, gradients by autograd. Run by `make golden`; writes cross_attn.txt."""
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=28)


def t(*shape):
    return torch.from_numpy(g.normal(*shape)).double().requires_grad_()


for name, (B, T, S, C, Cm, H, bias) in {"plain": (2, 3, 5, 6, 4, 3, True), "one": (1, 2, 1, 2, 3, 1, False)}.items():
    m = torch.nn.MultiheadAttention(C, H, bias=bias, kdim=Cm, vdim=Cm, batch_first=True).double()
    for p in m.parameters():
        p.data = torch.from_numpy(g.normal(*p.shape)).double()
    x, mem, alpha, hidden = t(B, T, C), t(B, S, Cm), torch.tensor(0.7, dtype=torch.float64, requires_grad=True), g.coin((B, S), 0.4)
    hidden[:, 0] = 0
    a, _ = m(x, mem, mem, key_padding_mask=torch.from_numpy(hidden).bool())
    y = x + alpha.tanh() * a
    dy = g.normal(*y.shape)
    y.backward(torch.from_numpy(dy).double())
    more = dict(b=m.in_proj_bias, db=m.in_proj_bias.grad, bo=m.out_proj.bias, dbo=m.out_proj.bias.grad) if bias else {}
    g.save(name, x=x, mem=mem, hidden=hidden, a=a, y=y, dy=dy, dx=x.grad, dmem=mem.grad, dalpha=alpha.grad.reshape(1),
           wq=m.q_proj_weight, wk=m.k_proj_weight, wv=m.v_proj_weight, wo=m.out_proj.weight, dwq=m.q_proj_weight.grad,
           dwk=m.k_proj_weight.grad, dwv=m.v_proj_weight.grad, dwo=m.out_proj.weight.grad, **more)
g.write()
