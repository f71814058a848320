/* @csa_compress */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

typedef struct {
    size_t B, T, D, m, windows, n; /* n: numbers of x */
    const float *gate, *bias, *weight;
    float *x;
    llm_csa_compress_config c;
    char name[64];
} compress_case;

static compress_case golden_case(size_t s) {
    const size_t shapes[][7] = {
        {1, 5, 1, 4, 4, 1, 2}, {2, 7, 2, 6, 2, 2, 3}, {1, 14, 3, 4, 3, 3, 5}};
    const size_t *z = shapes[s];
    compress_case a;
    snprintf(a.name, sizeof a.name, "%zux%zux%zux%zux%zux%zux%zu", z[0], z[1], z[2], z[3], z[4],
             z[5], z[6]);
    a.B = z[0], a.T = z[1], a.D = z[3], a.m = z[4];
    a.windows = a.T / a.m;
    a.n = a.B * a.T * 2 * a.D;
    a.x = golden("%s/x", a.name);
    a.gate = golden("%s/gate", a.name);
    a.bias = golden("%s/bias", a.name);
    a.weight = golden("%s/weight", a.name);
    const llm_csa_compress_config c = {
        a.B, a.T, a.D, a.m, 2, 1e-6f, golden("%s/cos", a.name), golden("%s/sin", a.name)};
    a.c = c;
    return a;
}
static size_t rounded(size_t n) { return (n + 15) / 16 * 64; }

TEST(csa_compress, "equals transformers' DeepseekV4CSACompressor, gradients its autograd") {
    for (size_t s = 0; s < 3; s++) {
        compress_case a = golden_case(s);
        const size_t rows = a.B * a.windows, D = a.D;
        float *entry = floats(rows * D), *pooled = floats(rows * D), *rstd = floats(rows);
        llm_arena arena = test_arena(rounded(2 * a.m));
        llm_csa_compress_forward(entry, pooled, rstd, a.x, a.gate, a.bias, a.weight, &a.c, &arena);
        CHECK(arena.used == 0);
        CHECK_GOLDEN(entry, rows * D, 2e-6f, "%s/entry", a.name);
        float *dx = zeros(a.n), *dgate = zeros(a.n), *dbias = zeros(a.m * 2 * D), *dw = zeros(D);
        arena = test_arena(2 * rounded(D) + rounded(2 * a.m));
        llm_csa_compress_backward(dx, dgate, dbias, dw, golden("%s/dentry", a.name), pooled, rstd,
                                  a.x, a.gate, a.bias, a.weight, &a.c, &arena);
        CHECK(arena.used == 0);
        CHECK_GOLDEN(dx, a.n, 4e-6f, "%s/dx", a.name);
        CHECK_GOLDEN(dgate, a.n, 4e-6f, "%s/dgate", a.name);
        CHECK_GOLDEN(dbias, a.m * 2 * D, 4e-6f, "%s/dbias", a.name);
        CHECK_GOLDEN(dw, D, 4e-6f, "%s/dweight", a.name);
        llm_csa_compress_backward(dx, dgate, dbias, dw, golden("%s/dentry", a.name), pooled, rstd,
                                  a.x, a.gate, a.bias, a.weight, &a.c, &arena);
        for (size_t i = 0; i < a.n; i++) { /* all four accumulate */
            CHECK_NEAR(dx[i], 2 * golden("%s/dx", a.name)[i], 3e-5);
            CHECK_NEAR(dgate[i], 2 * golden("%s/dgate", a.name)[i], 3e-5);
        }
        for (size_t i = 0; i < 2 * a.m * D; i++)
            CHECK_NEAR(dbias[i], 2 * golden("%s/dbias", a.name)[i], 3e-5);
        for (size_t i = 0; i < D; i++) CHECK_NEAR(dw[i], 2 * golden("%s/dweight", a.name)[i], 3e-5);
    }
}

TEST(csa_compress,
     "an entry reads its window and the one before, nothing else, and can come late") {
    compress_case a = golden_case(2);
    enum { D = 4, M = 3, W = 4 };
    float want[W * D], pooled[W * D], rstd[W];
    llm_arena arena = test_arena(1024);
    llm_csa_compress_forward(want, pooled, rstd, a.x, a.gate, a.bias, a.weight, &a.c, &arena);
    for (size_t w = 0; w < W; w++) {
        float *x = floats(a.n), *gate = floats(a.n), entry[W * D];
        for (size_t t = w > 0 ? (w - 1) * M : 0; t < (w + 1) * M; t++) {
            const size_t from = t < w * M ? 0 : D; /* series a of the window before, b of its own */
            memcpy(x + t * 2 * D + from, a.x + t * 2 * D + from, D * sizeof(float));
            memcpy(gate + t * 2 * D + from, a.gate + t * 2 * D + from, D * sizeof(float));
        }
        llm_csa_compress_forward(entry, pooled, rstd, x, gate, a.bias, a.weight, &a.c, &arena);
        for (size_t i = 0; i < D; i++) CHECK(entry[w * D + i] == want[w * D + i]);
        if (w == 0) continue;
        const float r = llm_csa_compress_entry(entry, pooled, x + (w - 1) * M * 2 * D,
                                               gate + (w - 1) * M * 2 * D, a.bias, a.weight,
                                               a.c.cosine + w, a.c.sine + w, 1, &a.c, &arena);
        for (size_t i = 0; i < D; i++) CHECK(entry[i] == want[w * D + i]);
        CHECK(r == rstd[w]);
    }
}

TEST(csa_compress,
     "equal scores are a mean, a large one picks its token, and turning has an inverse") {
    enum { D = 2, M = 2, T = 4 };
    float x[T * 2 * D], gate[T * 2 * D] = {0}, bias[M * 2 * D] = {0}, p[2 * M];
    for (size_t i = 0; i < T * 2 * D; i++) x[i] = (float)(i / (2 * D) * 10 + i % (2 * D));
    /* window 1, channel 1: series a (column 1) of tokens 0, 1 and b (column 3) of tokens 2, 3 */
    CHECK_NEAR(llm_csa_compress_pool(p, x, gate, bias, 1, 1, M, D), (1 + 11 + 23 + 33) / 4.0, 1e-5);
    CHECK_NEAR(llm_csa_compress_pool(p, x, gate, bias, 0, 1, M, D), (3 + 13) / 2.0, 1e-5);
    gate[1 * 2 * D + 1] = 1e4f;
    CHECK(llm_csa_compress_pool(p, x, gate, bias, 1, 1, M, D) == 11.0f);
    CHECK_NEAR(llm_csa_compress_pool(p, x, gate, bias, 0, 1, M, D), 8, 1e-5); /* not in window 0 */
    gate[1 * 2 * D + 1] = 0;
    bias[1 * 2 * D + 3] = 1e4f; /* place 1 of the own window */
    CHECK(llm_csa_compress_pool(p, x, gate, bias, 1, 1, M, D) == 33.0f);

    const float v[5] = {7, 1, 2, 3, 4}, cosine[2] = {0.6f, 0}, sine[2] = {0.8f, 1};
    float y[5];
    llm_csa_compress_turn(y, v, cosine, sine, 5, 4, false);
    const float want[5] = {7, 0.6f - 1.6f, 0.8f + 1.2f, -4, 3};
    CHECK_ALL_NEAR(y, want, 5, 1e-6f);
    llm_csa_compress_turn(y, y, cosine, sine, 5, 4, true);
    CHECK_ALL_NEAR(y, v, 5, 1e-6f);
    CHECK_ASSERTS(llm_csa_compress_turn(y, y, cosine, sine, 5, 3, true));
    CHECK_ASSERTS(llm_csa_compress_turn(y, y, cosine, sine, 5, 6, true));
    llm_arena arena = test_arena(1024);
    const llm_csa_compress_config bad = {1, 4, 2, 0, 0, 0, cosine, sine};
    CHECK_ASSERTS(llm_csa_compress_forward(y, y, y, x, gate, bias, v, &bad, &arena));
}

static double loss(const float *x, const float *gate, const float *bias, const float *weight,
                   const float *dentry, const llm_csa_compress_config *c) {
    const size_t rows = c->B * (c->T / c->m);
    float *entry = floats(rows * c->D), *pooled = floats(rows * c->D), *rstd = floats(rows);
    llm_arena arena = test_arena(rounded(2 * c->m));
    llm_csa_compress_forward(entry, pooled, rstd, x, gate, bias, weight, c, &arena);
    return dot(entry, dentry, rows * c->D);
}

TEST(csa_compress, "all dimensions turned, two pairs: finite differences; windows of one token") {
    enum { T = 16, D = 4, M = 8, N = T * 2 * D };
    float x[N], gate[N], bias[M * 2 * D], weight[D], dentry[2 * D], entry[2 * D], pooled[2 * D];
    float rstd[2], dx[N] = {0}, dgate[N] = {0}, dbias[M * 2 * D] = {0}, dweight[D] = {0};
    float inv_freq[2] = {0.1f, 0.03f}, cosine[4], sine[4];
    const int position[2] = {0, M};
    llm_rng rng = llm_rng_seed(5);
    llm_rng_normal_fill(&rng, x, N);
    llm_rng_normal_fill(&rng, gate, N);
    llm_rng_normal_fill(&rng, bias, M * 2 * D);
    llm_rng_normal_fill(&rng, weight, D);
    llm_rng_normal_fill(&rng, dentry, 2 * D);
    llm_rope_table(cosine, sine, position, inv_freq, 2, D);
    llm_csa_compress_config c = {1, T, D, M, D, 1e-6f, cosine, sine};
    llm_arena arena = test_arena(2 * rounded(D) + rounded(2 * M));
    llm_csa_compress_forward(entry, pooled, rstd, x, gate, bias, weight, &c, &arena);
    float late[D], mean[D];
    llm_csa_compress_entry(late, mean, x, gate, bias, weight, cosine + 2, sine + 2, 1, &c, &arena);
    for (size_t d = 0; d < D; d++) CHECK(entry[D + d] == late[d] && pooled[D + d] == mean[d]);
    llm_csa_compress_backward(dx, dgate, dbias, dweight, dentry, pooled, rstd, x, gate, bias,
                              weight, &c, &arena);
    CHECK_GRAD(dx, x, N, 1e-2f, 2e-3f, loss(x, gate, bias, weight, dentry, &c));
    CHECK_GRAD(dgate, gate, N, 1e-2f, 2e-3f, loss(x, gate, bias, weight, dentry, &c));
    CHECK_GRAD(dbias, bias, M * 2 * D, 1e-2f, 2e-3f, loss(x, gate, bias, weight, dentry, &c));
    CHECK_GRAD(dweight, weight, D, 1e-2f, 2e-3f, loss(x, gate, bias, weight, dentry, &c));

    float *plain = floats(3), *copy = floats(3); /* nothing is turned */
    for (size_t d = 0; d < 3; d++) plain[d] = (float)d;
    llm_csa_compress_turn(copy, plain, cosine, sine, 3, 0, false);
    CHECK_ALL_NEAR(copy, plain, 3, 0);
    c.T = 2, c.D = 1, c.m = 1, c.rot = 0;
    const float one[4] = {1, 2, 3, 4}, none[4] = {0, 0, 0, 0}, unit = 1;
    llm_csa_compress_forward(entry, pooled, rstd, one, none, none, &unit, &c, &arena);
    CHECK(pooled[0] == 2 && pooled[1] == 2.5f); /* b of its own token, a of the one before */
}
