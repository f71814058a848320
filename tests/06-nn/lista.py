"""Golden values of @lista: the recurrence in torch, float64, with autograd."""
import torch

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=73)
K, D, N, T = 5, 4, 6, 3
x, W, S, theta, dc = g.normal(N, D), g.normal(K, D), 0.3 * g.normal(K, K), abs(g.normal(K)) * 0.3, g.normal(N, K)
S, theta = S.astype("float32"), theta.astype("float32")
v = [torch.from_numpy(a).double().requires_grad_() for a in (W, S, theta)]
b = torch.from_numpy(x).double() @ v[0].T
soft = lambda z: torch.sign(z) * torch.relu(z.abs() - v[2])
codes = [soft(b)]
for t in range(1, T):
    codes.append(soft(b + codes[-1] @ v[1].T))
codes[-1].backward(torch.from_numpy(dc).double())
g.save("net", x=x, W=W, S=S, theta=theta, dc=dc, c=torch.stack(codes), dW=v[0].grad, dS=v[1].grad, dtheta=v[2].grad)
g.write()
