/* @cosine_similarity */
#include "../test.h"

#include "../../llm.h"

static float *cosine_normal(llm_rng *rng, size_t n) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    return x;
}

TEST(cosine_similarity, "values, gradients and angles equal torch's and mpmath's, also below eps") {
    const size_t ns[6] = {1, 2, 7, 64, 5, 5};
    const float scale[6] = {1, 1, 1, 1, 1e-9f, 1e15f};
    for (size_t k = 0; k < 6; k++) {
        const size_t n = ns[k];
        const double s = (double)scale[k];
        const float *a = golden("%zus%g/a", n, s), *b = golden("%zus%g/b", n, s);
        const float c = llm_cosine_similarity_pair(a, b, n, 1e-8f);
        CHECK_GOLDEN(&c, 1, 1e-7f, "%zus%g/c", n, s); /* |a| is 2e-9 in the fifth: a.b / eps */
        float *da = floats(n), *db = floats(n);
        for (size_t i = 0; i < n; i++) da[i] = db[i] = 0.0f;
        llm_cosine_similarity_backward(da, NULL, 1.0f, a, b, n, 1e-8f);
        llm_cosine_similarity_backward(NULL, db, 0.5f, a, b, n, 1e-8f);
        llm_cosine_similarity_backward(NULL, db, 0.5f, a, b, n, 1e-8f); /* adds */
        float *swapped = zeros(n); /* a and b may change places */
        llm_cosine_similarity_backward(NULL, swapped, 1.0f, b, a, n, 1e-8f);
        for (size_t i = 0; i < n; i++) da[i] *= scale[k], swapped[i] *= scale[k];
        CHECK_GOLDEN(da, n, 3e-7f, "%zus%g/da", n, s);
        CHECK_GOLDEN(swapped, n, 3e-7f, "%zus%g/da", n, s);
        CHECK_GOLDEN(db, n, 3e-7f, "%zus%g/db", n, s);
        const float angle = llm_cosine_similarity_angle(a, b, n);
        CHECK_GOLDEN(&angle, 1, 1e-7f, "%zus%g/angle", n, s);
    }
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    float s[35];
    llm_cosine_similarity_matrix(s, golden("matrix/a"), golden("matrix/b"), 5, 7, 9, 1e-8f, &arena);
    CHECK_GOLDEN(s, 35, 5e-7f, "matrix/s");
    CHECK(arena.used == 0);
    llm_arena_destroy(&arena);
}

TEST(cosine_similarity, "gradients by differences") {
    enum { N = 6 };
    llm_rng rng = llm_rng_seed(1);
    float *a = cosine_normal(&rng, N), *b = cosine_normal(&rng, N), da[N] = {0}, db[N] = {0};
    llm_cosine_similarity_backward(da, db, 1.0f, a, b, N, 1e-8f);
    /* rounding of the result, 6e-8, over the step; the third derivative times the step squared */
    CHECK_GRAD(da, a, N, 1e-2f, 1e-4f, (double)llm_cosine_similarity_pair(a, b, N, 1e-8f));
    CHECK_GRAD(db, b, N, 1e-2f, 1e-4f, (double)llm_cosine_similarity_pair(a, b, N, 1e-8f));
}

TEST(cosine_similarity,
     "scale does not matter; within [-1, 1]; |u - v|^2 = 2 - 2 cos; zero gives 0") {
    llm_rng rng = llm_rng_seed(2);
    for (size_t round = 0; round < 500; round++) {
        const size_t n = 1 + round % 40;
        float *a = cosine_normal(&rng, n), *b = cosine_normal(&rng, n), u[40], v[40];
        const float c = llm_cosine_similarity_pair(a, b, n, 1e-8f),
                    by = ldexpf(1.0f, (int)(round % 80) - 20);
        CHECK(fabsf(c) <= 1.0f);
        CHECK(llm_cosine_similarity_pair(a, a, n, 1e-8f) <= 1.0f);
        CHECK_NEAR(llm_cosine_similarity_pair(a, a, n, 1e-8f), 1.0, 1e-7);
        llm_vector_norm_unit(u, NULL, a, 1, n, 1e-8f);
        llm_vector_norm_unit(v, NULL, b, 1, n, 1e-8f);
        double d = 0.0;
        for (size_t i = 0; i < n; i++)
            d += ((double)u[i] - (double)v[i]) * ((double)u[i] - (double)v[i]);
        CHECK_NEAR(d, 2.0 - 2.0 * (double)c, 1e-6);
        for (size_t i = 0; i < n; i++) a[i] *= by, b[i] *= -2.0f;
        CHECK_NEAR(llm_cosine_similarity_pair(a, b, n, 1e-12f), -c, 1e-7);
    }
    const float zero[2] = {0.0f, 0.0f}, one[2] = {3.0f, 4.0f}, nan[2] = {NAN, 1.0f};
    float da[2] = {0.0f, 0.0f};
    CHECK(llm_cosine_similarity_pair(zero, one, 2, 1e-8f) == 0.0f);
    CHECK(llm_cosine_similarity_pair(NULL, NULL, 0, 1e-8f) == 0.0f);
    CHECK(isnan(llm_cosine_similarity_pair(nan, one, 2, 1e-8f)));
    CHECK(isnan(llm_cosine_similarity_angle(zero, one, 2)));
    llm_cosine_similarity_backward(da, NULL, 1.0f, zero, one, 2, 1e-8f);
    CHECK_NEAR(da[0], 0.6e8, 10.0); /* finite, as in torch */
    CHECK_NEAR(da[1], 0.8e8, 10.0);
}

TEST(cosine_similarity, "1e-4 apart: atan2 keeps the angle, acos of a float loses it; a metric") {
    llm_rng rng = llm_rng_seed(3);
    for (int round = 0; round < 100; round++) {
        const double at = 6.28 * (double)llm_rng_uniform(&rng), apart = 1e-4;
        const float a[2] = {(float)cos(at), (float)sin(at)};
        const float b[2] = {(float)cos(at + apart), (float)sin(at + apart)},
                    minus[2] = {-b[0], -b[1]};
        const double cross = fabs((double)a[0] * (double)b[1] - (double)a[1] * (double)b[0]);
        CHECK_NEAR(cross, apart, 0.01 * apart); /* of the rounded vectors */
        CHECK_NEAR(3.14159265358979 * (double)llm_cosine_similarity_angle(a, b, 2), apart,
                   0.01 * apart);
        const double by_acos = acos((double)llm_cosine_similarity_pair(a, b, 2, 1e-8f));
        CHECK(fabs(by_acos - apart) > 0.5 * apart); /* 0, or the angle of the next float below 1 */
        CHECK_NEAR(llm_cosine_similarity_angle(a, minus, 2), 1.0 - apart / 3.14159265358979, 2e-7);
    }
    for (int round = 0; round < 10000; round++) {
        float x[3][4];
        llm_rng_normal_fill(&rng, x[0], 12);
        const float ab = llm_cosine_similarity_angle(x[0], x[1], 4);
        const float bc = llm_cosine_similarity_angle(x[1], x[2], 4);
        CHECK(llm_cosine_similarity_angle(x[0], x[2], 4) <= ab + bc + 1e-6f);
        CHECK(ab >= 0.0f && ab <= 1.0f);
    }
}

TEST(cosine_similarity, "the k best: equals sorting, ties to the first, NaN last, every k") {
    llm_rng rng = llm_rng_seed(4);
    for (size_t round = 0; round < 400; round++) {
        const size_t M = 1 + round % 37;
        float *s = cosine_normal(&rng, M), *key = floats(M);
        for (size_t i = 0; i < M && round % 2; i++) s[i] = (float)llm_rng_below(&rng, 4);
        for (size_t i = 0; i < M && round % 5 == 4; i += 3) s[i] = NAN;
        for (size_t i = 0; i < M; i++) key[i] = -s[i];
        size_t *want = as_sizes(zeros(M), M);
        llm_argsort(want, key, M);
        for (size_t k = 0; k <= M; k++) {
            size_t *top = as_sizes(zeros(k), k);
            for (size_t i = 0; i < k; i++) top[i] = 12345678;
            llm_cosine_similarity_topk(top, s, M, k);
            for (size_t i = 0; i < k; i++) CHECK(top[i] == want[i]);
        }
    }
    size_t top[2];
    const float s[1] = {1.0f};
    CHECK_ASSERTS(llm_cosine_similarity_topk(top, s, 1, 2));
}
