/* @attn_head_circuit */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

TEST(attn_head_circuit, "is softmax(x W_QK x) x W_OV, with gradients by differences") {
    enum { T = 4, C = 3 };
    llm_rng rng = llm_rng_seed(1);
    llm_arena arena = test_arena(1 << 16);
    float x[T * C], wqk[C * C], wov[C * C], dy[T * C], y[T * C], att[T * T];
    float *dx = floats(T * C), *dqk = floats(C * C), *dov = floats(C * C);
    llm_rng_normal_fill(&rng, x, T * C);
    llm_rng_normal_fill(&rng, wqk, C * C);
    llm_rng_normal_fill(&rng, wov, C * C);
    llm_rng_normal_fill(&rng, dy, T * C);
    for (size_t i = 0; i < T * C; i++) y[i] = 7.0f;
    llm_attn_head_circuit_forward(y, att, x, wqk, wov, T, C, &arena);
    for (size_t i = 0; i < T; i++) {
        double p[T], sum = 0.0;
        for (size_t j = 0; j <= i; j++) {
            double s = 0.0;
            for (size_t n = 0; n < C * C; n++)
                s += (double)x[i * C + n / C] * (double)wqk[n] * (double)x[j * C + n % C];
            sum += p[j] = exp(s);
        }
        for (size_t j = 0; j < T; j++) CHECK_NEAR(att[i * T + j], j <= i ? p[j] / sum : 0.0, 1e-6);
        for (size_t c = 0; c < C; c++) {
            double want = 7.0; /* added to the stream */
            for (size_t j = 0; j <= i; j++) want += p[j] / sum * dot(wov + c * C, x + j * C, C);
            CHECK_NEAR(y[i * C + c], want, 5e-6);
        }
    }
    for (size_t i = 0; i < T * C; i++) dx[i] = 1.0f;
    for (size_t i = 0; i < C * C; i++) dqk[i] = dov[i] = 1.0f;
    llm_arena fresh = test_arena(1 << 16); /* forward's products are not there */
    llm_attn_head_circuit_backward(dx, dqk, dov, dy, att, x, wqk, wov, T, C, &fresh);
    for (size_t i = 0; i < T * C; i++) dx[i] -= 1.0f;
    for (size_t i = 0; i < C * C; i++) dqk[i] -= 1.0f, dov[i] -= 1.0f;
    float zero[T * C], now[T * C];
    memset(zero, 0, sizeof zero);
#define LOSS                                                                                       \
    (memcpy(now, zero, sizeof now),                                                                \
     llm_attn_head_circuit_forward(now, att, x, wqk, wov, T, C, &arena), dot(now, dy, T * C))
    CHECK_GRAD(dx, x, T * C, 1e-2f, 2e-3f, LOSS);
    CHECK_GRAD(dqk, wqk, C * C, 1e-2f, 2e-3f, LOSS);
    CHECK_GRAD(dov, wov, C * C, 1e-2f, 2e-3f, LOSS);
    llm_attn_head_circuit_backward(NULL, NULL, NULL, dy, att, x, wqk, wov, T, C, &arena);
    CHECK(arena.used == 0);
}

TEST(attn_head_circuit, "built heads look where they should, with 0.999 of their weight") {
    enum { V = 5, T = 9, C = 3 * V + T };
    const int ids[T] = {4, 0, 3, 0, 1, 3, 2, 4, 0};
    llm_arena arena = test_arena(1 << 16);
    CHECK(llm_attn_head_circuit_width(V, T) == C);
    float *x = floats(T * C), *wqk = floats(C * C), *wov = floats(C * C), att[T * T];
    llm_attn_head_circuit_embed(x, ids, V, T);
    for (size_t t = 0; t < T; t++)
        for (size_t c = 0; c < C; c++)
            CHECK(x[t * C + c] == (c == (size_t)ids[t] || c == V + t ? 1.0f : 0.0f));
    for (int kind = 0; kind < 4; kind++) {
        float *y = zeros(T * C);
        llm_attn_head_circuit_build(wqk, wov, (llm_attn_head_circuit_kind)kind, 12.0f, V, T);
        size_t set[2] = {0, 0};
        for (size_t i = 0; i < C * C; i++) set[0] += wqk[i] != 0.0f, set[1] += wov[i] != 0.0f;
        CHECK(set[0] == (kind < 2 ? T : V) && set[1] == V);
        for (size_t t = 0; t < T && kind < 2; t++) /* place to place, of the first one too */
            CHECK(wqk[(V + t) * C + V + (kind == 0 && t > 0 ? t - 1 : 0)] == 12.0f);
        if (kind == LLM_ATTN_HEAD_CIRCUIT_INDUCTION) /* what a previous-token head would write */
            for (size_t t = 0; t < T; t++) x[t * C + V + T + (size_t)ids[t ? t - 1 : 0]] = 1.0f;
        llm_attn_head_circuit_forward(y, att, x, wqk, wov, T, C, &arena);
        for (size_t t = 0; t < T; t++) {
            double there = 0.0, wrote = 0.0, elsewhere = 0.0;
            bool any = false;
            for (size_t j = 0; j <= t; j++) {
                const int told = ids[j ? j - 1 : 0];
                const bool is = kind == 0   ? j == (t ? t - 1 : 0)
                                : kind == 1 ? j == 0
                                : kind == 2 ? ids[j] == ids[t]
                                            : told == ids[t];
                if (is) there += (double)att[t * T + j], any = true;
            }
            if (any) CHECK(there > 0.999);
            const size_t first = kind < 2 ? V + T : 2 * V + T;
            for (size_t c = 0; c < C; c++)
                *(c >= first && c < first + V ? &wrote : &elsewhere) += (double)y[t * C + c];
            CHECK_NEAR(wrote, 1.0, 1e-5);
            CHECK(elsewhere == 0.0);
            const size_t copied = first + (size_t)ids[kind == 0   ? (t ? t - 1 : 0)
                                                      : kind == 1 ? 0
                                                                  : t];
            if (kind < 3) CHECK(y[t * C + copied] > 0.999f);
        }
    }
    const int high[1] = {5}, low[1] = {-1};
    CHECK_ASSERTS(llm_attn_head_circuit_embed(x, high, 5, 1));
    CHECK_ASSERTS(llm_attn_head_circuit_embed(x, low, 5, 1));
}

TEST(attn_head_circuit, "the pair continues every repeated text, and is at chance on others") {
    enum { V = 24, HALF = 12, T = 1 + 2 * HALF };
    llm_arena arena = test_arena(1 << 18);
    llm_rng rng = llm_rng_seed(4);
    size_t right[2] = {0, 0}, asked[2] = {0, 0};
    for (size_t text = 0; text < 12; text++) {
        int ids[T], next[T], perm[V - 1];
        for (int v = 1; v < V; v++) perm[v - 1] = v;
        for (size_t i = V - 2; i > 0; i--) {
            const size_t j = llm_rng_below(&rng, i + 1);
            const int kept = perm[i];
            perm[i] = perm[j], perm[j] = kept;
        }
        ids[0] = 0; /* a first token that never comes back */
        for (size_t t = 0; t < 2 * HALF; t++) ids[1 + t] = perm[t % HALF];
        llm_attn_head_circuit_induction(next, ids, 15.0f, V, T, &arena);
        for (size_t t = 1 + HALF; t + 1 < T; t++) right[0] += next[t] == ids[t + 1], asked[0]++;
        for (size_t t = 1; t < HALF; t++) right[1] += next[t] == ids[t + 1], asked[1]++;
        CHECK(arena.used == 0);
    }
    CHECK(right[0] == asked[0] && asked[0] == 12 * (HALF - 1));
    CHECK((double)right[1] / (double)asked[1] < 0.1); /* a token that has not stood yet: never */
}

TEST(attn_head_circuit,
     "a first token follows itself; of two equal answers the smaller id is given") {
    enum { V = 4, T = 2 };
    for (int first = 0; first < V; first++)
        for (int second = 0; second < V; second++) { /* scores of 0: both are as likely */
            llm_arena arena = test_arena(1 << 14);
            const int ids[T] = {first, second};
            int next[T] = {-1, -1};
            llm_attn_head_circuit_induction(next, ids, 0.0f, V, T, &arena);
            CHECK(next[0] == first);
            CHECK(next[1] == (second < first ? second : first));
        }
}

TEST(attn_head_circuit, "the scratch is as told") {
    enum { V = 16, T = 16, C = 3 * V + T };
    float *x = zeros(T * C), *w = zeros(C * C), *y = zeros(T * C), att[T * T];
    int ids[T] = {0}, next[T];
    llm_arena forward = test_arena(2 * T * C * sizeof(float));
    llm_arena backward = test_arena((4 * T * C + T) * sizeof(float));
    llm_arena both = test_arena((4 * T * C + 2 * C * C + T * T) * sizeof(float));
    forward.peak = backward.peak = both.peak = 0;
    llm_attn_head_circuit_forward(y, att, x, w, w, T, C, &forward);
    CHECK(forward.used == 0 && forward.peak == forward.size);
    llm_attn_head_circuit_backward(y, NULL, NULL, x, att, x, w, w, T, C, &backward);
    CHECK(backward.used == 0 && backward.peak == backward.size);
    llm_attn_head_circuit_induction(next, ids, 1.0f, V, T, &both);
    CHECK(both.used == 0 && both.peak == both.size);
}
