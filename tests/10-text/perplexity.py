"""Golden values of @perplexity: torch's cross-entropy, the windows of Hugging Face's sliding protocol, NumPy's quantiles."""
import numpy as np
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=10)

# one sequence with ignored targets
logits, target = g.normal(12, 7), g.rng.integers(0, 7, 12)
target[[2, 7]] = -100
nll = torch.nn.functional.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(target), reduction="none")
mean = torch.nn.functional.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(target))
g.save("torch", nll=nll, target=target, perplexity=[mean.exp()], nats=[nll.sum()], bits=[nll.sum() / np.log(2) / 41])

# the loop of Hugging Face's guide to perplexity; a label is predicted from the token before it
cases = [(1, 4, 2), (2, 4, 2), (4, 4, 3), (5, 4, 3), (5, 4, 1), (10, 4, 2), (11, 4, 2), (12, 4, 3), (13, 4, 3), (20, 7, 6), (23, 7, 1), (9, 2, 1)]
for T, context, stride in cases:
    windows, before = [], 0
    for begin in range(0, T, stride):
        end = min(begin + context, T)
        scored = [t for t in range(max(before, begin + 1), end)]  # the first of a window has no label
        if scored:
            windows.append([begin, scored[0], end])
        before = end
        if end == T:
            break
    g.save(f"windows/{T}x{context}x{stride}", all=np.array(windows).ravel(), count=[len(windows)])
g.save("windows", cases=np.array(cases).ravel())
g.write()
