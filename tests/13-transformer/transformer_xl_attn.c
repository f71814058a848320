/* @transformer_xl_attn */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

enum { C = 6, H = 3 };
typedef llm_transformer_xl_attn_weights weights;

static weights golden_weights(const char *name) {
    weights w;
    w.q = golden("%sq", name), w.kv = golden("%skv", name), w.r = golden("%sr", name);
    w.out = golden("%sout", name), w.u = golden("%su", name), w.v = golden("%sv", name);
    return w;
}
static weights gradients(float value) { /* in one vector of 5 C C + 2 C */
    float *p = zeros(5 * C * C + 2 * C);
    for (size_t i = 0; i < 5 * C * C + 2 * C; i++) p[i] = value;
    weights w;
    w.q = p, w.kv = p + C * C, w.r = p + 3 * C * C, w.out = p + 4 * C * C, w.u = p + 5 * C * C;
    w.v = w.u + C;
    return w;
}
static llm_transformer_xl_attn_config shape(size_t B, size_t T, size_t M) {
    const llm_transformer_xl_attn_config c = {B, T, M, C, H};
    return c;
}
static const float *sinusoids(size_t S) {
    float *waves = floats(S * C);
    llm_sinusoidal_table(waves, NULL, S, C, 0, LLM_SINUSOIDAL_HALVES);
    return waves;
}

TEST(transformer_xl_attn,
     "outputs and gradients equal those of transformers' XLNet, with a memory, "
     "without one, for one token") {
    const char *const name[3] = {"memory", "none", "one"};
    const size_t sizes[3][3] = {{2, 3, 4}, {1, 5, 0}, {3, 1, 2}};
    const weights w = golden_weights("w/");
    llm_arena a = test_arena(1 << 16);
    for (size_t k = 0; k < 3; k++) {
        const size_t B = sizes[k][0], T = sizes[k][1], M = sizes[k][2];
        const llm_transformer_xl_attn_config c = shape(B, T, M);
        const float *waves = sinusoids(M + T);
        CHECK_GOLDEN(waves, (M + T) * C, 1e-6f, "%s/waves", name[k]);
        const llm_transformer_xl_attn_saved s = llm_transformer_xl_attn_take(waves, &c, &a);
        const size_t S = M + T, N = B * T;
        const size_t stays = arena_room(B * S * C) + 2 * arena_room(N * C) +
                             arena_room(2 * B * S * C) + arena_room(S * C) + arena_room(H * N * S);
        CHECK(a.used == stays);
        float *y = floats(B * T * C), *dx = zeros(B * T * C);
        const float *x = golden("%s/x", name[k]), *dy = golden("%s/dy", name[k]);
        const float *memory = M ? golden("%s/memory", name[k]) : NULL;
        llm_transformer_xl_attn_forward(y, &s, x, memory, &w, &c);
        CHECK_GOLDEN(y, B * T * C, 3e-6f, "%s/y", name[k]);
        for (size_t row = 0; row < B * H * T; row++)
            for (size_t j = M + row % T + 1; j < M + T; j++)
                CHECK(s.att[row * (M + T) + j] == 0.0f);
        const weights dw = gradients(0.0f), more = gradients(1.0f);
        a.peak = 0;
        llm_transformer_xl_attn_backward(dx, &dw, dy, &s, &w, &c, &a);
        CHECK(a.used == stays &&
              a.peak == stays + arena_room(2 * N * C + 2 * B * S * C + S * C) + arena_room(S));
        CHECK_GOLDEN(dx, B * T * C, 1e-5f, "%s/dx", name[k]);
        CHECK_GOLDEN(dw.q, C * C, 1e-5f, "%s/dq", name[k]);
        CHECK_GOLDEN(dw.kv, 2 * C * C, 1e-5f, "%s/dkv", name[k]);
        CHECK_GOLDEN(dw.r, C * C, 1e-5f, "%s/dr", name[k]);
        CHECK_GOLDEN(dw.out, C * C, 1e-5f, "%s/dout", name[k]);
        CHECK_GOLDEN(dw.u, C, 1e-5f, "%s/du", name[k]);
        CHECK_GOLDEN(dw.v, C, 1e-5f, "%s/dv", name[k]);

        float *twice = zeros(B * T * C); /* gradients are added to */
        for (size_t i = 0; i < B * T * C; i++) twice[i] = 1.0f;
        llm_transformer_xl_attn_backward(twice, &more, dy, &s, &w, &c, &a);
        for (size_t i = 0; i < B * T * C; i++) twice[i] -= 1.0f;
        for (size_t i = 0; i < 5 * C * C + 2 * C; i++) more.q[i] -= 1.0f;
        CHECK_ALL_NEAR(twice, dx, B * T * C, 1e-5f);
        CHECK_ALL_NEAR(more.q, dw.q, 5 * C * C + 2 * C, 2e-5f);
        a.used = 0;
    }
}

TEST(transformer_xl_attn, "segments with the last one as memory are one long text") {
    enum { T = 4, PARTS = 3 };
    const weights w = golden_weights("w/");
    llm_arena a = test_arena(1 << 16);
    llm_rng rng = llm_rng_seed(3);
    float *x = floats(PARTS * T * C), *whole = floats(PARTS * T * C), *part = floats(T * C);
    llm_rng_normal_fill(&rng, x, PARTS * T * C);
    llm_transformer_xl_attn_config c = shape(1, PARTS * T, 0);
    llm_transformer_xl_attn_saved s = llm_transformer_xl_attn_take(sinusoids(PARTS * T), &c, &a);
    llm_transformer_xl_attn_forward(whole, &s, x, NULL, &w, &c);
    for (size_t k = 0; k < PARTS; k++) {
        c = shape(1, T, k * T); /* everything before it is its memory */
        s = llm_transformer_xl_attn_take(sinusoids((k + 1) * T), &c, &a);
        llm_transformer_xl_attn_forward(part, &s, x + k * T * C, x, &w, &c);
        CHECK_ALL_NEAR(part, whole + k * T * C, T * C, 2e-5f);
    }
    c = shape(1, T, 1); /* a memory of one place */
    s = llm_transformer_xl_attn_take(sinusoids(T + 1), &c, &a);
    llm_transformer_xl_attn_forward(part, &s, x + C, x, &w, &c);
    CHECK_ALL_NEAR(part, whole + C, T * C, 2e-5f);
    /* a shorter memory is another text; every row of it is read by every place */
    c = shape(1, T, T);
    s = llm_transformer_xl_attn_take(sinusoids(2 * T), &c, &a);
    llm_transformer_xl_attn_forward(part, &s, x + 2 * T * C, x + T * C, &w, &c);
    float worst = 0.0f;
    for (size_t i = 0; i < T * C; i++) worst = fmaxf(worst, fabsf(part[i] - whole[2 * T * C + i]));
    CHECK(worst > 0.01f);
    for (size_t j = 0; j < T; j++) {
        float *changed = floats(T * C), *memory = x + T * C;
        memory[j * C] += 1.0f;
        llm_transformer_xl_attn_forward(changed, &s, x + 2 * T * C, memory, &w, &c);
        memory[j * C] -= 1.0f;
        for (size_t t = 0; t < T; t++)
            CHECK(memcmp(changed + t * C, part + t * C, C * sizeof(float)) != 0);
    }
    c = shape(1, 1, 0), c.H = 1; /* one token, one head: its value */
    s = llm_transformer_xl_attn_take(sinusoids(1), &c, &a);
    llm_transformer_xl_attn_forward(part, &s, x, NULL, &w, &c);
    for (size_t i = 0; i < C; i++) {
        double sum = 0.0;
        for (size_t j = 0; j < C; j++)
            sum += (double)w.out[i * C + j] * dot(w.kv + (C + j) * C, x, C);
        CHECK_NEAR(part[i], sum, 1e-5);
    }
    c.H = 4;
    CHECK_ASSERTS(llm_transformer_xl_attn_forward(part, &s, x, x, &w, &c));
    c.H = 0;
    CHECK_ASSERTS(llm_transformer_xl_attn_forward(part, &s, x, x, &w, &c));
}

TEST(transformer_xl_attn, "scores are content and distance: by brute force, and by the shift of a "
                          "matrix of distances") {
    enum { T = 5, M = 3, S = M + T, D = C / H };
    const weights w = golden_weights("w/");
    const llm_transformer_xl_attn_config c = shape(1, T, M);
    llm_arena a = test_arena(1 << 16);
    llm_rng rng = llm_rng_seed(8);
    float *x = floats(T * C), *memory = floats(M * C), *y = floats(T * C);
    llm_rng_normal_fill(&rng, x, T * C);
    llm_rng_normal_fill(&rng, memory, M * C);
    const llm_transformer_xl_attn_saved s = llm_transformer_xl_attn_take(sinusoids(S), &c, &a);
    llm_transformer_xl_attn_forward(y, &s, x, memory, &w, &c);
    for (size_t h = 0; h < H; h++) {
        /* (T,S): (q + v) r for distances S-1 .. 0 in the columns; a column of zeros in front, and
         * the array read in rows that are one longer, without the first T numbers (the paper, B) */
        double padded[T * (S + 1)] = {0};
        for (size_t i = 0; i < T; i++)
            for (size_t n = 0; n < S; n++)
                for (size_t d = h * D; d < (h + 1) * D; d++)
                    padded[i * (S + 1) + 1 + n] += ((double)s.q[i * C + d] + (double)w.v[d]) *
                                                   (double)s.r[(S - 1 - n) * C + d];
        for (size_t i = 0; i < T; i++) {
            double e[S], sum = 0.0;
            for (size_t j = 0; j <= M + i; j++) {
                double score = padded[T + i * S + j];
                for (size_t d = h * D; d < (h + 1) * D; d++)
                    score +=
                        ((double)s.q[i * C + d] + (double)w.u[d]) * (double)s.kv[j * 2 * C + d];
                e[j] = exp(score / sqrt(2.0));
                sum += e[j];
            }
            for (size_t j = 0; j <= M + i; j++)
                CHECK_NEAR(s.att[(h * T + i) * S + j], e[j] / sum, 1e-5);
        }
    }
}
