"""Golden values of @transformer_model: transformers' models of five families, tiny, in float64: logits, loss, gradients of
all weights, and the losses of 20 steps of AdamW from the same weights. Weights come from a small generator that the test
runs too, so that the file holds results only. Also for @t5_file and @bert_file: the same models' config.json, T5 v1.1, 50
tokens that T5 writes; and directories that transformers has saved must load. Writes three files."""
import os
import subprocess
import sys
import tempfile

sys.path.pop(0)  # of this folder: its safetensors.py is not the library that transformers asks for

import numpy as np
import torch
import transformers as tf

from golden import Golden  # tests/golden.py: writes named arrays as text

B, S, T, V, C, F = 2, 5, 4, 7, 4, 6
source = np.array([[2, 5, 3, 4, 6], [4, 2, 6, 0, 0]])
ids = np.array([[0, 3, 2, 4], [0, 5, 2, 6]])
labels = np.array([[3, 2, 4, -100], [5, 2, -100, 1]])
masked = np.array([[-100, 1, -100, 4, 3], [2, -100, 5, -100, -100]])
types = np.array([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]])
eager = dict(attn_implementation="eager")
g = Golden(__file__, seed=1)
g.save("in", source=source, ids=ids, labels=labels, masked=masked, types=types)

models = {
    "2017": tf.MarianMTModel(tf.MarianConfig(
        vocab_size=V, d_model=C, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=F, decoder_ffn_dim=F, max_position_embeddings=8, pad_token_id=0, decoder_start_token_id=0,
        forced_eos_token_id=0, eos_token_id=0, dropout=0.0, activation_function="relu", scale_embedding=True, **eager)),
    "bert": tf.BertForMaskedLM(tf.BertConfig(
        vocab_size=V, hidden_size=C, num_hidden_layers=2, num_attention_heads=2, intermediate_size=F,
        max_position_embeddings=6, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **eager)),
    "gpt2": tf.GPT2LMHeadModel(tf.GPT2Config(
        vocab_size=V, n_positions=5, n_embd=C, n_layer=2, n_head=2, n_inner=F, bos_token_id=0, eos_token_id=0,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **eager)),
    "t5": tf.T5ForConditionalGeneration(tf.T5Config(
        vocab_size=V, d_model=C, d_kv=3, d_ff=F, num_layers=1, num_decoder_layers=2, num_heads=2, dropout_rate=0.0,
        relative_attention_num_buckets=8, relative_attention_max_distance=5, decoder_start_token_id=0, **eager)),
    "llama": tf.LlamaForCausalLM(tf.LlamaConfig(
        vocab_size=V, hidden_size=C, num_hidden_layers=2, head_dim=4, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=F, bos_token_id=0, eos_token_id=0, rms_norm_eps=1e-5, tie_word_embeddings=False, **eager)),
}


def pair(m):
    return [m.weight] + ([m.bias] if getattr(m, "bias", None) is not None else [])


def order(name, m):
    """Every tensor, or part of one, in the order of the flat vector; matrices (out,in)."""
    if name == "gpt2":
        t = m.transformer
        out = [t.wte.weight, t.wpe.weight]
        for b in t.h:
            q = b.attn.c_attn
            for i in range(3):
                out += [q.weight[:, i * C:(i + 1) * C].T, q.bias[i * C:(i + 1) * C]]
            out += [b.attn.c_proj.weight.T, b.attn.c_proj.bias] + pair(b.ln_1)
            out += [b.mlp.c_fc.weight.T, b.mlp.c_fc.bias, b.mlp.c_proj.weight.T, b.mlp.c_proj.bias] + pair(b.ln_2)
        return out + pair(t.ln_f)
    if name == "llama":
        out = [m.model.embed_tokens.weight]
        for b in m.model.layers:
            a, f = b.self_attn, b.mlp
            for x in [a.q_proj, a.k_proj, a.v_proj, a.o_proj, b.input_layernorm, f.gate_proj, f.up_proj, f.down_proj,
                      b.post_attention_layernorm]:
                out += pair(x)
        return out + [m.model.norm.weight, m.lm_head.weight]
    if name == "bert":
        e = m.bert.embeddings
        out = [e.word_embeddings.weight, e.position_embeddings.weight, e.token_type_embeddings.weight] + pair(e.LayerNorm)
        for b in m.bert.encoder.layer:
            a = b.attention
            for x in [a.self.query, a.self.key, a.self.value, a.output.dense, a.output.LayerNorm, b.intermediate.dense,
                      b.output.dense, b.output.LayerNorm]:
                out += pair(x)
        h = m.cls.predictions
        return out + [h.transform.dense.weight, h.transform.dense.bias] + pair(h.transform.LayerNorm) + [h.bias]
    if name == "t5":
        out = [m.shared.weight]
        for s in [m.encoder, m.decoder]:
            for l, b in enumerate(s.block):
                for k, layer in enumerate(b.layer[:-1]):
                    a = layer.EncDecAttention if k else layer.SelfAttention
                    out += [a.q.weight, a.k.weight, a.v.weight, a.o.weight]
                    out += [a.relative_attention_bias.weight] if l == k == 0 else []
                    out += [layer.layer_norm.weight]
                f, d = b.layer[-1], b.layer[-1].DenseReluDense
                out += [d.wi_0.weight, d.wi_1.weight] if hasattr(d, "wi_0") else [d.wi.weight]
                out += [d.wo.weight, f.layer_norm.weight]
            out += [s.final_layer_norm.weight]
        return out + ([] if m.config.scale_decoder_outputs else [m.lm_head.weight])
    out = [m.model.shared.weight]
    for s in [m.model.encoder, m.model.decoder]:
        for b in s.layers:
            for a, n in [("self_attn", "self_attn_layer_norm"), ("encoder_attn", "encoder_attn_layer_norm")]:
                if hasattr(b, a):
                    a = getattr(b, a)
                    for x in [a.q_proj, a.k_proj, a.v_proj, a.out_proj, getattr(b, n)]:
                        out += pair(x)
            for x in [b.fc1, b.fc2, b.final_layer_norm]:
                out += pair(x)
    return out


class Generator:  # the one of tests/tiny_transformer.h
    def __init__(self):
        self.state = 1

    def numbers(self, n):
        x = np.empty(n)
        for i in range(n):
            self.state = (self.state * 1664525 + 1013904223) % 2**32
            x[i] = ((self.state >> 16) % 65 - 32) / 64
        return x


def loss_of(name, m):
    mask = torch.from_numpy((source != 0).astype(int))
    s, i, l = (torch.from_numpy(a) for a in (source, ids, labels))
    if name == "bert":
        out = m(input_ids=s, attention_mask=mask, token_type_ids=torch.from_numpy(types)).logits
        l = torch.from_numpy(masked)
    elif name in ("2017", "t5"):
        out = m(input_ids=s, attention_mask=mask, decoder_input_ids=i).logits
    else:
        out = m(input_ids=i).logits
    return out, torch.nn.functional.cross_entropy(out.reshape(-1, V), l.reshape(-1))


def fill(name, m):
    """The weights that the tests make, too."""
    m.double().eval()
    for e in m.modules():  # the id of padding is a token like others here, with a gradient
        if isinstance(e, torch.nn.Embedding):
            e.padding_idx = None
    gains = {id(p) for k, p in m.named_parameters() if p.dim() == 1 and k.endswith("weight")}
    n = Generator()
    for p in order(name, m):
        p.data.copy_(torch.from_numpy(n.numbers(p.numel()).reshape(p.shape)) + (1.0 if id(p) in gains else 0.0))


for name, m in models.items():
    fill(name, m)
    if name == "2017":  # the sines of the paper, not those of Marian
        t, i = np.arange(8)[:, None], np.arange(C // 2)[None]
        angle = t / 10000 ** (2 * i / C)
        table = np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(8, C)
        for half in (m.model.encoder, m.model.decoder):
            half.embed_positions.weight.data = torch.from_numpy(table)
    logits, loss = loss_of(name, m)
    loss.backward()
    # parts of tensors have no gradients of their own: take the same parts of the tensors' gradients
    keep = {k: p.data.clone() for k, p in m.named_parameters()}
    for p in m.parameters():
        p.data, p.kept = (p.grad if p.grad is not None else torch.zeros_like(p)), p.data
    grads = torch.cat([p.detach().reshape(-1) for p in order(name, m)]).numpy()
    for p in m.parameters():
        p.data = p.kept
    adam = torch.optim.AdamW([p for p in m.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
    losses = []
    for _ in range(20):
        adam.zero_grad()
        _, loss = loss_of(name, m)
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert all(torch.isfinite(p).all() for p in m.parameters()) and losses[-1] < losses[0] - 0.1, losses
    g.save(name, logits=np.round(logits.detach().numpy(), 7), grads=np.round(grads, 7), losses=losses)
g.write()

# ---- files ----
files = {k: Golden(os.path.join(os.path.dirname(__file__), k + "_file.py"), seed=1) for k in ("t5", "bert")}
gated = tf.T5ForConditionalGeneration(tf.T5Config(
    vocab_size=V, d_model=C, d_kv=3, d_ff=F, num_layers=2, num_decoder_layers=1, num_heads=2, dropout_rate=0.0,
    relative_attention_num_buckets=8, relative_attention_max_distance=5, decoder_start_token_id=0,
    feed_forward_proj="gated-gelu", tie_word_embeddings=False, **eager))
# this release of transformers ties T5's head whatever it is told; the files of v1.1 have one of their own
gated.lm_head.weight = torch.nn.Parameter(gated.lm_head.weight.detach().clone())
PRINT = """#include "llm.h"
int main(int argc, char **argv) {
    llm_error e;
    %s m;
    static const int ids[] = {%s};
    if (argc != 2 || !%s_open(&m, argv[1], &e)) return fprintf(stderr, "%%s\\n", e.message), 1;
    llm_arena arena;
    llm_arena_create(&arena, 1 << 20);
    llm_transformer_model_text text = {1, %d, %d, ids, NULL, NULL, ids};
    llm_transformer_model_acts a;
    llm_transformer_model_forward(&a, &text, &m.all, &m.shape, &arena);
    llm_transformer_model_loss(&a, ids, &m.all, &m.shape, &arena);
    for (int i = 0; i < 4; i++) printf("%%.9g ", a.%s[i]);
    return 0;
}
"""


def loads(m, text, want):
    """A directory saved by transformers, loaded and run by llm.h."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    with tempfile.TemporaryDirectory() as d:
        m.float().save_pretrained(d)
        open(d + "/run.c", "w").write(text)
        subprocess.run(["cc", "-std=c99", "-O0", "-w", "-I", root, d + "/run.c", "-o", d + "/run", "-lm"], check=True)
        got = subprocess.run([d + "/run", d], check=True, stdout=subprocess.PIPE).stdout.split()
    assert np.allclose([float(x) for x in got], want, atol=1e-4), (got, want)


s, i = torch.from_numpy(source), torch.from_numpy(ids)
mask = (s != 0).long()
words = ",".join(map(str, source[0]))
with torch.no_grad():
    for name, m in [("v10", models["t5"]), ("v11", gated)]:
        fill("t5", m)
        logits = m(input_ids=s, attention_mask=mask, decoder_input_ids=i).logits
        text = torch.zeros(B, 1, dtype=torch.long)
        for _ in range(50):
            last = m(input_ids=s, attention_mask=mask, decoder_input_ids=text).logits[:, -1]
            top = last.sort(dim=-1, descending=True).values
            assert (top[:, 0] - top[:, 1]).min() > 1e-4  # no choice hangs on rounding
            text = torch.cat([text, last.argmax(-1, keepdim=True)], 1)
        files["t5"].save(name, config=list(m.config.to_json_string(use_diff=False).encode()),
                         logits=np.round(logits.numpy(), 7), text=text[:, 1:])
    m = models["t5"].float()
    want = m(input_ids=s[:1], decoder_input_ids=s[:1]).logits[0, 0, :4]
    loads(m, PRINT % ("llm_t5_file", words, "llm_t5_file", S, S, "logits"), want.numpy())
    m = models["bert"]
    fill("bert", m)
    out = m(input_ids=s, attention_mask=mask, token_type_ids=torch.from_numpy(types)).logits
    files["bert"].save("mlm", config=list(m.config.to_json_string(use_diff=False).encode()),
                       logits=np.round(out.numpy(), 7))
    for m in (m, tf.BertModel(m.config).eval()):  # with a prefix and a head; without, with a pooler
        want = getattr(m.float(), "bert", m)(input_ids=s[:1]).last_hidden_state[0, 0]
        loads(m, PRINT % ("llm_bert_file", words, "llm_bert_file", S, 0, "h"), want.numpy())
for f in files.values():
    f.write()
