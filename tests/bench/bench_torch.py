"""The operations of bench_cuda.cu in PyTorch, eager and compiled, for the same sizes: lines to put side by side."""
import statistics

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    print("skipped: PyTorch on a GPU (torch is missing)")
    raise SystemExit
if not torch.cuda.is_available():
    print("skipped: PyTorch on a GPU (there is none)")
    raise SystemExit

N, C, ROWS, CLASSES = 16384, 4096, 4096, 50304


def milliseconds(call, warm_up=5, runs=25):
    for _ in range(warm_up):
        call()
    times = []
    for _ in range(runs):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop))
    return statistics.median(times)


def say(name, kind, call, moved):
    for form, f in (("eager", call), ("compiled", torch.compile(call))):
        ms = milliseconds(f)
        print(f"{name:24} {kind:5} {ms:9.3f} ms {1e-6 * moved / ms:8.0f} GB/s  torch, {form}")


def memory_bound(dtype, kind):
    x, r = (torch.full((N, C), v, dtype=dtype, device="cuda") for v in (0.5, 0.125))
    w = torch.ones(C, dtype=dtype, device="cuda")
    logits = torch.full((ROWS, CLASSES), 0.5, dtype=dtype, device="cuda", requires_grad=True)
    target = torch.zeros(ROWS, dtype=torch.long, device="cuda")
    e, v = x.numel() * x.element_size(), logits.numel() * logits.element_size()
    say("rmsnorm_residual", kind, lambda: F.rms_norm(x + r, (C,), w), 4 * e)
    say("layernorm_residual", kind, lambda: F.layer_norm(x + r, (C,), w, w), 4 * e)
    say("softmax_forward", kind, lambda: F.softmax(x, -1), 2 * e)
    say("activation_forward", kind, lambda: F.gelu(x + w, approximate="tanh"), 2 * e)
    say("cross_entropy_in_place", kind,
        lambda: torch.autograd.grad(F.cross_entropy(logits.float(), target), logits), 2 * v)


def product(n, c, o, dtype, kind):
    x, w = torch.full((n, c), 0.5, dtype=dtype, device="cuda"), torch.full((o, c), 0.5, dtype=dtype, device="cuda")
    ms = milliseconds(lambda: F.linear(x, w))
    print(f"{'dense_forward':24} {kind:5} {ms:9.3f} ms {2e-9 * n * c * o / ms:8.1f} TFLOP/s  torch  ({n} x {c} x {o})")


def attention(b, h, t, d, dtype, kind):
    q, k, v, g = (torch.full((b, h, t, d), 0.1, dtype=dtype, device="cuda", requires_grad=i < 3) for i in range(4))
    work = 2e-9 * q.numel() * t
    forward = milliseconds(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    backward = milliseconds(lambda: torch.autograd.grad(out, (q, k, v), g, retain_graph=True))
    for name, factor, ms in (("flash_forward", 1, forward), ("flash_backward", 2.5, backward)):
        print(f"{name:24} {kind:5} {ms:9.3f} ms {factor * work / ms:8.1f} TFLOP/s  torch  ({b} x {h} x {t} x {d})")


memory_bound(torch.float32, "float")
memory_bound(torch.bfloat16, "bf16")
product(4096, 4096, 4096, torch.float32, "float")
for shape in ((4096, 4096, 4096), (16384, 768, 3072), (8192, 8192, 8192)):
    product(*shape, torch.bfloat16, "bf16")
attention(4, 16, 1024, 64, torch.float32, "float")
for size in (64, 128):
    attention(4, 16, 4096, size, torch.bfloat16, "bf16")
