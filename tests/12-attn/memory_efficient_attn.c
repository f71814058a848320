/* @memory_efficient_attn */
#include "../test.h"

#include "../../llm.h"

static size_t chunks_tile(const llm_memory_efficient_attn_config *c) {
    return (c->queries < c->M ? c->queries : c->M) * (c->chunk < c->Mk ? c->chunk : c->Mk);
}

/* forward and backward on exactly the scratch that their comments ask for. */
static void chunks_forward(float *out, float *lse, const float *q, const float *k, const float *v,
                           const llm_memory_efficient_attn_config *c) {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, (c->B * c->H * chunks_tile(c) + 15) / 16 * 64));
    llm_memory_efficient_attn_forward(out, lse, q, k, v, c, &arena);
    CHECK(arena.used == 0 && arena.peak == arena.size);
    llm_arena_destroy(&arena);
}
static void chunks_backward(float *dq, float *dk, float *dv, float *dbias, const float *dout,
                            const float *out, const float *lse, const float *q, const float *k,
                            const float *v, const llm_memory_efficient_attn_config *c) {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, (2 * chunks_tile(c) + 15) / 16 * 64));
    llm_memory_efficient_attn_backward(dq, dk, dv, dbias, dout, out, lse, q, k, v, c, &arena);
    CHECK(arena.used == 0 && arena.peak == arena.size);
    llm_arena_destroy(&arena);
}

typedef struct {
    const char *name;
    size_t B, M, Mk, H, K, bias_B, bias_H;
    llm_memory_efficient_attn_mask mask;
} chunks_case;

TEST(memory_efficient_attn,
     "every mask and bias equals torch, gradients too, whatever the chunks") {
    static const size_t start_q[] = {0, 2, 2, 5}, start_k[] = {0, 3, 4, 6};
    const chunks_case cases[] = {
        {"all", 2, 3, 5, 2, 3, 0, 0, LLM_MEMORY_EFFICIENT_ATTN_ALL},
        {"bias", 2, 4, 3, 2, 2, 2, 2, LLM_MEMORY_EFFICIENT_ATTN_ALL},
        {"bias-all", 2, 4, 3, 2, 2, 1, 1, LLM_MEMORY_EFFICIENT_ATTN_LOWER},
        {"bias-heads", 2, 2, 4, 3, 2, 1, 3, LLM_MEMORY_EFFICIENT_ATTN_ALL},
        {"lower", 1, 4, 6, 2, 3, 0, 0, LLM_MEMORY_EFFICIENT_ATTN_LOWER},
        {"right", 1, 4, 6, 2, 3, 0, 0, LLM_MEMORY_EFFICIENT_ATTN_LOWER_RIGHT},
        {"blocks", 1, 5, 6, 2, 3, 0, 0, LLM_MEMORY_EFFICIENT_ATTN_BLOCKS},
        {"blocks-causal", 1, 5, 6, 2, 3, 0, 0, LLM_MEMORY_EFFICIENT_ATTN_BLOCKS_CAUSAL}};
    for (size_t n = 0; n < 8; n++) {
        const chunks_case *z = &cases[n];
        const size_t nq = z->B * z->M * z->H * z->K, nk = z->B * z->Mk * z->H * z->K;
        const size_t rows = z->B * z->M * z->H, nb = z->bias_B * z->bias_H * z->M * z->Mk;
        llm_memory_efficient_attn_config c =
            llm_memory_efficient_attn_defaults(z->B, z->M, z->Mk, z->H, z->K);
        CHECK(c.chunk == (z->Mk > 4 ? 3u : 2u) && c.queries == 64); /* the root, rounded up */
        c.mask = z->mask, c.start_q = start_q, c.start_k = start_k, c.blocks = 3;
        if (nb > 0) c.bias = golden("%s/bias", z->name), c.bias_B = z->bias_B, c.bias_H = z->bias_H;
        const float *q = golden("%s/q", z->name), *k = golden("%s/k", z->name);
        const float *v = golden("%s/v", z->name), *dout = golden("%s/dout", z->name);
        float *out = floats(nq), *lse = floats(rows);
        for (size_t size = 0; size < 4 * (z->Mk + 3); size++) {
            float *dq = zeros(nq), *dk = zeros(nk), *dv = zeros(nk), *dbias = zeros(nb);
            c.chunk = size / 4 + 1, c.queries = size % 4 + 1;
            for (size_t i = 0; i < nq; i++) out[i] = NAN;
            chunks_forward(out, lse, q, k, v, &c);
            CHECK_GOLDEN(out, nq, 1e-6f, "%s/out", z->name);
            CHECK_GOLDEN(lse, rows, 1e-6f, "%s/lse", z->name);
            chunks_backward(dq, dk, dv, nb > 0 ? dbias : NULL, dout, out, lse, q, k, v, &c);
            CHECK_GOLDEN(dq, nq, 2e-6f, "%s/dq", z->name);
            CHECK_GOLDEN(dk, nk, 2e-6f, "%s/dk", z->name);
            CHECK_GOLDEN(dv, nk, 2e-6f, "%s/dv", z->name);
            if (nb > 0) CHECK_GOLDEN(dbias, nb, 2e-6f, "%s/dbias", z->name);
        }
    }
}

/* Leaves what is no zero where the next call has its variables. */
static void chunks_litter(void) {
    volatile unsigned char litter[4096];
    for (size_t i = 0; i < sizeof litter; i++) litter[i] = 0xa5;
}

TEST(memory_efficient_attn, "what the defaults do not name is off") {
    void (*volatile litter)(void) = chunks_litter;
    litter();
    const llm_memory_efficient_attn_config c = llm_memory_efficient_attn_defaults(2, 3, 4, 5, 16);
    CHECK(c.B == 2 && c.M == 3 && c.Mk == 4 && c.H == 5 && c.K == 16 && c.scale == 0.25f);
    CHECK(c.queries == 64 && c.chunk == 2 && c.bias_B == 1 && c.bias_H == 1);
    CHECK(c.mask == LLM_MEMORY_EFFICIENT_ATTN_ALL && !c.start_q && !c.start_k && !c.bias);
    CHECK(c.blocks == 0 && c.dropout == 0.0f && c.seed == 0 && c.offset == 0);
}

TEST(memory_efficient_attn, "texts of any lengths: the range of each query is the rule") {
    static const size_t start_q[] = {0, 3, 5, 7, 7, 8}, start_k[] = {0, 1, 4, 4, 6, 9};
    llm_memory_efficient_attn_config c = llm_memory_efficient_attn_defaults(1, 8, 9, 1, 1);
    CHECK(c.blocks == 0 && c.seed == 0 && c.offset == 0);
    c.start_q = start_q, c.start_k = start_k, c.blocks = 5;
    for (int causal = 0; causal < 2; causal++) {
        c.mask =
            causal ? LLM_MEMORY_EFFICIENT_ATTN_BLOCKS_CAUSAL : LLM_MEMORY_EFFICIENT_ATTN_BLOCKS;
        for (size_t n = 0; n < 5; n++)
            for (size_t i = start_q[n]; i < start_q[n + 1]; i++) {
                size_t first, end, step, R;
                R = llm_memory_efficient_attn_range(&first, &end, &step, i, &c);
                CHECK(R > 0 && R <= start_q[n + 1] - i);
                for (size_t r = 0; r < R; r++)
                    for (size_t j = 0; j < 9; j++) {
                        const bool own = j >= start_k[n] && j < start_k[n + 1];
                        const bool past = own && j - start_k[n] <= i + r - start_q[n];
                        CHECK((j >= first && j < end + r * step) == (causal ? past : own));
                    }
            }
    }
    static const size_t falling[] = {0, 3, 2, 4, 6, 9};
    size_t first, end, step;
    c.start_k = falling;
    CHECK_ASSERTS(llm_memory_efficient_attn_range(&first, &end, &step, 3, &c));
    c.start_k = start_k, c.Mk = 8; /* the last text has keys beyond the end, then queries */
    CHECK_ASSERTS(llm_memory_efficient_attn_range(&first, &end, &step, 7, &c));
    c.Mk = 9, c.M = 7;
    CHECK_ASSERTS(llm_memory_efficient_attn_range(&first, &end, &step, 7, &c));
}

TEST(memory_efficient_attn,
     "dropout is that of the weights: the layer equals itself on kept pairs") {
    enum { B = 2, M = 5, H = 2, K = 3, CHUNK = 2 };
    llm_memory_efficient_attn_config c = llm_memory_efficient_attn_defaults(B, M, M, H, K);
    float q[B * M * H * K], k[B * M * H * K], v[B * M * H * K], dout[B * M * H * K];
    float out[B * M * H * K], lse[B * M * H], dq[B * M * H * K] = {0}, dk[B * M * H * K] = {0};
    float dv[B * M * H * K] = {0};
    double want[B * M * H * K] = {0}, want_dq[B * M * H * K] = {0}, want_dk[B * M * H * K] = {0};
    double want_dv[B * M * H * K] = {0};
    llm_rng rng = llm_rng_seed(4);
    float *const all[4] = {q, k, v, dout};
    for (size_t i = 0; i < 4; i++) llm_rng_normal_fill(&rng, all[i], B * M * H * K);
    c.chunk = CHUNK, c.dropout = 0.4f, c.seed = 9, c.offset = 1000;
    c.mask = LLM_MEMORY_EFFICIENT_ATTN_LOWER;
    chunks_forward(out, lse, q, k, v, &c);
    chunks_backward(dq, dk, dv, NULL, dout, out, lse, q, k, v, &c);
    for (size_t b = 0; b < B; b++)
        for (size_t h = 0; h < H; h++)
            for (size_t i = 0; i < M; i++) { /* the definition: softmax, then dropout, then v */
                double p[M], drop[M], dp[M], total = 0.0, along = 0.0;
                const size_t at = ((b * M + i) * H + h) * K;
                for (size_t j = 0; j <= i; j++) {
                    const size_t key = ((b * M + j) * H + h) * K;
                    total += p[j] = exp((double)c.scale * dot(q + at, k + key, K));
                    drop[j] =
                        (double)llm_dropout_scale(0.4f, 9, 1000 + ((b * H + h) * M + i) * M + j);
                }
                for (size_t j = 0; j <= i; j++) {
                    const size_t key = ((b * M + j) * H + h) * K;
                    p[j] /= total;
                    dp[j] = drop[j] * dot(dout + at, v + key, K);
                    along += p[j] * dp[j];
                    for (size_t d = 0; d < K; d++) {
                        want[at + d] += drop[j] * p[j] * (double)v[key + d];
                        want_dv[key + d] += drop[j] * p[j] * (double)dout[at + d];
                    }
                }
                for (size_t j = 0; j <= i; j++) {
                    const size_t key = ((b * M + j) * H + h) * K;
                    const double ds = (double)c.scale * p[j] * (dp[j] - along);
                    for (size_t d = 0; d < K; d++) {
                        want_dq[at + d] += ds * (double)k[key + d];
                        want_dk[key + d] += ds * (double)q[at + d];
                    }
                }
            }
    for (size_t i = 0; i < B * M * H * K; i++) {
        CHECK_NEAR(out[i], want[i], 2e-6);
        CHECK_NEAR(dq[i], want_dq[i], 5e-6);
        CHECK_NEAR(dk[i], want_dk[i], 5e-6);
        CHECK_NEAR(dv[i], want_dv[i], 5e-6);
    }
}

TEST(memory_efficient_attn, "queries are taken together as far as they see alike, 64 at most") {
    const struct {
        llm_memory_efficient_attn_mask mask;
        size_t M, Mk, i, first, end, step, R;
    } want[] = {
        {LLM_MEMORY_EFFICIENT_ATTN_ALL, 100, 7, 0, 0, 7, 0, 64},
        {LLM_MEMORY_EFFICIENT_ATTN_ALL, 100, 7, 64, 0, 7, 0, 36},
        {LLM_MEMORY_EFFICIENT_ATTN_LOWER, 9, 5, 0, 0, 1, 1, 5}, /* 1 .. 5, then 5 for ever */
        {LLM_MEMORY_EFFICIENT_ATTN_LOWER, 9, 5, 3, 0, 4, 1, 2},
        {LLM_MEMORY_EFFICIENT_ATTN_LOWER, 9, 5, 4, 0, 5, 0, 5},
        {LLM_MEMORY_EFFICIENT_ATTN_LOWER, 3, 9, 1, 0, 2, 1, 2},
        {LLM_MEMORY_EFFICIENT_ATTN_LOWER_RIGHT, 9, 5, 3, 0, 0, 0, 1}, /* blind */
        {LLM_MEMORY_EFFICIENT_ATTN_LOWER_RIGHT, 9, 5, 4, 0, 1, 1, 5},
        {LLM_MEMORY_EFFICIENT_ATTN_LOWER_RIGHT, 3, 5, 0, 0, 3, 1, 3}};
    for (size_t n = 0; n < sizeof want / sizeof *want; n++) {
        llm_memory_efficient_attn_config c =
            llm_memory_efficient_attn_defaults(1, want[n].M, want[n].Mk, 1, 1);
        c.mask = want[n].mask;
        size_t first, end, step;
        CHECK(llm_memory_efficient_attn_range(&first, &end, &step, want[n].i, &c) == want[n].R);
        CHECK(first == want[n].first && end == want[n].end && step == want[n].step);
        c.queries = 1;
        CHECK(llm_memory_efficient_attn_range(&first, &end, &step, want[n].i, &c) == 1);
    }
}

TEST(memory_efficient_attn, "what a query does not see may be NaN: the future, another text") {
    enum { M = 70, K = 3 };
    static const size_t start[] = {0, 30, M};
    llm_memory_efficient_attn_config c = llm_memory_efficient_attn_defaults(1, M, M, 1, K);
    float *x = floats(M * K), *bad = floats(M * K), out[M * K], lse[M];
    float want[M * K], want_lse[M], *dq = zeros(M * K), *dk = zeros(M * K), *dv = zeros(M * K);
    llm_rng rng = llm_rng_seed(3);
    llm_rng_normal_fill(&rng, x, M * K);
    for (size_t i = 0; i < M * K; i++) bad[i] = i < 30 * K ? x[i] : NAN;
    c.start_q = c.start_k = start, c.blocks = 2;
    for (int mask = 0; mask < 3; mask++) {
        c.mask = mask == 0   ? LLM_MEMORY_EFFICIENT_ATTN_LOWER
                 : mask == 1 ? LLM_MEMORY_EFFICIENT_ATTN_BLOCKS
                             : LLM_MEMORY_EFFICIENT_ATTN_BLOCKS_CAUSAL;
        chunks_forward(want, want_lse, x, x, x, &c);
        chunks_forward(out, lse, x, bad, bad, &c);
        CHECK_ALL_NEAR(out, want, 30 * K, 0);
        CHECK_ALL_NEAR(lse, want_lse, 30, 0);
        CHECK(out[30 * K] != out[30 * K] && lse[30] != lse[30]);
        chunks_backward(dq, dk, dv, NULL, x, out, lse, x, bad, bad, &c);
        for (size_t i = 0; i < 30 * K; i++) CHECK(isfinite(dq[i]));
    }
}

TEST(memory_efficient_attn, "memory is that of a chunk and does not grow with the square") {
    for (size_t T = 100; T <= 6400; T *= 64) {
        const llm_memory_efficient_attn_config c =
            llm_memory_efficient_attn_defaults(1, 200, T, 1, 2);
        float *x = zeros(T * 2 + 400), out[400], lse[200];
        llm_arena arena;
        CHECK(llm_arena_create(&arena, 1 << 16));
        llm_memory_efficient_attn_forward(out, lse, x, x, x, &c, &arena);
        CHECK(c.chunk == (T == 100 ? 10 : 80));
        CHECK(arena.peak == 64 * c.chunk * 4);
        CHECK_NEAR(lse[0], log((double)T), 1e-5); /* equal scores */
        llm_arena_destroy(&arena);
    }
}

TEST(memory_efficient_attn,
     "nothing to see: 0, -inf and no gradient; a bias of -inf hides as well") {
    enum { M = 3, MK = 2, K = 1 };
    const float q[M] = {1, 2, 3}, k[MK] = {1, 2}, v[MK] = {5, 7}, dout[M] = {1, 1, 1};
    const float bias[M * MK] = {-INFINITY, -INFINITY, 0, -INFINITY, -INFINITY, 0};
    float out[M], lse[M], dq[M] = {0}, dk[MK] = {0}, dv[MK] = {0}, dbias[M * MK] = {0};
    llm_memory_efficient_attn_config c = llm_memory_efficient_attn_defaults(1, M, MK, 1, K);
    c.mask = LLM_MEMORY_EFFICIENT_ATTN_LOWER_RIGHT; /* query 0 stands before all keys */
    chunks_forward(out, lse, q, k, v, &c);
    CHECK(out[0] == 0 && lse[0] == -INFINITY && out[1] == 5);
    chunks_backward(dq, dk, dv, NULL, dout, out, lse, q, k, v, &c);
    CHECK(dq[0] == 0 && isfinite(dq[2]));

    c.mask = LLM_MEMORY_EFFICIENT_ATTN_ALL, c.bias = bias, c.chunk = 1;
    for (size_t i = 0; i < MK; i++) dv[i] = 0;
    chunks_forward(out, lse, q, k, v, &c);
    CHECK(out[0] == 0 && lse[0] == -INFINITY && out[1] == 5 && out[2] == 7);
    chunks_backward(dq, dk, dv, dbias, dout, out, lse, q, k, v, &c);
    CHECK(dv[0] == 1 && dv[1] == 1); /* each is all that one query sees */
    for (size_t i = 0; i < M * MK; i++) CHECK(dbias[i] == 0);

    llm_memory_efficient_attn_config none = llm_memory_efficient_attn_defaults(1, M, 0, 1, K);
    CHECK(none.chunk == 1);
    chunks_forward(out, lse, q, k, v, &none);
    CHECK(out[2] == 0 && lse[2] == -INFINITY);
    for (size_t i = 0; i < M; i++) dq[i] = 0;
    chunks_backward(dq, dk, dv, NULL, dout, out, lse, q, k, v, &none);
    CHECK(dq[2] == 0);
}

TEST(memory_efficient_attn,
     "refuses a bias that does not broadcast, a chunk of 0, a query of no text") {
    float x[16] = {0}, out[16], lse[16];
    const size_t start[] = {0, 1}, bad[5][4] = {{1, 2, 1, 1}, /* bias_B, bias_H, queries, chunk */
                                                {3, 3, 1, 1},
                                                {0, 1, 1, 1},
                                                {1, 1, 0, 1},
                                                {1, 1, 1, 0}};
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1024));
    for (size_t n = 0; n < 5; n++) {
        llm_memory_efficient_attn_config c = llm_memory_efficient_attn_defaults(2, 2, 2, 3, 1);
        c.bias = x, c.bias_B = bad[n][0], c.bias_H = bad[n][1];
        c.queries = bad[n][2], c.chunk = bad[n][3];
        CHECK_ASSERTS(llm_memory_efficient_attn_forward(out, lse, x, x, x, &c, &arena));
        CHECK_ASSERTS(
            llm_memory_efficient_attn_backward(out, out, out, NULL, x, x, x, x, x, x, &c, &arena));
    }

    llm_memory_efficient_attn_config b = llm_memory_efficient_attn_defaults(1, 2, 2, 1, 1);
    b.mask = LLM_MEMORY_EFFICIENT_ATTN_BLOCKS, b.start_q = b.start_k = start, b.blocks = 1;
    CHECK_ASSERTS(llm_memory_efficient_attn_forward(out, lse, x, x, x, &b, &arena));
    llm_arena_destroy(&arena);
}
