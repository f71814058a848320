"""Golden values of @luong_local: local-m and local-p in PyTorch with autograd (the window fixed, the Gaussian not), in
float64. Run by `make golden`; writes luong_local.txt."""
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=41)
for T, S, C, A, R in [(1, 1, 1, 1, 1), (4, 7, 3, 2, 2), (6, 17, 2, 5, 3), (9, 5, 2, 3, 1)]:
    arrays = dict(s=g.normal(T, C), e=g.normal(T, S), h=g.normal(S, C), w=g.normal(A, C), v=g.normal(A))
    dc = g.normal(T, C)
    for name in ("m", "p"):
        x = {k: torch.from_numpy(a).double().requires_grad_() for k, a in arrays.items()}
        place = S * torch.sigmoid(torch.tanh(x["s"] @ x["w"].T) @ x["v"])
        center = torch.floor(place.detach() + 0.5) if name == "p" else torch.arange(T).double()
        j = torch.arange(S).double()[None]
        inside = (j - center[:, None]).abs() <= R
        none = ~inside.any(-1, keepdim=True)
        soft = torch.softmax(torch.where(inside | none, x["e"], float("-inf")), -1) * ~none
        a = soft * torch.exp(-(j - place[:, None]) ** 2 / (2 * (R / 2) ** 2)) if name == "p" else soft
        c = a @ x["h"]
        c.backward(torch.from_numpy(dc).double())
        if name == "m":
            g.save(f"{T}x{S}", **arrays, dc=dc, place=place)
        g.save(f"{T}x{S}/{name}", a=a, c=c, de=x["e"].grad, dh=x["h"].grad)
        if name == "p":
            g.save(f"{T}x{S}/p", ds=x["s"].grad, dw=x["w"].grad, dv=x["v"].grad)
g.write()
