"""Golden values of @gpt2_file: a directory written by transformers, byte by byte. Run by `make golden`; writes
gpt2_file.txt. Also holds llm_gpt2_save against transformers: what it writes must load there with the same logits."""
import sys

del sys.path[0]  # or `import safetensors` finds a script of this folder
import os
import subprocess
import tempfile

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from golden import Golden  # tests/golden.py: writes named arrays as text

g = Golden(__file__, seed=132)
V, T, L, H, C, F = 5, 4, 2, 2, 4, 6
config = GPT2Config(vocab_size=V, n_positions=T, n_embd=C, n_layer=L, n_head=H, n_inner=F, bos_token_id=0,
                    eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, attn_implementation="eager")
model = GPT2LMHeadModel(config)
for p in model.parameters():
    p.data = torch.from_numpy(np.float32(np.round(24 * g.normal(*p.shape)) / 64))

ids = g.rng.integers(0, V, (2, T))
labels = np.roll(ids, -1, axis=1)
labels[:, -1] = -100


def run(m):
    m = m.double()
    logits = m(torch.from_numpy(ids)).logits
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, V), torch.from_numpy(labels).reshape(-1))
    return logits.detach(), loss


with tempfile.TemporaryDirectory() as d:
    model.save_pretrained(d)
    for name in ["config.json", "model.safetensors"]:
        g.save("file", **{name: np.frombuffer(open(os.path.join(d, name), "rb").read(), np.uint8)})
    logits, loss = run(model)
    loss.backward()
    t = model.transformer
    g.save("tiny", ids=ids, targets=labels, logits=logits, loss=loss, dwte=t.wte.weight.grad,
           dup=t.h[1].mlp.c_fc.weight.grad.T)

    # the other way: loaded and saved by llm.h, loaded by transformers
    source, out = os.path.join(d, "copy.c"), os.path.join(d, "out")
    os.mkdir(out)
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    open(source, "w").write("""#include "llm.h"
int main(int argc, char **argv) {
    llm_error e;
    llm_gpt2 g;
    if (argc == 3 && llm_gpt2_load(&g, argv[1], 0, 0, &e) && llm_gpt2_save(&g, argv[2], &e)) return 0;
    fprintf(stderr, "%s\\n", e.message);
    return 1;
}
""")
    subprocess.run(["cc", "-std=c99", "-O1", "-w", "-I", root, source, "-o", d + "/copy", "-lm"], check=True)
    subprocess.run([d + "/copy", d, out], check=True)
    again, _ = run(GPT2LMHeadModel.from_pretrained(out, attn_implementation="eager").eval())
    assert torch.equal(again, logits), "llm_gpt2_save is read differently by transformers"

g.write()
