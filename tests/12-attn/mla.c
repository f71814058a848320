/* @mla */
#include "../test.h"

#include "../../llm.h"

enum { WEIGHTS = 7 };
static const char *const mla_names[WEIGHTS] = {"dq",      "q_norm", "uq", "dkv",
                                               "kv_norm", "ukv",    "out"};

/* The seven arrays of w, in the order of the names, and their sizes. */
static void mla_arrays(float **array[WEIGHTS], size_t size[WEIGHTS], llm_mla_weights *w,
                       const llm_mla_config *c) {
    float **const all[WEIGHTS] = {&w->dq,      &w->q_norm, &w->uq, &w->dkv,
                                  &w->kv_norm, &w->ukv,    &w->out};
    const size_t sizes[WEIGHTS] = {
        c->Rq * c->C,          c->Rq, c->H * (c->Dn + c->Dr) * (c->Rq ? c->Rq : c->C),
        (c->R + c->Dr) * c->C, c->R,  c->H * (c->Dn + c->Dv) * c->R,
        c->C * c->H * c->Dv};
    for (size_t i = 0; i < WEIGHTS; i++) array[i] = all[i], size[i] = sizes[i];
}

/* What an arena gives for n floats. */
static size_t mla_bytes(size_t n) { return (n * sizeof(float) + 63) / 64 * 64; }

static void mla_tables(float *cosine, float *sine, const llm_mla_config *c) {
    float inv_freq[8];
    llm_rope_inv_freq(inv_freq, c->Dr, 10000.0f);
    for (size_t b = 0; b < c->B; b++)
        llm_rope_table(cosine + b * c->T * c->Dr / 2, sine + b * c->T * c->Dr / 2, NULL, inv_freq,
                       c->T, c->Dr);
}

TEST(mla, "equals transformers' DeepseekV3Attention, with a latent for queries and without") {
    const size_t shapes[][9] = {{1, 3, 2, 1, 1, 1, 1, 2, 1},
                                {2, 5, 6, 2, 4, 3, 3, 2, 5},
                                {1, 7, 5, 3, 0, 4, 2, 4, 1}}; /* B T C H Rq R Dn Dr Dv */
    for (size_t n = 0; n < 3; n++) {
        const size_t *z = shapes[n], N = z[0] * z[1];
        llm_mla_config c = {z[0], z[1], z[2], z[3], z[4], z[5], z[6], z[7], z[8], 1e-6f, 0.0f};
        c.scale = 1.0f / sqrtf((float)(c.Dn + c.Dr));
        char name[64];
        snprintf(name, sizeof name, "%zux%zux%zux%zux%zux%zux%zux%zux%zu", z[0], z[1], z[2], z[3],
                 z[4], z[5], z[6], z[7], z[8]);
        llm_mla_weights w, dw;
        float **array[WEIGHTS], **grad[WEIGHTS];
        size_t size[WEIGHTS];
        memset(&w, 0, sizeof w);
        memset(&dw, 0, sizeof dw);
        mla_arrays(array, size, &w, &c);
        mla_arrays(grad, size, &dw, &c);
        for (size_t i = 0; i < WEIGHTS; i++) {
            if (size[i] == 0) continue;
            float *copy = zeros(size[i]);
            memcpy(copy, golden("%s/%s", name, mla_names[i]), size[i] * sizeof(float));
            *array[i] = copy;
            *grad[i] = zeros(size[i]);
        }
        float *cosine = floats(N * c.Dr / 2), *sine = floats(N * c.Dr / 2);
        mla_tables(cosine, sine, &c);
        const float *x = golden("%s/x", name), *dy = golden("%s/dy", name);
        float *y = floats(N * c.C), *dx = zeros(N * c.C);

        llm_arena kept, arena;
        CHECK(llm_arena_create(&kept, 1 << 16));
        llm_mla_saved s = llm_mla_take(&c, &kept);
        const size_t D = c.Dn + c.Dr, E = c.Dn + c.Dv, turn = N * c.H * c.Dr;
        const size_t queries = 2 * mla_bytes(turn);
        const size_t keys = mla_bytes(N * (c.R + c.Dr)) + 2 * mla_bytes(N * c.Dr);
        CHECK(llm_arena_create(&arena, queries > keys ? queries : keys));
        llm_mla_forward(y, &s, x, &w, cosine, sine, &c, &arena);
        CHECK(arena.used == 0 && arena.peak == arena.size);
        llm_arena_destroy(&arena);
        CHECK_GOLDEN(y, N * c.C, 3e-6f, "%s/y", name);

        const size_t most = N * (c.H * (2 * D + E + c.Dv) + 3 * c.R + 2 * c.Dr + 2 * c.Rq);
        const size_t scores = mla_bytes(c.B * c.H * c.T * c.T);
        CHECK(llm_arena_create(&arena, mla_bytes(most) + scores + queries));
        llm_mla_backward(dx, &dw, dy, &s, x, &w, cosine, sine, &c, &arena);
        CHECK(arena.used == 0 && arena.peak == arena.size);
        CHECK_GOLDEN(dx, N * c.C, 1e-5f, "%s/dx", name);
        for (size_t i = 0; i < WEIGHTS; i++)
            if (size[i] > 0) CHECK_GOLDEN(*grad[i], size[i], 1e-5f, "%s/d/%s", name, mla_names[i]);

        /* a second time: gradients accumulate */
        llm_mla_backward(dx, &dw, dy, &s, x, &w, cosine, sine, &c, &arena);
        llm_arena_destroy(&arena);
        llm_arena_destroy(&kept);
        const float *once = golden("%s/dx", name);
        for (size_t i = 0; i < N * c.C; i++)
            CHECK_NEAR(dx[i], 2.0f * once[i], 3e-5 * (1.0 + fabs((double)once[i])));
        for (size_t i = 0; i < WEIGHTS; i++) {
            const float *first = size[i] > 0 ? golden("%s/d/%s", name, mla_names[i]) : NULL;
            for (size_t k = 0; k < size[i]; k++)
                CHECK_NEAR((*grad[i])[k], 2.0f * first[k], 3e-5 * (1.0 + fabs((double)first[k])));
        }
    }
}

TEST(mla, "rotates the last numbers of each row, and back is the inverse and the transpose") {
    enum { N = 3, H = 2, W = 7, DR = 4 };
    float x[N * H * W], y[N * H * W], z[N * H * W], cosine[N * DR / 2], sine[N * DR / 2];
    float inv_freq[DR / 2];
    const int pos[N] = {1, 2, 3};
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, x, N * H * W);
    llm_rope_inv_freq(inv_freq, DR, 100.0f);
    llm_rope_table(cosine, sine, pos, inv_freq, N, DR);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 2 * mla_bytes(N * H * DR)));
    memcpy(y, x, sizeof x);
    llm_mla_rotate(y, cosine, sine, false, N, H, W, DR, &arena);
    CHECK(arena.used == 0 && arena.peak == arena.size);
    for (size_t i = 0; i < N * H * W; i++) {
        const size_t n = i / W / H, d = i % W;
        double want = (double)x[i];
        if (d >= W - DR) {
            const size_t pair = (d - (W - DR)) / 2, first = i - (d - (W - DR)) % 2;
            const double angle = (double)pos[n] * pow(100.0, -2.0 * (double)pair / DR);
            const double a = (double)x[first], b = (double)x[first + 1];
            want = i == first ? a * cos(angle) - b * sin(angle) : b * cos(angle) + a * sin(angle);
        }
        CHECK_NEAR(y[i], want, 1e-6);
    }
    memcpy(z, y, sizeof y);
    llm_mla_rotate(z, cosine, sine, true, N, H, W, DR, &arena);
    CHECK_ALL_NEAR(z, x, N * H * W, 1e-6f);
    llm_arena_destroy(&arena);
}

TEST(mla, "the future is not seen; scores of 1e4 do no harm") {
    llm_mla_config c = {1, 6, 4, 2, 3, 3, 2, 2, 2, 1e-6f, 0.5f};
    llm_mla_weights w;
    float **array[WEIGHTS];
    size_t size[WEIGHTS];
    llm_rng rng = llm_rng_seed(2);
    mla_arrays(array, size, &w, &c);
    for (size_t i = 0; i < WEIGHTS; i++) {
        *array[i] = floats(size[i]);
        llm_rng_normal_fill(&rng, *array[i], size[i]);
    }
    float x[24], y[24], y2[24], cosine[6], sine[6];
    llm_rng_normal_fill(&rng, x, 24);
    mla_tables(cosine, sine, &c);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 14));
    llm_mla_saved s = llm_mla_take(&c, &arena);
    llm_mla_forward(y, &s, x, &w, cosine, sine, &c, &arena);
    for (size_t t = 0; t < 6; t++) {
        float changed[24];
        for (size_t i = 0; i < 24; i++) changed[i] = i / 4 > t ? NAN : x[i];
        llm_mla_forward(y2, &s, changed, &w, cosine, sine, &c, &arena);
        CHECK(memcmp(y, y2, (t + 1) * 4 * sizeof(float)) == 0);
    }
    c.scale = 1e4f;
    llm_mla_forward(y, &s, x, &w, cosine, sine, &c, &arena);
    for (size_t i = 0; i < 24; i++) CHECK(isfinite(y[i]));
    llm_arena_destroy(&arena);
}
