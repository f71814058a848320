"""Golden values of @absolute_position: torch.nn.Embedding tables driven by the position rules of transformers' GPT-2
(attention mask counted, as generate does), OPT (offset 2) and RoBERTa (padding_idx + 1, padding row without gradient),
gradients by autograd. Run by `make golden`; writes absolute_position.txt."""
import torch
from transformers.models.opt.modeling_opt import OPTLearnedPositionalEmbedding
from transformers.models.roberta.modeling_roberta import RobertaEmbeddings

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=22)
B, T, C, M = 4, 5, 3, 9
real = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 0, 1, 1]])
g.save("mask", real=real)


def save(name, table, pos, read):
    x, dy = g.normal(B, T, C), g.normal(B, T, C)
    xd = torch.from_numpy(x).double().requires_grad_()
    y = xd + read()
    y.backward(torch.from_numpy(dy).double())
    g.save(name, x=x, dy=dy, y=y, dx=xd.grad, dw=table.weight.grad, w=table.weight, pos=pos)


def filled(table):
    table = table.double()
    table.weight.data = torch.from_numpy(g.normal(*table.weight.shape)).double()
    return table


wpe = filled(torch.nn.Embedding(M, C))  # GPT2Model.wpe
pos = (real.cumsum(-1) - 1).masked_fill(real == 0, 0)
save("gpt2", wpe, pos, lambda: wpe(pos))

opt = filled(OPTLearnedPositionalEmbedding(M - 2, C))
save("opt", opt, (real.cumsum(-1) * real - 1) + opt.offset, lambda: opt(real))

roberta = filled(torch.nn.Embedding(M, C, padding_idx=1))  # RobertaEmbeddings.position_embeddings
ids = torch.where(real == 1, 7, 1)
pos = RobertaEmbeddings.create_position_ids_from_input_ids(ids, 1)
save("roberta", roberta, pos, lambda: roberta(pos))
g.save("cached", pos=RobertaEmbeddings.create_position_ids_from_input_ids(ids, 1, past_key_values_length=3))
g.write()
