/* @llama_cache */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_llama.h"

/* The bf16 nearest to x by trying the number below and the two above it, ties to the even one. */
static uint16_t nearest(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint16_t best = 0;
    double gap = INFINITY;
    for (uint32_t k = 0; k < 2; k++) {
        const uint32_t word = (bits >> 16) + k, wide = word << 16;
        float y;
        memcpy(&y, &wide, sizeof y);
        const double off = isinf(y) ? 340282366920938463463374607431768211456.0 - fabs((double)x)
                                    : fabs((double)y - (double)x); /* infinity stands for 2^128 */
        if (off < gap || (off == gap && word % 2 == 0)) best = (uint16_t)word, gap = off;
    }
    return best;
}

TEST(llama_cache, "bf16 is the nearest number, ties to the even one; float is as it was") {
    enum { N = 4000 };
    static float x[N], row[N];
    llm_rng rng = llm_rng_seed(1);
    for (size_t i = 0; i < N; i++) {
        const uint32_t u = llm_rng_u32(&rng);
        uint32_t bits = i % 2 ? u : (u & 0xffff0000u) | (i % 4 ? 0x8000u : 0x8001u); /* at a tie */
        if ((bits & 0x7f800000u) == 0x7f800000u) bits ^= 0x40000000u;                /* a number */
        memcpy(&x[i], &bits, sizeof bits);
    }
    x[0] = FLT_MAX, x[1] = -FLT_MAX, x[2] = 1e-45f, x[3] = -0.0f;
    llm_arena arena = test_arena(1 << 17);
    CHECK(llm_llama_cache_size(LLM_LLAMA_CACHE_F32) == 4);
    CHECK(llm_llama_cache_size(LLM_LLAMA_CACHE_BF16) == 2);
    const llm_llama_cache half = llm_llama_cache_take(N + 3, LLM_LLAMA_CACHE_BF16, &arena);
    CHECK(arena.used >= 2 * (N + 3) && arena.used < 2 * (N + 3) + 64);
    const llm_llama_cache wide = llm_llama_cache_take(N + 3, LLM_LLAMA_CACHE_F32, &arena);
    CHECK(!half.wide && half.half && wide.wide && !wide.half);
    half.half[2] = 7, half.half[N + 2] = 9, wide.wide[2] = 7.0f;
    llm_llama_cache_write(&half, 3, x, N - 1);
    llm_llama_cache_write(&wide, 3, x, N);
    CHECK(half.half[2] == 7 && half.half[N + 2] == 9 && wide.wide[2] == 7.0f);
    for (size_t i = 0; i + 1 < N; i++) {
        CHECK(half.half[3 + i] == nearest(x[i]));
        const float *got = llm_llama_cache_read(row, &half, 3 + i, 1);
        CHECK(got == row);
        uint32_t bits;
        memcpy(&bits, got, sizeof bits);
        CHECK(bits == (uint32_t)nearest(x[i]) << 16);
        if (fabsf(x[i]) > 1e-30f && fabsf(x[i]) < 1e38f)
            CHECK(fabsf(row[0] - x[i]) <= fabsf(x[i]) / 256.0f);
    }
    CHECK(memcmp(llm_llama_cache_read(row, &wide, 3, N), x, sizeof x) == 0);
    CHECK(llm_llama_cache_read(row, &wide, 5, 1) == wide.wide + 5);
    const float odd[3] = {NAN, INFINITY, -INFINITY};
    llm_llama_cache_write(&half, 0, odd, 3);
    llm_llama_cache_read(row, &half, 0, 3);
    CHECK(isnan(row[0]) && row[1] == INFINITY && row[2] == -INFINITY);
}

TEST(llama_cache, "rows are read where they stand, or side by side, and no row more") {
    enum { N = 3, STEP = 7, ROWS = 4, AT = 2, SIZE = AT + (ROWS - 1) * STEP + N };
    llm_llama_cache half = {NULL, NULL}, wide = {floats(SIZE), NULL};
    float out[ROWS * N + 1];
    size_t ld = 0;
    half.half = (uint16_t *)test_memory(SIZE, sizeof(uint16_t)); /* nothing behind the last row */
    for (size_t i = 0; i < SIZE; i++) {
        const float x = (float)i;
        llm_llama_cache_write(&half, i, &x, 1);
    }
    out[ROWS * N] = -1.0f;
    CHECK(llm_llama_cache_rows(out, &ld, &half, AT, STEP, ROWS, N) == out && ld == N);
    for (size_t r = 0; r < ROWS; r++)
        for (size_t i = 0; i < N; i++) CHECK(out[r * N + i] == (float)(AT + r * STEP + i));
    CHECK(out[ROWS * N] == -1.0f);
    CHECK(llm_llama_cache_rows(out, &ld, &wide, AT, STEP, ROWS, N) == wide.wide + AT && ld == STEP);
}

/* A tiny model with a cache of either kind: "llama", or "mistral" with a window of 5. */
enum { CONTEXT = 40, V = 24 };
static const char *config_of(bool windowed) {
    static char text[600];
    snprintf(text, sizeof text,
             "{\"model_type\": \"%s\", \"vocab_size\": 24, \"hidden_size\": 16, "
             "\"intermediate_size\": 24, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, "
             "\"num_key_value_heads\": 2, \"max_position_embeddings\": 64, \"sliding_window\": %s}",
             windowed ? "mistral" : "llama", windowed ? "5" : "null");
    return text;
}
static void open_both(llm_llama *m, bool windowed) {
    tiny_llama tiny;
    llm_error e;
    tiny_llama_make(&tiny, windowed ? "mistral" : "llama", 4);
    const char *dir = tiny_llama_directory(&tiny, config_of(windowed), LLM_SAFETENSORS_F32);
    for (int k = 0; k < 2; k++) {
        if (!llm_llama_file_open(&m[k].file, dir, &e))
            test_fail(__FILE__, __LINE__, "%s", e.message);
        CHECK(llm_llama_create_as(&m[k], CONTEXT, 7, (llm_llama_cache_kind)k, &e));
    }
}
static void close_both(llm_llama *m) { llm_llama_close(&m[0]), llm_llama_close(&m[1]); }

TEST(llama_cache, "half the memory; attention's error is within the bound, and 0 for numbers that "
                  "bf16 has") {
    for (size_t windowed = 0; windowed < 2; windowed++) {
        enum { H = 4, Hkv = 2, D = 4, L = 2, K = Hkv * D, READ = 20, NEW = 3, END = READ + NEW };
        llm_llama m[2];
        open_both(m, windowed == 1);
        CHECK(m[0].memory.size - m[1].memory.size == 2 * L * K * CONTEXT * 2);
        const float scale = m[0].file.config.scale;
        llm_rng rng = llm_rng_seed(5);
        double largest = 0.0;
        for (size_t round = 0; round < 2;
             round++) { /* then with numbers that are rounded already */
            float k[END * K], v[END * K], q[NEW * H * D], out[2][NEW * H * D];
            llm_rng_normal_fill(&rng, k, END * K);
            llm_rng_normal_fill(&rng, v, END * K);
            llm_rng_normal_fill(&rng, q, NEW * H * D);
            for (size_t i = 0; round && i < END * K; i++) {
                k[i] = llm_flash_fp8_bf16(k[i]);
                v[i] = llm_flash_fp8_bf16(v[i]);
            }
            for (size_t c = 0; c < 2; c++) {
                const size_t used = m[c].memory.used;
                llm_llama_cache_write(&m[c].keys, CONTEXT * K, k, END * K); /* of layer 1 */
                llm_llama_cache_write(&m[c].values, CONTEXT * K, v, END * K);
                m[c].length = READ;
                llm_llama_attend(out[c], q, &m[c], 1, NEW);
                CHECK(m[c].memory.used == used);
            }
            for (size_t i = 0; i < NEW; i++)
                for (size_t h = 0; h < H; h++) {
                    double t = 0.0, most = 0.0;
                    for (size_t j = 0; j < END; j++) {
                        double sum = 0.0;
                        for (size_t d = 0; d < D; d++) {
                            const size_t at = (j * Hkv + h / 2) * D + d;
                            sum += fabs((double)q[(i * H + h) * D + d] * (double)k[at]);
                            most = fmax(most, fabs((double)v[at]));
                        }
                        t = fmax(t, (double)scale * sum / 256.0);
                    }
                    const double bound = (exp(2.0 * t) - 1.0 + 1.0 / 256.0) * most;
                    for (size_t d = 0; d < D; d++) {
                        const size_t at = (i * H + h) * D + d;
                        const double off = fabs((double)out[0][at] - (double)out[1][at]);
                        CHECK(off <= (round ? 0.0 : bound));
                        largest = fmax(largest, off / bound);
                    }
                }
        }
        CHECK(largest > 0.01); /* it was bf16 */
        close_both(m);
    }
}

TEST(llama_cache,
     "a model's logits move by little; chunks, all positions and tokens taken back are "
     "as with floats") {
    for (size_t windowed = 0; windowed < 2; windowed++) {
        llm_llama m[2];
        int ids[CONTEXT];
        static float all[2][CONTEXT * V], again[CONTEXT * V];
        llm_rng rng = llm_rng_seed(6);
        open_both(m, windowed == 1);
        for (size_t i = 0; i < CONTEXT; i++) ids[i] = (int)llm_rng_below(&rng, V);
        for (size_t c = 0; c < 2; c++) llm_llama_pass(&m[c], all[c], ids, CONTEXT, CONTEXT);
        double size = 0.0, off = 0.0;
        for (size_t i = 0; i < CONTEXT * V; i++) {
            size = fmax(size, fabs((double)all[0][i]));
            off = fmax(off, fabs((double)all[0][i] - (double)all[1][i]));
        }
        CHECK(size > 3.0 && off > 1e-4 && off < 0.06); /* 0.027 and 0.030, of 3.8 and 3.9 */
        /* taken back and read again, one at a time, from the middle of a chunk */
        m[1].length = 17;
        for (size_t i = 17; i < CONTEXT; i++) {
            llm_llama_forward(&m[1], ids + i, 1);
            memcpy(again + i * V, m[1].logits, V * sizeof(float));
        }
        CHECK_ALL_NEAR(again + 17 * V, all[1] + 17 * V, (CONTEXT - 17) * V, 2e-5f);
        close_both(m);
    }
}

TEST(llama_cache, "a context without memory for it is refused in both forms") {
    llm_llama m;
    tiny_llama tiny;
    llm_error e;
    tiny_llama_make(&tiny, "llama", 4);
    CHECK(llm_llama_file_open(
        &m.file, tiny_llama_directory(&tiny, config_of(false), LLM_SAFETENSORS_F32), &e));
    for (int k = 0; k < 2; k++) {
        CHECK_FAILS(llm_llama_create_as(&m, SIZE_MAX / 8, 1, (llm_llama_cache_kind)k, &e), e,
                    "no memory for a key-value cache");
        /* the tokens' bytes, 144 or 80 each, just fit, and the rest does not */
        CHECK_FAILS(
            llm_llama_create_as(&m, SIZE_MAX / (k ? 80 : 144), 1, (llm_llama_cache_kind)k, &e), e,
            "no memory for a key-value cache");
    }
    llm_llama_file_close(&m.file);
}
