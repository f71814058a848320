"""Golden values of @gpt2_choices: a file of questions as llm.c's scripts lay it out, written with NumPy, and how many of
them a model of pairs of tokens answers rightly, by total and by mean, from its table of logits in float64."""
import numpy as np

from golden import Golden  # tests/golden.py: writes named arrays as text

V, N = 9, 12
g = Golden(__file__, seed=1352)
logits = g.normal(V, V) * 2
logp = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum(1, keepdims=True))

stream, longest, right, greedy, most = [], 0, [0, 0], 0, 0
for i in range(N):
    n = [4, 4, 4, 2, 1][i % 5]
    text = g.rng.integers(0, V, 1 + i % 4)
    answers = [g.rng.integers(0, V, 1 + g.rng.integers(0, 4)) for _ in range(n)]
    label = int(g.rng.integers(0, n))
    rows = [[logp[a, b] for a, b in zip(np.concatenate([text[-1:], t]), t)] for t in answers]
    right[0] += int(np.argmax([sum(r) for r in rows]) == label)
    right[1] += int(np.argmax([np.mean(r) for r in rows]) == label)
    greedy += all(logp[a].argmax() == b for a, b in zip(np.concatenate([text[-1:], answers[label]]), answers[label]))
    most = max([most] + [len(text) + len(t) for t in answers])
    words = [65535, 0, i, label, n, len(text), *text]
    for t in answers:
        words += [len(t), *t]
    words[1] = 2 * len(words)
    longest = max(longest, words[1])
    stream += words

header = np.zeros(256, dtype="<i4")
header[:4] = 20240522, 1, N, longest
data = header.tobytes() + np.array(stream, dtype="<u2").tobytes()
assert right[0] != right[1] and greedy > 0, (right, greedy)
g.save("file", bytes=np.frombuffer(data, dtype=np.uint8))
g.save("model", logits=logits)
g.save("out", right=right, greedy=greedy, most=most)
g.write()
