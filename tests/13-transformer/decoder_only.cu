/* @decoder_only */
#include "../test.h"

#include "../../llm_cuda.cuh"
#include "../tiny_decoder_cuda.h"

/* C, H, Hkv, D, F of the blocks. */
static llm_decoder_only_config config(size_t vocab, bool tied, size_t C, size_t H, size_t Hkv,
                                      size_t D, size_t F) {
    llm_decoder_only_config c;
    c.vocab = vocab, c.context = 16, c.layers = TEST_SLOW ? 1 : 2, c.tied = tied, c.theta = 100.0f;
    c.block.width = C, c.block.heads = H, c.block.kv_heads = Hkv, c.block.head_size = D;
    c.block.hidden = F, c.block.eps = 1e-5f, c.block.pairing = LLM_ROPE_HALVES;
    return c;
}
/* The same for the device, with the table of rotations. */
static llm_cuda_decoder_only_config device_config(const llm_decoder_only_config &c, size_t length) {
    const size_t D = c.block.head_size, n = length * D / 2;
    float inv_freq[64], *cosine = floats(n), *sine = floats(n);
    llm_rope_inv_freq(inv_freq, D, c.theta);
    llm_rope_table(cosine, sine, NULL, inv_freq, length, D);
    const llm_cuda_decoder_only_config d = {
        c.vocab, 0, c.layers, c.tied,
        llm_cuda_llama_block_config(c.block, to_device(cosine, n), to_device(sine, n))};
    return d;
}

/* Steps on the device beside llm_decoder_only's. */
template <typename T>
static void check_steps(const llm_decoder_only_config &c, size_t B, size_t length, size_t steps) {
    llm_decoder_only cpu;
    llm_error e;
    llm_rng rng = llm_rng_seed(1);
    CHECK(llm_decoder_only_create(&cpu, &c, B, length, &e));
    llm_decoder_only_init(&cpu, &rng);
    decoder_check_steps<T>(
        cpu, device_config(c, length), B, length, steps,
        [&](const int *ids, const int *targets) {
            return llm_decoder_only_forward(&cpu, ids, targets, B, length);
        },
        [&]() { llm_decoder_only_backward(&cpu); },
        [&](const llm_adamw_config *adamw, size_t t) { llm_decoder_only_step(&cpu, adamw, t); });
    llm_decoder_only_destroy(&cpu);
}

TEST(decoder_only,
     "steps of Llama: loss, every gradient, clipping, weights equal llm_decoder_only") {
    check_steps<float>(config(7, false, 4, 4, 2, 2, 5), TEST_SLOW ? 1 : 3, 5, TEST_SLOW ? 1 : 3);
    if (!TEST_SLOW) check_steps<float>(config(9, true, 6, 2, 1, 4, 8), 2, 4, 2);
}

TEST(decoder_only, "bfloat16 with a float master on tensor cores follows within its rounding") {
    if (!TEST_SLOW) check_steps<llm_bf16>(config(11, false, 16, 4, 2, 8, 24), 2, 6, 2);
}

TEST(decoder_only, "a smaller batch in the same memory; two micro-batches add up to one batch") {
    const llm_decoder_only_config c = config(7, true, 8, 2, 2, 4, 8);
    const size_t B = 2, length = 3, N = B * length;
    llm_decoder_only cpu;
    llm_error e;
    llm_rng rng = llm_rng_seed(3);
    CHECK(llm_decoder_only_create(&cpu, &c, B, length, &e));
    llm_decoder_only_init(&cpu, &rng);
    const llm_cuda_decoder_only<float> g =
        on_device<float>(cpu.w, cpu.count, device_config(c, length), B, length);
    int ids[6], targets[6];
    llm_cuda_decoder_only_batch whole = batch(ids, targets, B, length, c.vocab, 1);
    llm_decoder_only_forward(&cpu, ids, targets, B, length);
    llm_decoder_only_backward(&cpu);
    for (size_t b = 0; b < B; b++) {
        int order[3], segment[8], scratch[8];
        llm_cuda_decoder_only_batch half = whole;
        half.B = 1, half.ids += b * length, half.targets += b * length;
        half.segments =
            llm_cuda_embedding_sort(order, segment, ids + b * length, length, c.vocab, scratch);
        half.order = to_device(order, length), half.segment = to_device(segment, half.segments + 1);
        CHECK_CUDA(llm_cuda_decoder_only_forward(g, half, 0));
        CHECK_CUDA(llm_cuda_decoder_only_backward(g, half, 0));
    }
    float *got = floats(cpu.count), *logits = floats(N * 8);
    CHECK_ALL_NEAR(from_device(got, g.g, cpu.count), cpu.g, cpu.count, 1e-6f);
    whole.targets = NULL; /* the logits alone */
    CHECK_CUDA(llm_cuda_decoder_only_forward(g, whole, 0));
    llm_decoder_only_forward(&cpu, ids, NULL, B, length);
    from_device(logits, g.logits, N * g.rows);
    CHECK(g.rows == 8);
    for (size_t n = 0; n < N; n++) CHECK_ALL_NEAR(logits + n * 8, cpu.logits + n * 7, 7, 1e-6f);
    llm_decoder_only_destroy(&cpu);
}
