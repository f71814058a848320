"""Golden values of @flash23: each text of a packed batch by itself through softmax in PyTorch, float64, with autograd
(for @flash23_backward): windows, lower-right causal masks, soft cap, ALiBi, grouped heads. Masks are flash-attn's
documented rule. Run by `make golden`; writes flash23.txt."""
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

INF = -1

CASES = {  # lengths of queries, of keys, H, Hkv, D, left, right, cap, slopes
    "causal": ([3, 0, 5], [3, 0, 5], 2, 1, 3, INF, 0, 0.0, False),
    "corner": ([2, 5], [5, 2], 2, 2, 2, INF, 0, 0.0, False),
    "window": ([6, 4], [6, 7], 4, 2, 2, 2, 1, 0.0, False),
    "capped": ([4, 3], [4, 5], 2, 1, 3, INF, INF, 1.25, False),
    "alibi": ([5], [6], 3, 1, 2, INF, 0, 0.75, True),
}


def write(script, backward):
    """The golden values of forward, or of backward, for the script of that name."""
    g = Golden(script, seed=61)
    for name, (nq, nk, H, Hkv, D, left, right, cap, slopes) in CASES.items():
        N, M = sum(nq), sum(nk)
        inputs = dict(q=g.normal(N, H, D), k=g.normal(M, Hkv, D), v=g.normal(M, Hkv, D))
        dout, slope = g.normal(N, H, D), g.normal(H).__abs__()
        q, k, v = (torch.from_numpy(a).double().requires_grad_() for a in inputs.values())
        outs, lses, at_q, at_k = [], [], 0, 0
        for tq, tk in zip(nq, nk):
            qt = q[at_q:at_q + tq].transpose(0, 1)
            kt, vt = (a[at_k:at_k + tk].repeat_interleave(H // Hkv, 1).transpose(0, 1) for a in (k, v))
            at_q, at_k = at_q + tq, at_k + tk
            s = qt @ kt.transpose(1, 2) / D**0.5
            if cap:
                s = cap * torch.tanh(s / cap)
            far = torch.arange(tk)[None] - (torch.arange(tq)[:, None] + tk - tq)  # how far a key is ahead
            if slopes:
                s = s - torch.from_numpy(slope).double()[:, None, None] * far.abs()
            seen = torch.ones(tq, tk, dtype=torch.bool)
            if left != INF:
                seen &= far >= -left
            if right != INF:
                seen &= far <= right
            s = s.masked_fill(~seen, float("-inf"))
            blind = ~seen.any(1)
            p = torch.softmax(s.masked_fill(blind[:, None], 0.0), -1) * (~blind)[:, None]
            outs.append((p @ vt).transpose(0, 1))
            lses.append(torch.logsumexp(s, -1).transpose(0, 1))
        out = torch.cat(outs)
        out.backward(torch.from_numpy(dout).double())
        g.save(name, **inputs, slope=slope)
        if backward:
            g.save(name, dout=dout, dq=q.grad, dk=k.grad, dv=v.grad)
        else:
            g.save(name, out=out, lse=torch.cat(lses))
    g.write()


if __name__ == "__main__":
    write(__file__, False)
