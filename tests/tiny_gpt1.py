"""The weights of transformers' OpenAIGPT models in the order of @gpt1."""
import numpy as np
import torch


def randomize(g, model):
    """Weights around 0, gains around 1, multiples of 1/32, so that they are short in a file."""
    model.double()
    for name, p in model.named_parameters():
        gain = 1.0 if ".ln_" in name and name.endswith("weight") else 0.0
        p.data = torch.from_numpy(gain + np.round(12 * g.normal(*p.shape)) / 32).double()


def flat(model, f, head=()):
    """The tensors of a model and of a head (Conv1D keeps its matrices [in, out]) in one vector."""
    t = model.transformer
    matrices, vectors = [f(t.tokens_embed.weight), f(t.positions_embed.weight)] + [f(p) for p in head], []
    for b in t.h:
        matrices += [f(m.weight).T for m in (b.attn.c_attn, b.attn.c_proj, b.mlp.c_fc, b.mlp.c_proj)]
        vectors += [f(p) for p in (b.attn.c_attn.bias, b.attn.c_proj.bias, b.ln_1.weight, b.ln_1.bias,
                                   b.mlp.c_fc.bias, b.mlp.c_proj.bias, b.ln_2.weight, b.ln_2.bias)]
    return torch.cat([x.reshape(-1) for x in matrices + vectors])
