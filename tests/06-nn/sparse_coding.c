/* @sparse_coding */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

enum { K = 12, D = 8, N = 3 };

static llm_arena arena_of(size_t bytes) {
    llm_arena a = {(unsigned char *)test_memory(bytes, 1), bytes, 0, 0};
    return a;
}

TEST(sparse_coding, "matching pursuit equals sklearn's orthogonal_mp for 1, 3 and 5 atoms") {
    llm_arena a = arena_of(4096);
    const float *d = golden("in/d"), *x = golden("in/x");
    float c[N * K];
    CHECK_NEAR(llm_sparse_coding_coherence(d, K, D), golden("in/coherence")[0], 1e-6);
    for (size_t atoms = 1; atoms <= 5; atoms += 2) {
        for (size_t n = 0; n < N; n++)
            CHECK(llm_sparse_coding_omp(c + n * K, x + n * D, d, K, D, atoms, 0.0, &a) == atoms);
        CHECK_GOLDEN(c, N * K, 2e-6f, "omp%zu/c", atoms);
    }
    CHECK(a.used == 0);
}

TEST(sparse_coding, "pursuit ends where nothing is left, at equal atoms, and with a tolerance") {
    llm_arena a = arena_of(4096);
    const float d[4][3] = {{1, 0, 0}, {1, 0, 0}, {0, 1, 0}, {0.6f, 0, 0.8f}};
    float c[4];
    const float x[3] = {2, -1, 0}, none[3] = {0, 0, 0}, off[3] = {0, 0, 1};
    CHECK(llm_sparse_coding_omp(c, x, d[0], 4, 3, 4, 0.0, &a) == 2);
    CHECK(c[0] == 2.0f && c[1] == 0.0f && c[2] == -1.0f && c[3] == 0.0f);
    CHECK(llm_sparse_coding_omp(c, x, d[0], 4, 3, 4, 1.01, &a) == 1 && c[0] == 2.0f);
    CHECK(llm_sparse_coding_omp(c, x, d[0], 4, 3, 4, 0.99, &a) == 2);
    CHECK(llm_sparse_coding_omp(c, none, d[0], 4, 3, 4, 0.0, &a) == 0 && c[0] == 0.0f);
    CHECK(llm_sparse_coding_omp(c, off, d[0], 3, 3, 3, 0.0, &a) == 0);
    CHECK(llm_sparse_coding_omp(c, x, d[0], 4, 3, 0, 0.0, &a) == 0 && c[0] == 0.0f);
    CHECK(llm_sparse_coding_omp(c, x, d[0], 4, 3, 4, 1.0, &a) == 1); /* what is left is 1 */
    const float turned[3][3] = {{0, 1, 0}, {1, 0, 0}, {0.6f, 0, 0.8f}};
    CHECK_NEAR(llm_sparse_coding_coherence(turned[0], 3, 3), 0.6, 1e-7); /* of the last two */
}

TEST(sparse_coding, "an atom along a millionth of the rest, or a thousandth off another, is none") {
    llm_arena a = test_arena(1024);
    const float unit[2][3] = {{1, 0, 0}, {0, 1, 0}};
    float c[2];
    for (float scale = 0.1f; scale < 100.0f; scale *= 10.0f) {
        const float below[3] = {0.8e-6f * scale, 0, scale}, above[3] = {1.5e-6f * scale, 0, scale};
        CHECK(llm_sparse_coding_omp(c, below, unit[0], 2, 3, 2, 0.0, &a) == 0 && c[0] == 0.0f);
        CHECK(llm_sparse_coding_omp(c, above, unit[0], 2, 3, 2, 0.0, &a) == 1 && c[0] == above[0]);
    }
    const float x[2] = {1, 1}, missing[2] = {NAN, 1};
    for (int k = 0; k < 2; k++) { /* the square of the sine between the two */
        const double square = k ? 1.5e-6 : 0.5e-6;
        const float d[4] = {1, 0, (float)sqrt(1.0 - square), (float)sqrt(square)};
        CHECK(llm_sparse_coding_omp(c, x, d, 2, 2, 2, 0.0, &a) == (k ? 2 : 1));
        CHECK(llm_sparse_coding_omp(c, missing, d, 2, 2, 2, 0.0, &a) == 0);
    }
}

TEST(sparse_coding, "four rounds of ISTA and of FISTA, from 0, are NumPy's") {
    llm_arena a = test_arena(1 << 14);
    for (int fast = 0; fast < 2; fast++) {
        float c[N * K] = {0};
        llm_sparse_coding_fista(c, golden("in/x"), golden("in/d"), N, K, D, 0.05, 4, fast, &a);
        CHECK_GOLDEN(c, N * K, 2e-6f, "%s/c", fast ? "fista4" : "ista4");
    }
    CHECK(a.used == 0);
}

TEST(sparse_coding, "rounds of codes and dictionary are sklearn's and NumPy's least squares") {
    enum { ATOMS = 4, SIZE = 5, M = 12 };
    for (size_t rounds = 0; rounds < 4; rounds++) {
        llm_arena a = test_arena(4096);
        float d[ATOMS * SIZE], *c = floats(M * ATOMS), left[1];
        memcpy(d, golden("dictionary/d"), sizeof d);
        left[0] = (float)llm_sparse_coding_dictionary(d, c, golden("dictionary/x"), M, ATOMS, SIZE,
                                                      2, rounds, &a);
        CHECK_GOLDEN(d, ATOMS * SIZE, 3e-6f, "dictionary%zu/d", rounds);
        CHECK_GOLDEN(c, M * ATOMS, 3e-6f, "dictionary%zu/c", rounds);
        CHECK_GOLDEN(left, 1, 1e-6f, "dictionary%zu/left", rounds);
    }
}

TEST(sparse_coding,
     "unused atoms: the first of equally bad signals, or of signals all coded well") {
    llm_arena a = test_arena(4096);
    const float bad[3][4] = {{1, 0, 0, 0}, {0, 0.5f, 0, 0}, {0, 0, 0.5f, 0}};
    float d[2][4] = {{0, 0, 0, 1}, {1, 0, 0, 0}}, c[12];
    const float want[8] = {0, 1, 0, 0, 1, 0, 0, 0};
    CHECK_NEAR(llm_sparse_coding_dictionary(d[0], c, bad[0], 3, 2, 4, 1, 1, &a), 0.25 / 12.0, 1e-9);
    CHECK_ALL_NEAR(d[0], want, 8, 1e-7f);
    const float good[2][2] = {{3, 4}, {1, 0}};
    float e[3][2] = {{1, 0}, {0, 1}, {0.6f, -0.8f}};
    CHECK_NEAR(llm_sparse_coding_dictionary(e[1], c, good[0], 2, 1, 2, 1, 0, &a), 10.0 / 4.0, 1e-9);
    CHECK_NEAR(llm_sparse_coding_dictionary(e[0], c, good[0], 2, 3, 2, 2, 1, &a), 0.0, 1e-9);
    CHECK_NEAR(e[2][0], 0.6f, 1e-7f);
    CHECK_NEAR(e[2][1], 0.8f, 1e-7f);
}

TEST(sparse_coding, "atoms that always come together, and codes beyond the floats") {
    llm_arena a = test_arena(4096);
    const float x[2] = {3, 4}, huge[2] = {3e38f, 3e38f}, half = sqrtf(0.5f);
    float d[2][2] = {{1, 0}, {0, 1}}, diagonal[2] = {half, half}, c[2];
    CHECK_NEAR(llm_sparse_coding_dictionary(d[0], c, x, 1, 2, 2, 2, 1, &a), 0.0, 1e-9);
    for (size_t k = 0; k < 2; k++) { /* any split of x is as good: this is the shortest */
        CHECK_NEAR(d[k][0], 0.6f, 1e-4);
        CHECK_NEAR(d[k][1], 0.8f, 1e-4);
    }
    CHECK(llm_sparse_coding_dictionary(diagonal, c, huge, 1, 1, 2, 1, 3, &a) == (double)INFINITY);
    CHECK(diagonal[0] == half && diagonal[1] == half); /* no least squares: it stays */
}

TEST(sparse_coding, "FISTA and ISTA reach sklearn's lasso; FISTA is nearer after as many rounds") {
    llm_arena a = arena_of(1 << 14);
    const float *d = golden("in/d"), *x = golden("in/x");
    double gram[K * K];
    CHECK_NEAR(llm_sparse_coding_gram(gram, d, K, D, &a), golden("in/L")[0], 1e-6);
    CHECK_NEAR(gram[K + 2], llm_sparse_coding_dot(d + D, d + 2 * D, D), 1e-12);
    for (size_t p = 0; p < 2; p++) {
        const char *name = p ? "lasso0.5" : "lasso0.05";
        const double price = p ? 0.5 : 0.05;
        float *c = zeros(N * K);
        double value[2];
        for (size_t fast = 0; fast < 2; fast++) {
            memset(c, 0, N * K * sizeof(float));
            llm_sparse_coding_fista(c, x, d, N, K, D, price, 30, fast, &a);
            value[fast] = 0.0;
            for (size_t n = 0; n < N; n++) {
                for (size_t i = 0; i < D; i++) {
                    double e = (double)x[n * D + i];
                    for (size_t k = 0; k < K; k++) e -= (double)c[n * K + k] * (double)d[k * D + i];
                    value[fast] += 0.5 * e * e;
                }
                for (size_t k = 0; k < K; k++) value[fast] += price * fabs((double)c[n * K + k]);
            }
            llm_sparse_coding_fista(c, x, d, N, K, D, price, 20000, fast, &a); /* goes on */
            CHECK_GOLDEN(c, N * K, 2e-4f, "%s/c", name);
        }
        const double best = (double)golden("%s/value", name)[0];
        CHECK(value[1] >= best - 1e-6 && value[1] - best < 0.5 * (value[0] - best));
    }
    float nan[2] = {NAN, 1.0f};
    CHECK(isnan(llm_sparse_coding_gram(gram, nan, 1, 2, &a)));
    CHECK(isnan(llm_sparse_coding_gram(gram, nan, 0, 2, &a))); /* and of no atoms */
    CHECK_NEAR(llm_sparse_coding_gram(gram, nan + 1, 1, 1, &a), 1.0, 1e-12);
    CHECK(a.used == 0);
}

TEST(sparse_coding, "below a coherence of 1/5 three atoms are always found: unit and Hadamard") {
    enum { SIDE = 64 };
    static float d[2 * SIDE * SIDE], x[SIDE], c[2 * SIDE], want[2 * SIDE];
    llm_arena a = arena_of(4096);
    llm_rng rng = llm_rng_seed(5);
    for (size_t i = 0; i < SIDE * SIDE; i++) {
        size_t both = i / SIDE & i % SIDE, odd = 0;
        for (; both; both &= both - 1) odd ^= 1;
        d[i] = i / SIDE == i % SIDE ? 1.0f : 0.0f;
        d[SIDE * SIDE + i] = odd ? -0.125f : 0.125f;
    }
    CHECK_NEAR(llm_sparse_coding_coherence(d, 2 * SIDE, SIDE), 0.125, 1e-9);
    for (size_t trial = 0; trial < 100; trial++) {
        memset(want, 0, sizeof want);
        memset(x, 0, sizeof x);
        for (size_t k = 0; k < 3; k++) want[llm_rng_below(&rng, 2 * SIDE)] = llm_rng_normal(&rng);
        for (size_t i = 0; i < 2 * SIDE * SIDE; i++) x[i % SIDE] += want[i / SIDE] * d[i];
        llm_sparse_coding_omp(c, x, d, 2 * SIDE, SIDE, 3, 1e-6, &a);
        CHECK_ALL_NEAR(c, want, 2 * SIDE, 1e-5f);
    }
}

TEST(sparse_coding, "an atom that nobody uses becomes the signal that is coded worst") {
    llm_arena a = arena_of(4096);
    const float x[4][3] = {{0, 0, 1}, {1, 0, 0}, {0, 0, -5}, {2, 0, 0}};
    float d[2][3] = {{1, 0, 0}, {0, 1, 0}}, c[8];
    const float want[3] = {0, 0, -1}, kept[3] = {1, 0, 0}, codes[8] = {0, -1, 1, 0, 0, 5, 2, 0};
    CHECK_NEAR(llm_sparse_coding_dictionary(d[0], c, x[0], 4, 2, 3, 1, 0, &a), 26.0 / 12.0, 1e-9);
    CHECK_NEAR(llm_sparse_coding_dictionary(d[0], c, x[0], 4, 2, 3, 1, 1, &a), 0.0, 1e-12);
    CHECK_ALL_NEAR(d[0], kept, 3, 1e-7f);
    CHECK_ALL_NEAR(d[1], want, 3, 1e-7f);
    CHECK_ALL_NEAR(c, codes, 8, 1e-6f);
    CHECK(a.used == 0);
}

TEST(sparse_coding, "signals of zeros leave the dictionary; scratch is what is promised") {
    llm_arena a = test_arena(4096), tight = test_arena(128 + 4 * 64);
    const float x[4] = {0, 0, 0, 0};
    float d[2][2] = {{1, 0}, {0.6f, 0.8f}}, c[N * K];
    CHECK(llm_sparse_coding_dictionary(d[0], c, x, 2, 2, 2, 1, 3, &a) == 0.0);
    CHECK(d[0][0] == 1.0f && d[0][1] == 0.0f && d[1][0] == 0.6f && d[1][1] == 0.8f);
    for (size_t i = 0; i < 4; i++) CHECK(c[i] == 0.0f);
    for (size_t n = 0; n < N; n++) /* 9 + 3 + 3 + 8 doubles, 3 indices */
        llm_sparse_coding_omp(c + n * K, golden("in/x") + n * D, golden("in/d"), K, D, 3, 0.0,
                              &tight);
    CHECK_GOLDEN(c, N * K, 2e-6f, "omp3/c");
    CHECK(a.used == 0 && tight.used == 0);
}

TEST(sparse_coding, "the atoms behind signals of three are found again, from the signals alone") {
    enum { ATOMS = 24, SIZE = 16, M = 700 };
    for (uint64_t seed = 1; seed <= 2; seed++) {
        static float truth[ATOMS * SIZE], d[ATOMS * SIZE], x[M * SIZE], c[M * ATOMS];
        llm_arena a = arena_of(1 << 18);
        llm_rng rng = llm_rng_seed(seed);
        llm_wasserstein_directions(truth, ATOMS, SIZE, &rng);
        for (size_t n = 0; n < M; n++) {
            for (size_t i = 0; i < SIZE; i++) x[n * SIZE + i] = 0.01f * llm_rng_normal(&rng);
            for (size_t k = 0; k < 3; k++) {
                const size_t atom = llm_rng_below(&rng, ATOMS);
                const float share = llm_rng_normal(&rng);
                for (size_t i = 0; i < SIZE; i++) x[n * SIZE + i] += share * truth[atom * SIZE + i];
            }
        }
        llm_wasserstein_directions(d, ATOMS, SIZE, &rng);
        const double left = llm_sparse_coding_dictionary(d, c, x, M, ATOMS, SIZE, 3, 40, &a);
        size_t found = 0;
        for (size_t k = 0; k < ATOMS; k++) {
            double best = 0.0;
            for (size_t j = 0; j < ATOMS; j++)
                best =
                    fmax(best, fabs(llm_sparse_coding_dot(d + j * SIZE, truth + k * SIZE, SIZE)));
            found += best > 0.95;
        }
        CHECK(found >= 12);  /* of 24; seeds 1 to 10: 18 to 23, mostly 22 */
        CHECK(left < 0.012); /* 0.0013 to 0.0059, of 0.19 */
    }
}
