"""Golden values of @luong: the three scores, the read-out and the joined state h~ in PyTorch with autograd, in float64. Run
by `make golden`; writes luong.txt."""
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=40)
for T, S, Cs, Ch, A, length in [(1, 1, 2, 2, 1, 1), (3, 5, 2, 3, 4, 5), (2, 17, 3, 3, 2, 9)]:
    for form in ("dot", "general", "concat"):
        if form == "dot" and Cs != Ch:
            continue
        shape = {"dot": (0,), "general": (Cs, Ch), "concat": (A, Cs + Ch)}[form]
        arrays = dict(s=g.normal(T, Cs), h=g.normal(S, Ch), w=g.normal(*shape), v=g.normal(A), wc=g.normal(Cs, Ch + Cs))
        x = {k: torch.from_numpy(a).double().requires_grad_() for k, a in arrays.items()}
        dy = g.normal(T, Cs)
        s, h = x["s"], x["h"]
        if form == "concat":
            both = torch.cat([s[:, None].expand(-1, S, -1), h[None].expand(T, -1, -1)], -1)
            e = torch.tanh(both @ x["w"].T) @ x["v"]
        else:
            e = s @ (h.T if form == "dot" else x["w"] @ h.T)
        a = torch.softmax(e[:, :length], -1)
        c = a @ h[:length]
        y = torch.tanh(torch.cat([c, s], -1) @ x["wc"].T)
        y.backward(torch.from_numpy(dy).double())
        grads = {"d" + k: torch.zeros_like(t) if t.grad is None else t.grad for k, t in x.items()}
        g.save(f"{form}{T}x{S}", **arrays, dy=dy, e=e, c=c, y=y, **grads)
g.write()
