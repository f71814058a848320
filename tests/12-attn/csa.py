"""Golden values of @csa, and by main also of @csa_compress and @csa_index: DeepseekV4Attention of transformers with tiny
random weights, float64 where it does not insist on float32, and autograd."""
import os
from types import SimpleNamespace

import torch
from transformers import DeepseekV4Config
from transformers.models.deepseek_v4 import modeling_deepseek_v4 as v4

from golden import Golden  # tests/golden.py: writes named arrays as text

folder = os.path.dirname(os.path.abspath(__file__))


def main(name, seed):
    g = Golden(os.path.join(folder, name + ".py"), seed=seed)
    torch.manual_seed(seed)
    for B, T, H, D, m, k, W, IH, ID in [(1, 5, 1, 4, 4, 1, 2, 1, 4), (2, 7, 2, 6, 2, 2, 3, 2, 4), (1, 14, 3, 4, 3, 3, 5, 3, 6)]:
        config = DeepseekV4Config(hidden_size=8, num_attention_heads=H, head_dim=D, q_lora_rank=5, num_hidden_layers=1,
                                  layer_types=["compressed_sparse_attention"], sliding_window=W, o_groups=1, o_lora_rank=3,
                                  compress_rates={"compressed_sparse_attention": m, "heavily_compressed_attention": 128},
                                  index_n_heads=IH, index_head_dim=ID, index_topk=k, partial_rotary_factor=2 / D,
                                  mlp_layer_types=["moe"], attn_implementation="eager")
        layer = v4.DeepseekV4Attention(config, 0).double().eval()
        for p in layer.parameters():
            torch.nn.init.normal_(p, std=0.7)
        x = torch.from_numpy(g.normal(B, T, 8)).double()
        positions = torch.arange(T)[None].expand(B, T)
        rotary = v4.DeepseekV4RotaryEmbedding(config)
        cos, sin = rotary(x, positions, layer_type="compress")
        i, j = torch.arange(T)[:, None], torch.arange(T)[None]
        mask = torch.zeros(B, 1, T, T).double().masked_fill((j > i) | (j <= i - W), float("-inf"))
        seen = {}

        def keep(what, how=lambda a: a):
            return lambda module, args, result: seen.__setitem__(what, how(result))

        compressor, indexer = layer.compressor, layer.compressor.indexer
        layer.q_b_norm.register_forward_hook(keep("q"))
        layer.kv_norm.register_forward_hook(keep("kv"))
        compressor.register_forward_hook(keep("compressor"))
        indexer.register_forward_hook(keep("chosen"))
        indexer.scorer.register_forward_pre_hook(lambda module, args: seen.__setitem__("scorer", args))
        indexer.scorer.register_forward_hook(keep("score"))
        layer.o_a_proj.register_forward_pre_hook(lambda module, args: seen.__setitem__("merged", args[0]))
        with torch.no_grad():
            layer(x, {"compress": (cos, sin)}, positions, mask)
            wide = lambda module, a: torch.nn.functional.linear(x, getattr(module, a).weight)
            case = f"{B}x{T}x{H}x{D}x{m}x{k}x{W}"
            q = v4.apply_rotary_pos_emb(seen["q"], cos, sin).transpose(1, 2)  # (B,T,H,D)
            rows = v4.apply_rotary_pos_emb(seen["kv"][:, None], cos, sin)[:, 0]
            entries, chosen, allowed = seen["compressor"][0][:, 0], seen["chosen"], seen["compressor"][1]
        if name == "csa":
            dout = torch.from_numpy(g.normal(B, T, H, D)).double()
            leaf = [torch.from_numpy(a.float().numpy()).double().requires_grad_() for a in (q, rows, entries, layer.sinks.detach())]
            both = torch.cat([leaf[1], leaf[2]], 1)[:, None]
            module = SimpleNamespace(sinks=leaf[3], num_key_value_groups=H, training=False)
            out = v4.eager_attention_forward(module, leaf[0].transpose(1, 2), both, both, torch.cat([mask, allowed.double()], -1), D**-0.5)[0]
            out.backward(dout)
            g.save(case, q=leaf[0], rows=leaf[1], entries=leaf[2], sink=leaf[3], index=chosen, dout=dout, out=out, dq=leaf[0].grad,
                   drows=leaf[1].grad, dentries=leaf[2].grad, dsink=leaf[3].grad, cos=cos[0], sin=sin[0], merged=seen["merged"])
        if name == "csa_compress":
            inputs = dict(x=wide(compressor, "kv_proj"), gate=wide(compressor, "gate_proj"), bias=compressor.position_bias, weight=compressor.kv_norm.weight)
            leaf = {n: torch.from_numpy(a.detach().float().numpy()).double().requires_grad_() for n, a in inputs.items()}
            del compressor.kv_proj, compressor.gate_proj, compressor.position_bias
            compressor.kv_proj, compressor.gate_proj, compressor.position_bias = (lambda _: leaf["x"]), (lambda _: leaf["gate"]), leaf["bias"]
            del compressor.kv_norm.weight
            compressor.kv_norm.weight = leaf["weight"]
            entry = compressor(x, torch.zeros(B, T, 5).double(), positions, None, 0)[0][:, 0]
            dentry = torch.from_numpy(g.normal(*entry.shape)).double()
            entry.backward(dentry)
            g.save(case, **leaf, entry=entry, dentry=dentry, cos=cos[0, : T // m * m : m], sin=sin[0, : T // m * m : m],
                   **{"d" + n: a.grad for n, a in leaf.items()})
        if name == "csa_index":
            query, key, _ = seen["scorer"]
            u = indexer.scorer.weights_proj(x).detach()
            leaf = [torch.from_numpy(a.float().numpy()).requires_grad_() for a in (query, key, u)]
            del indexer.scorer.weights_proj
            indexer.scorer.weights_proj = lambda _: leaf[2]
            score = indexer.scorer(leaf[0], leaf[1], x).double()
            ready = (torch.arange(T)[:, None] + 1) // m > torch.arange(T // m)[None]
            target = torch.from_numpy(abs(g.normal(B, T, T // m))).double()
            total, losses = 0.0, []
            for b in range(B):
                for t in range(T):
                    list_ = chosen[b, t][chosen[b, t] >= 0]
                    if len(list_):
                        aim = target[b, t, list_] / target[b, t, list_].sum()
                        losses.append(torch.nn.functional.kl_div(score[b, t, list_].log_softmax(0), aim, reduction="sum"))
                    else:
                        losses.append(torch.zeros(()))
            sum(losses).backward()
            g.save(case, q=leaf[0], key=leaf[1], u=leaf[2], index=chosen, score=score.masked_fill(~ready, float("-inf")),
                   target=target, loss=torch.stack([l.double() for l in losses]), dq=leaf[0].grad, dkey=leaf[1].grad, du=leaf[2].grad)
    g.write()


if __name__ == "__main__":
    main("csa", 61)
