/* @csa */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

/* Scratch exactly as the comment has it. */
static void forward(float *out, float *lse, const float *q, const float *rows, const float *entries,
                    const int *index, const float *sink, const llm_csa_config *c) {
    llm_arena arena = test_arena((c->B * c->H * (c->W + c->k) + 15) / 16 * 64);
    llm_csa_forward(out, lse, q, rows, entries, index, sink, c, &arena);
    CHECK(arena.used == 0);
}

TEST(csa, "equals the attention of transformers' DeepseekV4Attention, gradients its autograd") {
    const size_t shapes[][7] = {
        {1, 5, 1, 4, 4, 1, 2}, {2, 7, 2, 6, 2, 2, 3}, {1, 14, 3, 4, 3, 3, 5}};
    for (size_t s = 0; s < 3; s++) {
        const size_t *z = shapes[s], B = z[0], T = z[1], H = z[2], D = z[3], S = T / z[4];
        const size_t k = z[5] < S ? z[5] : S, n = B * T * H * D;
        const llm_csa_config c = llm_csa_defaults(B, H, T, S, D, k, z[6]);
        char name[64];
        snprintf(name, sizeof name, "%zux%zux%zux%zux%zux%zux%zu", B, T, H, D, z[4], z[5], z[6]);
        const float *q = golden("%s/q", name), *rows = golden("%s/rows", name);
        const float *entries = golden("%s/entries", name), *dout = golden("%s/dout", name);
        const float *sink = golden("%s/sink", name);
        const int *index = as_ints(golden("%s/index", name), B * T * k);
        float *out = floats(n), *lse = floats(B * T * H), *y = floats(n);
        forward(out, lse, q, rows, entries, index, sink, &c);
        CHECK_GOLDEN(out, n, 1e-6f, "%s/out", name);
        for (size_t r = 0; r < B * T * H; r++) /* the whole layer: its values turned back */
            llm_csa_compress_turn(y + r * D, out + r * D, golden("%s/cos", name) + r / H % T,
                                  golden("%s/sin", name) + r / H % T, D, 2, true);
        CHECK_GOLDEN(y, n, 2e-6f, "%s/merged", name);
        float *dq = zeros(n), *drows = zeros(B * T * D), *dentries = zeros(B * S * D);
        float *dsink = zeros(H);
        for (size_t twice = 1; twice <= 2; twice++) { /* they accumulate */
            llm_csa_backward(dq, drows, dentries, dsink, dout, out, lse, q, rows, entries, index,
                             sink, &c);
            const float *want_q = golden("%s/dq", name), *want_rows = golden("%s/drows", name);
            const float *want_entries = golden("%s/dentries", name);
            for (size_t i = 0; i < n; i++) CHECK_NEAR(dq[i], (float)twice * want_q[i], 2e-5);
            for (size_t i = 0; i < B * T * D; i++)
                CHECK_NEAR(drows[i], (float)twice * want_rows[i], 4e-5);
            for (size_t i = 0; i < B * S * D; i++)
                CHECK_NEAR(dentries[i], (float)twice * want_entries[i], 4e-5);
            for (size_t h = 0; h < H; h++)
                CHECK_NEAR(dsink[h], (float)twice * golden("%s/dsink", name)[h], 4e-5);
        }
    }
}

TEST(csa, "all entries chosen is dense attention; no entries is a window; without a sink too") {
    enum { B = 2, H = 2, T = 9, S = 3, D = 4, W = 3 };
    float q[B * T * H * D], rows[B * T * D], entries[B * S * D], out[B * T * H * D], lse[B * T * H];
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, q, B * T * H * D);
    llm_rng_normal_fill(&rng, rows, B * T * D);
    llm_rng_normal_fill(&rng, entries, B * S * D);
    for (size_t k = 0; k <= S; k += S) {
        const llm_csa_config c = llm_csa_defaults(B, H, T, S, D, k, W);
        int index[B * T * S + 1];
        for (size_t i = 0; i < B * T * k; i++) /* entry s is finished with token 3 s + 2 */
            index[i] = i % S < (i / S % T + 1) / 3 ? (int)(i % S) : -1;
        forward(out, lse, q, rows, entries, index, NULL, &c);
        for (size_t r = 0; r < B * T * H; r++) {
            const size_t t = r / H % T, b = r / H / T;
            double sum = 0.0, want[D] = {0};
            for (size_t j = 0; j < T + S; j++) {
                const bool near = j <= t && j + W > t;
                const bool far = k > 0 && j >= T && (j - T) < (t + 1) / 3;
                const float *v = j < T ? rows + (b * T + j) * D : entries + (b * S + j - T) * D;
                if (!(j < T ? near : far)) continue;
                const double p = exp(dot(q + r * D, v, D) / 2.0);
                sum += p;
                for (size_t d = 0; d < D; d++) want[d] += p * (double)v[d];
            }
            for (size_t d = 0; d < D; d++) CHECK_NEAR(out[r * D + d], want[d] / sum, 2e-6);
            CHECK_NEAR(lse[r], log(sum), 2e-6);
        }
    }
}

static double loss(const float *q, const float *rows, const float *entries, const int *index,
                   const float *sink, const float *dout, const llm_csa_config *c) {
    const size_t n = c->B * c->T * c->H * c->D;
    float *out = floats(n), *lse = floats(n / c->D);
    forward(out, lse, q, rows, entries, index, sink, c);
    return dot(out, dout, n);
}

TEST(csa, "gradients without a sink by finite differences; what is not chosen is not read") {
    enum { H = 2, T = 5, S = 3, D = 3, W = 2, K = 2 };
    float q[T * H * D], rows[T * D], entries[S * D], dout[T * H * D], out[T * H * D], lse[T * H];
    float dq[T * H * D] = {0}, drows[T * D] = {0}, dentries[S * D] = {0};
    const int index[T * K] = {-1, 7, -1, 7, 0, -1, 0, -1, 2, 0}; /* behind -1: anything */
    const llm_csa_config c = llm_csa_defaults(1, H, T, S, D, K, W);
    llm_rng rng = llm_rng_seed(2);
    llm_rng_normal_fill(&rng, q, T * H * D);
    llm_rng_normal_fill(&rng, rows, T * D);
    llm_rng_normal_fill(&rng, entries, S * D);
    llm_rng_normal_fill(&rng, dout, T * H * D);
    for (size_t d = 0; d < D; d++) entries[D + d] = NAN; /* entry 1 */
    forward(out, lse, q, rows, entries, index, NULL, &c);
    llm_csa_backward(dq, drows, dentries, NULL, dout, out, lse, q, rows, entries, index, NULL, &c);
    CHECK_GRAD(dq, q, T * H * D, 1e-2f, 2e-3f, loss(q, rows, entries, index, NULL, dout, &c));
    CHECK_GRAD(drows, rows, T * D, 1e-2f, 2e-3f, loss(q, rows, entries, index, NULL, dout, &c));
    for (size_t s = 0; s < S; s += 2)
        CHECK_GRAD(dentries + s * D, entries + s * D, D, 1e-2f, 2e-3f,
                   loss(q, rows, entries, index, NULL, dout, &c));
    for (size_t d = 0; d < D; d++) CHECK(dentries[D + d] == 0.0f);
    llm_csa_config bad = c;
    bad.W = 0;
    llm_arena arena = test_arena(1024);
    CHECK_ASSERTS(llm_csa_forward(out, lse, q, rows, entries, index, NULL, &bad, &arena));
    CHECK_ASSERTS(llm_csa_backward(dq, drows, dentries, NULL, dout, out, lse, q, rows, entries,
                                   index, NULL, &bad));
}

/* ---- the three sections together ---- */

enum { NT = 64, NM = 4, ND = 45, LABELS = 16, NS = NT / NM, WINDOW = 8 };

/* A text of 64 tokens, each a random code of length sqrt(ND - 16) and one of 16 labels. The last
 * query has the code of one token in front of the window, and asks for its label: the indexer finds
 * the entry by the code, attention reads the label. Whether it is right. */
static bool needle(uint64_t seed, size_t k) {
    enum { CODE = ND - LABELS };
    static float x[NT * 2 * ND], gate[NT * 2 * ND], bias[NM * 2 * ND], entry[NS * ND];
    static float pooled[NS * ND], rstd[NS], weight[ND], rows[NT * ND];
    int label[NT], index[NS];
    float score[NS], one = 1.0f, *q = floats(ND);
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena = test_arena(1 << 16);
    for (size_t t = 0; t < NT; t++) {
        float row[ND] = {0};
        label[t] = (int)llm_rng_below(&rng, LABELS);
        llm_rng_normal_fill(&rng, row, CODE);
        row[CODE + (size_t)label[t]] = 1.0f;
        memcpy(rows + t * ND, row, sizeof row);
        memcpy(x + t * 2 * ND, row, sizeof row);
        memcpy(x + t * 2 * ND + ND, row, sizeof row);
    }
    const size_t want = llm_rng_below(&rng, NT - WINDOW);
    for (size_t i = 0; i < NT * 2 * ND; i++) gate[i] = i / (2 * ND) == want ? 2.0f : 0.0f;
    for (size_t i = 0; i < ND; i++) weight[i] = 1.0f, q[i] = i < CODE ? rows[want * ND + i] : 0.0f;
    const llm_csa_compress_config pool = {1, NT, ND, NM, 0, 1e-6f, weight, weight};
    llm_csa_compress_forward(entry, pooled, rstd, x, gate, bias, weight, &pool, &arena);
    llm_csa_index_config find = llm_csa_index_defaults(1, 1, NS, 1, ND, k);
    find.first = NT - 1;
    llm_csa_index_forward(score, q, entry, &one, &find);
    llm_csa_index_select(index, score, &find, &arena);
    /* one query: its window is the last WINDOW rows, given as the row's text */
    llm_csa_config read = llm_csa_defaults(1, 1, NT, NS, ND, k, WINDOW);
    int *lists = (int *)test_memory(NT * NS, sizeof(int));
    float *queries = zeros(NT * ND), *outs = floats(NT * ND), *lses = floats(NT);
    for (size_t i = 0; i < NT * k; i++) lists[i] = i < (NT - 1) * k ? -1 : index[i % k];
    memcpy(queries + (NT - 1) * ND, q, ND * sizeof(float));
    forward(outs, lses, queries, rows, entry, lists, NULL, &read);
    const float *out = outs + (NT - 1) * ND;
    size_t best = 0;
    for (size_t l = 1; l < LABELS; l++)
        if (out[CODE + l] > out[CODE + best]) best = l;
    return (int)best == label[want];
}

/* Of 200 texts, and of each of 8 further 200, all are right with two entries, and 8 to 19 without,
 * where one in 16 is chance: 12.5, with a standard error of 3.4. */
TEST(csa, "a window of one token and nothing chosen gives that token, and it the whole gradient") {
    enum { T = 3, D = 2 };
    const llm_csa_config c = llm_csa_defaults(1, 1, T, 0, D, 0, 1);
    const float q[T * D] = {1, 2, 3, 4, 5, 6}, rows[T * D] = {2, 0, -1, 1, 4, 8};
    const float dout[T * D] = {1, -1, 2, 0, 3, 5};
    float out[T * D], lse[T], *dq = zeros(T * D), *drows = zeros(T * D);
    forward(out, lse, q, rows, NULL, NULL, NULL, &c);
    llm_csa_backward(dq, drows, NULL, NULL, dout, out, lse, q, rows, NULL, NULL, NULL, &c);
    CHECK_ALL_NEAR(out, rows, T * D, 0.0f);
    CHECK_ALL_NEAR(drows, dout, T * D, 1e-5f);
    for (size_t i = 0; i < T * D; i++) CHECK_NEAR(dq[i], 0.0, 1e-5);
}

TEST(csa, "a needle in front of the window is found through an entry, by the window alone not") {
    size_t found = 0, guessed = 0;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        found += needle(seed, 2);
        guessed += needle(seed, 0);
    }
    CHECK(found >= 190);
    CHECK(guessed <= 26);
}
