/* @gpt2 */
#include "../test.h"

#include "../../llm_cuda.cuh"
#include "../tiny_decoder_cuda.h"

static llm_gpt2_config tiny(size_t vocab, size_t context, size_t width, size_t hidden) {
    llm_gpt2_config c = llm_gpt2_defaults();
    c.vocab = vocab, c.context = context, c.layers = TEST_SLOW ? 1 : 2, c.heads = 2,
    c.width = width;
    c.hidden = hidden;
    return c;
}

/* Loss, all gradients and the weights of `steps` steps, beside llm_gpt2. */
template <typename T>
static void check_steps(const llm_gpt2_config &c, size_t B, size_t length, size_t steps) {
    /* of the largest gradient, of the loss, of the norm: bfloat16 rounds 30 times on each way */
    const bool exact = sizeof(T) == 4;
    const float tol = exact ? 2e-5f : 0.06f, loss_tol = exact ? 2e-5f : 0.03f;
    const size_t N = B * length;
    llm_gpt2 cpu;
    llm_error e;
    llm_rng rng = llm_rng_seed(1);
    CHECK(llm_gpt2_create(&cpu, &c, B, length, &e));
    llm_gpt2_init(&cpu, &rng);
    for (size_t i = 0; i < cpu.matrices; i++) cpu.w[i] *= 5.0f; /* or all logits are near 0 */
    const llm_cuda_decoder_only_config d_c = llm_cuda_gpt2_config(c);
    const llm_cuda_decoder_only<T> g = on_device<T>(cpu.w, cpu.count, d_c, B, length);
    CHECK(g.matrices == cpu.matrices);
    llm_adamw_config adamw = llm_adamw_defaults();
    adamw.lr = 1e-2f, adamw.beta1 = 0.9f, adamw.beta2 = 0.95f, adamw.eps = 1e-6f;
    adamw.weight_decay = 0.1f;
    int *ids = (int *)test_memory(N, sizeof(int)), *targets = (int *)test_memory(N, sizeof(int));
    float *got = floats(cpu.count), norm[2];
    double total[2];
    for (size_t t = 1; t <= steps; t++) {
        const llm_cuda_decoder_only_batch b = batch(ids, targets, B, length, c.vocab, t);
        CHECK_CUDA(llm_cuda_decoder_only_forward(g, b, 0));
        CHECK_CUDA(llm_cuda_decoder_only_backward(g, b, 0));
        const float loss = llm_gpt2_forward(&cpu, ids, targets, B, length);
        llm_gpt2_backward(&cpu);
        from_device(total, g.total, 2);
        CHECK(total[1] == (double)cpu.kept);
        CHECK_NEAR(total[0] / total[1], loss, loss_tol);
        float large = 0.0f;
        for (size_t i = 0; i < cpu.count; i++) large = fmaxf(large, fabsf(cpu.g[i]));
        CHECK_ALL_NEAR(from_device(got, g.g, cpu.count), cpu.g, cpu.count, tol * large);

        const float max_norm = t == 1 ? 1e3f : 0.1f; /* the second step is clipped */
        CHECK_CUDA(llm_cuda_decoder_only_step(g, &adamw, t, max_norm, 7, 0));
        const float want = llm_grad_clip_norm(cpu.g, cpu.count, max_norm);
        CHECK_NEAR(from_device(norm, g.norm_factor, 2)[0], want, tol * want);
        CHECK(t == 1 ? norm[1] == 1.0f : norm[1] < 1.0f);
        llm_gpt2_step(&cpu, &adamw, t);
        from_device(got, g.g, cpu.count);
        for (size_t i = 0; i < cpu.count; i++) CHECK(got[i] == 0.0f);
        /* Adam's first steps have the size of lr whatever the gradient: a small one may differ in
         * sign, where rounding is coarse */
        const float step = exact ? 1e-4f : 2.1f * adamw.lr * (float)t;
        CHECK_STORED(T, from_device_as(got, g.w, cpu.count), cpu.w, cpu.count, step);
        if (exact) memcpy(cpu.w, got, cpu.count * sizeof(float)); /* walk together */
    }
    llm_gpt2_destroy(&cpu);
}

TEST(gpt2, "three steps: loss, every gradient, clipping and weights equal llm_gpt2") {
    check_steps<float>(tiny(7, 5, 4, 6), TEST_SLOW ? 1 : 3, 5, TEST_SLOW ? 1 : 3);
}

TEST(gpt2, "bfloat16 with a float master on tensor cores follows within its rounding") {
    if (!TEST_SLOW) check_steps<llm_bf16>(tiny(11, 8, 16, 32), 2, 6, 2);
}

TEST(gpt2, "parts of the flat vectors are those of llm_gpt2_bind, the logits filled up from wpe") {
    const llm_gpt2_config c = tiny(11, 8, 16, 32);
    const llm_cuda_decoder_only_config d_c = llm_cuda_gpt2_config(c);
    const size_t L = c.layers;
    llm_decoder_block_weights block[2];
    llm_gpt2_weights t;
    size_t matrices;
    t.block = block;
    float *flat = floats(llm_gpt2_count(&c));
    const size_t count = llm_gpt2_bind(&t, flat, &matrices, &c);
    for (size_t l = 0; l < L; l++) {
        const llm_cuda_decoder_block_weights<float> b = llm_cuda_decoder_only_block(flat, d_c, l);
        CHECK(b.qkv_w == block[l].qkv_w && b.qkv_b == block[l].qkv_b);
        CHECK(b.out_w == block[l].out_w && b.out_b == block[l].out_b);
        CHECK(b.ffn.up == block[l].ffn.up && b.ffn.up_bias == block[l].ffn.up_bias);
        CHECK(b.ffn.down == block[l].ffn.down && b.ffn.down_bias == block[l].ffn.down_bias);
        CHECK(b.norm1_w == block[l].norm1_w && b.norm1_b == block[l].norm1_b);
        CHECK(b.norm2_w == block[l].norm2_w && b.norm2_b == block[l].norm2_b && !b.ffn.gate);
    }
    llm_cuda_decoder_only<float> g;
    g.config = d_c;
    llm_cuda_decoder_only_bind(g, NULL, 1, 1);
    CHECK(g.rows == 16 && g.count == count && g.matrices == matrices);
    CHECK(flat + g.last == t.norm_w && g.head == 0);
    llm_cuda_decoder_only_batch none;
    memset(&none, 0, sizeof none);
    CHECK(llm_cuda_decoder_only_forward(g, none, 0) != cudaSuccess);
    none.B = 1, none.T = 9; /* more places than wpe has */
    CHECK(llm_cuda_decoder_only_forward(g, none, 0) != cudaSuccess);
}
