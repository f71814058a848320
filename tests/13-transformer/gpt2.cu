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

/* Steps on the device beside llm_gpt2's. */
template <typename T>
static void check_steps(const llm_gpt2_config &c, size_t B, size_t length, size_t steps) {
    llm_gpt2 cpu;
    llm_error e;
    llm_rng rng = llm_rng_seed(1);
    CHECK(llm_gpt2_create(&cpu, &c, B, length, &e));
    llm_gpt2_init(&cpu, &rng);
    decoder_check_steps<T>(
        cpu, llm_cuda_gpt2_config(c), B, length, steps,
        [&](const int *ids, const int *targets) {
            return llm_gpt2_forward(&cpu, ids, targets, B, length);
        },
        [&]() { llm_gpt2_backward(&cpu); },
        [&](const llm_adamw_config *adamw, size_t t) { llm_gpt2_step(&cpu, adamw, t); });
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
