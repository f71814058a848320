"""Golden values of @decoding: transformers' generate on a model whose logits are a table of the last two tokens: greedy, a
left-padded batch, several stop tokens, min_new_tokens. And names of random streams by Philox 4x32-10, written here from
the paper, since no Python library has its 32-bit form. Run by `make golden`; writes decoding.txt."""
import numpy as np
import torch
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=19)
V, PAD = 9, 0


class Table(PreTrainedModel, GenerationMixin):
    config_class = PreTrainedConfig
    main_input_name = "input_ids"

    def __init__(self, config, table):
        super().__init__(config)
        self.table = torch.nn.Parameter(table)

    def forward(self, input_ids, attention_mask=None, **kwargs):
        before = torch.cat([torch.zeros_like(input_ids[:, :1]), input_ids[:, :-1]], 1)
        if attention_mask is not None:  # nothing before the text counts as token 0
            left = torch.cat([torch.zeros_like(attention_mask[:, :1]), attention_mask[:, :-1]], 1)
            before = before * left
        return CausalLMOutput(logits=self.table[before * V + input_ids])


table = 2 * g.normal(V * V, V)
model = Table(PreTrainedConfig(vocab_size=V, is_encoder_decoder=False, bos_token_id=1, eos_token_id=2), torch.from_numpy(table).double())
model.eval()
g.save("model", table=table)
prompts = [[3], [4, 5, 6, 7], [8, 1], [5, 3, 3], [6], [7, 7, 4, 1, 5]]
longest = max(map(len, prompts))
ids = torch.tensor([[PAD] * (longest - len(p)) + p for p in prompts])
seen = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
g.save("prompts", length=[len(p) for p in prompts], ids=sum(prompts, []))
for name, stop, least, most in [("free", [], 0, 12), ("stop", [2], 0, 12), ("stops", [2, 6], 0, 12), ("least", [2, 6], 5, 12),
                                ("one", [2], 0, 1)]:
    out = model.generate(ids, attention_mask=seen, do_sample=False, num_beams=1, max_new_tokens=most, use_cache=False,
                         min_new_tokens=least or None, eos_token_id=stop or None, pad_token_id=PAD,
                         return_dict_in_generate=True, output_logits=True)
    new = out.sequences[:, longest:].numpy()
    logprob = np.stack([torch.log_softmax(z, -1).numpy() for z in out.logits], 1)
    logprob = np.take_along_axis(logprob, new[:, :, None], 2)[:, :, 0]
    count = [next((t + 1 for t in range(len(r)) if r[t] in stop and t >= least), len(r)) for r in new]
    g.save(name, count=count, ids=sum([list(r[:n]) for r, n in zip(new, count)], []),
           logprob=sum([list(r[:n]) for r, n in zip(logprob, count)], []))


def philox(counter, key):
    for i in range(10):
        a, b = (m * counter[j] for m, j in ((0xD2511F53, 0), (0xCD9E8D57, 2)))
        counter = [b >> 32 ^ counter[1] ^ (key[0] + i * 0x9E3779B9) % 2**32, b % 2**32,
                   a >> 32 ^ counter[3] ^ (key[1] + i * 0xBB67AE85) % 2**32, a % 2**32]
    return counter


assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]  # Random123's known answers
assert philox([2**32 - 1] * 4, [2**32 - 1] * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
names, keys = [], []
for seed, stream, step in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (7, 100, 3), (5 << 32, 0, 0), (0, 6 << 32, 0),
                           (3 << 32 | 9, 1 << 40 | 2, 1 << 33)]:
    halves = [x >> s & 0xFFFFFFFF for x in (seed, stream, step) for s in (32, 0)]
    names += halves
    word = philox([halves[3], halves[2], halves[5], halves[4]], [halves[1], halves[0]])
    keys += [word[k // 2] >> 16 * (k % 2) & 0xFFFF for k in range(4)]
g.save("streams", name=names, key=keys)
g.write()
