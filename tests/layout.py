"""The order in which @encoder and its kin keep weights: the matrices of all layers, then their biases and norms."""
import numpy as np
import torch


def attention(m):
    return [m.in_proj_weight, m.out_proj.weight], [m.in_proj_bias, m.out_proj.bias]


def linears(*ms):
    return [m.weight for m in ms], [m.bias for m in ms]


def norm(m):
    return [], [m.weight, m.bias]


def encoder_layer(l):  # torch.nn.TransformerEncoderLayer
    return [attention(l.self_attn), norm(l.norm1), linears(l.linear1, l.linear2), norm(l.norm2)]


def decoder_layer(l):  # torch.nn.TransformerDecoderLayer
    return [attention(l.self_attn), norm(l.norm1), attention(l.multihead_attn), norm(l.norm2),
            linears(l.linear1, l.linear2), norm(l.norm3)]


def flat(parts, f):
    tensors = [t for m, _ in parts for t in m] + [t for _, v in parts for t in v]
    return torch.cat([f(t).reshape(-1) for t in tensors])


def randomize(g, model, scale=0.5):
    """Weights around 0, gains around 1, all multiples of 1/32, so that they are short in a file."""
    for name, p in model.named_parameters():
        gain = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
        p.data = torch.from_numpy(gain + np.round(32 * scale * g.normal(*p.shape)) / 32).double()
    return model.double()


def weights_and_grads(parts):
    return dict(weights=flat(parts, lambda p: p.detach()), grads=flat(parts, lambda p: p.grad))
