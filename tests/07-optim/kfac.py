"""Golden values of @kfac: the update by the explicit Kronecker product in NumPy; the expected factors of a net by torch autograd, every example and
every label of the model weighted by its probability; a whole step with given factors."""
import numpy as np
import torch

from golden import Golden

g = Golden(__file__, seed=85)
single = lambda x: float(np.float32(x))


def update(A, S, G, lam):
    pi = np.sqrt((np.trace(A) / len(A)) / (np.trace(S) / len(S)))
    big = np.kron(S + np.sqrt(lam) / pi * np.eye(len(S)), A + pi * np.sqrt(lam) * np.eye(len(A)))
    return np.linalg.solve(big, G.ravel()).reshape(G.shape)


for inputs, outputs, N in ((2, 3, 7), (1, 1, 4), (4, 2, 9)):
    a, d, G = g.normal(N, inputs), g.normal(N, outputs), g.normal(outputs, inputs + 1)
    a1, dd = np.hstack([a, np.ones((N, 1))]).astype(np.float64), d.astype(np.float64)
    A, S = a1.T @ a1 / N, dd.T @ dd / N
    lam = single(0.02)
    g.save(f"{inputs}x{outputs}", a=a, d=d, G=G, A=A, S=S, u=update(A, S, G.astype(np.float64), lam))

sizes, N = (3, 4, 2), 5
x, w, grad = g.normal(N, 3), g.normal(4 * 4 + 2 * 5), g.normal(26)
W = torch.from_numpy(w).double()
W1, b1, W2, b2 = W[:12].reshape(4, 3), W[12:16], W[16:24].reshape(2, 4), W[24:]
A1, S1, A2, S2 = np.zeros((4, 4)), np.zeros((4, 4)), np.zeros((5, 5)), np.zeros((2, 2))
for n in range(N):
    xn = torch.from_numpy(x[n]).double()
    z1 = (W1 @ xn + b1).requires_grad_()
    z2 = W2 @ torch.tanh(z1) + b2
    p = torch.softmax(z2, 0)
    ones = lambda v: np.append(v.detach().numpy(), 1.0)
    A1 += np.outer(ones(xn), ones(xn)) / N
    A2 += np.outer(ones(torch.tanh(z1)), ones(torch.tanh(z1))) / N
    for y in range(2):
        d1, d2 = torch.autograd.grad(-torch.log_softmax(z2, 0)[y], (z1, z2), retain_graph=True)
        S1 += p[y].item() * np.outer(d1, d1) / N
        S2 += p[y].item() * np.outer(d2, d2) / N
lr, lam, clip = single(0.5), single(0.03), single(0.02)
G1, G2 = np.hstack([grad[:12].reshape(4, 3), grad[12:16, None]]), np.hstack([grad[16:24].reshape(2, 4), grad[24:, None]])
U1, U2 = update(A1, S1, G1.astype(np.float64), lam), update(A2, S2, G2.astype(np.float64), lam)
u = np.concatenate([U1[:, :3].ravel(), U1[:, 3], U2[:, :4].ravel(), U2[:, 4]])
factor = min(1.0, np.sqrt(clip / (lr**2 * (u @ grad.astype(np.float64)))))
assert factor < 0.9
g.save("net", x=x, w=w, g=grad, state=np.concatenate([A1.ravel(), S1.ravel(), A2.ravel(), S2.ravel()]), after=w - lr * factor * u,
       free=w - lr * u, factor=[factor])
g.write()
