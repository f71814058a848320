/* @svd_randomized */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

/* a (m,n) = U S V' with random orthonormal U, V and the singular values s (k), k = min(m,n). */
static float *randomized_matrix(const float *s, size_t m, size_t n, llm_rng *rng,
                                llm_arena *arena) {
    const size_t k = m < n ? m : n;
    float *u = floats(m * k), *v = floats(n * k), *a = floats(m * n);
    llm_rng_normal_fill(rng, u, m * k);
    llm_rng_normal_fill(rng, v, n * k);
    llm_qr_orthonormalize(u, m, k, arena);
    llm_qr_orthonormalize(v, n, k, arena);
    llm_svd_lowrank(a, u, s, v, m, n, k, k);
    return a;
}
static double randomized_error(const float *a, const float *u, const float *s, const float *v,
                               size_t m, size_t n, size_t k) {
    float *low = floats(m * n);
    double sum = 0.0;
    llm_svd_lowrank(low, u, s, v, m, n, k, k);
    for (size_t i = 0; i < m * n; i++)
        sum += ((double)a[i] - (double)low[i]) * ((double)a[i] - (double)low[i]);
    return sqrt(sum);
}

TEST(svd_randomized, "geometric decay: within 1.1 of the best error; slow decay needs powers") {
    const size_t shapes[3][2] = {{60, 40}, {40, 60}, {50, 50}};
    llm_arena arena = test_arena(1 << 22);
    for (size_t c = 0; c < 3; c++) {
        const size_t m = shapes[c][0], n = shapes[c][1], least = m < n ? m : n, k = 8;
        for (uint64_t seed = 1; seed <= 5; seed++) {
            llm_rng rng = llm_rng_seed(seed);
            float s[50], u[60 * 8], got[8], v[60 * 8];
            double error[2][2], best[2] = {0.0, 0.0};
            for (int slow = 0; slow < 2; slow++) {
                for (size_t i = 0; i < least; i++)
                    s[i] = slow ? 1.0f / sqrtf((float)i + 1.0f) : powf(0.7f, (float)i);
                for (size_t i = k; i < least; i++) best[slow] += (double)s[i] * (double)s[i];
                best[slow] = sqrt(best[slow]);
                const float *a = randomized_matrix(s, m, n, &rng, &arena);
                for (size_t q = 0; q < 2; q++) {
                    llm_svd_randomized(u, got, v, a, m, n, k, slow ? 4 : 10, 2 * q, &rng, &arena);
                    error[slow][q] = randomized_error(a, u, got, v, m, n, k);
                    CHECK(arena.used == 0);
                    for (size_t i = 0; i < k; i++) /* never more than the true ones */
                        CHECK(got[i] <= s[i] * 1.00001f && (i == 0 || got[i] <= got[i - 1]));
                    if (!slow && q == 1)
                        for (size_t i = 0; i < 4; i++) CHECK_NEAR(got[i], s[i], 1e-5);
                }
            }
            /* 8 other seeds: 1.001 to 1.012, 1.000; slow 1.16 to 1.25, with powers 1.003 to
             * 1.012 */
            CHECK(error[0][0] < 1.03 * best[0] && error[0][1] < 1.001 * best[0]);
            CHECK(error[1][0] > 1.07 * best[1] && error[1][1] < 1.03 * best[1]);
        }
    }
}

TEST(svd_randomized, "equals the full decomposition where the rank is at most k, signs as well") {
    llm_rng rng = llm_rng_seed(1);
    llm_arena arena = test_arena(1 << 22);
    const float s[7] = {9.0f, 5.0f, 2.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    const size_t shapes[3][2] = {{11, 7}, {7, 11}, {7, 7}};
    for (size_t c = 0; c < 3; c++) {
        const size_t m = shapes[c][0], n = shapes[c][1];
        const float *a = randomized_matrix(s, m, n, &rng, &arena);
        float u[33], got[3], v[33], u_all[77], s_all[7], v_all[77];
        llm_svd(u_all, s_all, v_all, a, m, n, &arena);
        for (size_t over = 0; over <= 4; over += 2) {
            llm_svd_randomized(u, got, v, a, m, n, 3, over, over / 2, &rng, &arena);
            CHECK_ALL_NEAR(got, s_all, 3, 1e-5f);
            for (size_t p = 0; p < 3; p++) {
                for (size_t i = 0; i < m; i++) CHECK_NEAR(u[i * 3 + p], u_all[i * 7 + p], 2e-6);
                for (size_t i = 0; i < n; i++) CHECK_NEAR(v[i * 3 + p], v_all[i * 7 + p], 2e-6);
            }
        }
        CHECK_ASSERTS(llm_svd_randomized(u, got, v, a, m, n, 3, 5, 0, &rng, &arena));
    }
    float one[1] = {-2.0f}, u[1], value[1], v[1];
    llm_svd_randomized(u, value, v, one, 1, 1, 1, 0, 0, &rng, &arena);
    CHECK_NEAR(value[0], 2.0, 1e-6);
    CHECK(u[0] > 0.0f && v[0] < 0.0f);
    const float apart[2] = {1.0f, -1.0f};
    float both[2];
    llm_svd_randomized(both, value, v, apart, 2, 1, 1, 0, 0, &rng, &arena);
    CHECK(both[0] > 0.0f && both[1] < 0.0f); /* of equal entries the first is positive */
    float zero[12] = {0.0f}, uu[8], ss[2], vv[6];
    llm_svd_randomized(uu, ss, vv, zero, 4, 3, 2, 1, 1, &rng, &arena);
    CHECK(ss[0] == 0.0f && ss[1] == 0.0f);
    for (size_t i = 0; i < 8; i++) CHECK(uu[i] == uu[i]);
}

TEST(svd_randomized, "the power iteration finds the largest from below, at the stated rate") {
    llm_arena arena = test_arena(1 << 22);
    for (uint64_t seed = 1; seed <= 6; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        const size_t m = 5 + (size_t)seed, n = 9;
        float s[9], x[9];
        for (size_t i = 0; i < 9; i++) s[i] = 3.0f * powf(0.8f, (float)i);
        const float *a = randomized_matrix(s, m, n, &rng, &arena);
        double before = 3.0;
        for (size_t rounds = 0; rounds <= 24; rounds += 8) {
            llm_rng start = llm_rng_seed(100 + seed);
            const float got = llm_svd_power(x, a, m, n, rounds, &start, &arena);
            CHECK(got <= 3.0f * 1.000001f && arena.used == 0);
            const double off = 3.0 - (double)got;
            CHECK(off <= before + 1e-6);
            if (rounds == 24) CHECK_NEAR(off, 0.0, 1e-5); /* 0.8^96 = 5e-10, and float */
            before = off;
        }
        float u[11 * 9], all[9], v[81];
        llm_svd(u, all, v, a, m, n, &arena);
        double along = 0.0;
        for (size_t i = 0; i < n; i++) along += (double)x[i] * (double)v[i * (m < n ? m : n)];
        CHECK_NEAR(fabs(along), 1.0, 1e-4);
    }
    llm_rng rng = llm_rng_seed(1);
    const float zero[6] = {0.0f}, big[4] = {3e38f, 0.0f, 0.0f, 1.0f};
    float x[3];
    CHECK(llm_svd_power(x, zero, 2, 3, 5, &rng, &arena) == 0.0f);
    CHECK_NEAR(llm_svd_power(x, big, 2, 2, 30, &rng, &arena) / 3e38f, 1.0, 1e-6);
    const float two[1] = {2.0f};
    for (int start = 0; start < 5; start++) /* however long the start is */
        CHECK(llm_svd_power(x, two, 1, 1, 0, &rng, &arena) == 2.0f);
    CHECK(llm_svd_power(x, zero, 2, 0, 3, &rng, &arena) == 0.0f);
    CHECK(llm_svd_power(x, zero, 0, 2, 3, &rng, &arena) == 0.0f);
}
