"""Golden values of @beam_search: transformers' generate with num_beams on a model whose logits are a table of the last two
tokens: all forms of early_stopping, length penalties, none, one and two stop tokens. Run by `make golden`."""
import numpy as np
import torch
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from golden import Golden

g = Golden(__file__, seed=47)
V, T = 9, 7


class Table(PreTrainedModel, GenerationMixin):
    config_class = PreTrainedConfig
    main_input_name = "input_ids"

    def __init__(self, config, table):
        super().__init__(config)
        self.table = torch.nn.Parameter(table)

    def forward(self, input_ids, attention_mask=None, **kwargs):
        before = torch.cat([torch.zeros_like(input_ids[:, :1]), input_ids[:, :-1]], 1)
        return CausalLMOutput(logits=self.table[before * V + input_ids])


table = 2 * g.normal(V * V, V)
table[:, [2, 6]] += 1.5
model = Table(PreTrainedConfig(vocab_size=V, is_encoder_decoder=False, bos_token_id=1, eos_token_id=2), torch.from_numpy(table))
model.eval()
g.save("model", table=table)
case = 0
for prompt in ([3], [4, 5, 7]):
    for beams in (2, 3, 5):
        for early in (0, 1, 2):
            for alpha, stop in ((1.0, [2]), (0.0, [2, 6]), (2.0, [2, 6]), (-1.0, [2]), (0.6, [])):
                if case % 2 == 0 or not stop:
                    out = model.generate(torch.tensor([prompt]), do_sample=False, num_beams=beams, max_new_tokens=T,
                                         num_return_sequences=beams, early_stopping=[True, False, "never"][early],
                                         length_penalty=alpha, eos_token_id=stop or None, pad_token_id=0, use_cache=False,
                                         return_dict_in_generate=True, output_scores=True)
                    kept = out.sequences_scores > -1e6
                    new = [r[len(prompt):].tolist() for r, k in zip(out.sequences, kept) if k]
                    new = [r[:next((i + 1 for i, v in enumerate(r) if v in stop), len(r))] for r in new]
                    g.save(f"{case}", prompt=prompt, how=[beams, early, alpha], stop=stop, size=[len(r) for r in new],
                           ids=sum(new, []), score=out.sequences_scores[kept])
                case += 1
g.save("cases", count=[case])
g.write()
