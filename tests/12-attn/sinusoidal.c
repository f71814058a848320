/* @sinusoidal */
#include "../test.h"

#include "../../llm.h"

static const llm_sinusoidal_order sin_orders[3] = {LLM_SINUSOIDAL_NEIGHBOURS, LLM_SINUSOIDAL_HALVES,
                                                   LLM_SINUSOIDAL_COSINE_FIRST};

/* table (N,C) against the golden one: libraries make theirs in float. */
static void sin_equals(const char *name, size_t N, size_t C, size_t e, llm_sinusoidal_order order,
                       const float *t, double tol) {
    float *table = floats(N * C);
    llm_sinusoidal_table(table, t, N, C, e, order);
    CHECK_GOLDEN(table, N * C, tol, "%s%zu/table", name, C);
}

TEST(sinusoidal, "equals the tables of DistilBERT, Marian, M2M-100, Whisper and diffusion models") {
    const size_t widths[3] = {2, 6, 22};
    for (size_t w = 0; w < 3; w++) {
        sin_equals("distilbert", 11, widths[w], 0, LLM_SINUSOIDAL_NEIGHBOURS, NULL, 2e-7);
        sin_equals("marian", 11, widths[w], 0, LLM_SINUSOIDAL_HALVES, NULL, 2e-7);
    }
    const size_t wide[2] = {4, 14};
    for (size_t w = 0; w < 2; w++) { /* angles up to 10, in float */
        sin_equals("m2m", 11, wide[w], 1, LLM_SINUSOIDAL_HALVES, NULL, 2e-6);
        sin_equals("whisper", 5, wide[w], 1, LLM_SINUSOIDAL_HALVES, NULL, 2e-6);
    }
    sin_equals("diffusion", 5, 2, 0, LLM_SINUSOIDAL_COSINE_FIRST, golden("diffusion2/t"), 1e-7);
    sin_equals("diffusion", 5, 10, 0, LLM_SINUSOIDAL_COSINE_FIRST, golden("diffusion10/t"), 1e-7);
}

TEST(sinusoidal, "is exact at a position of 16 million, where float angles mean nothing") {
    enum { N = 3, C = 16 };
    float table[N * C];
    const float *t = golden("far/t"), *want = golden("far/table");
    llm_sinusoidal_table(table, t, N, C, 0, LLM_SINUSOIDAL_NEIGHBOURS);
    CHECK_GOLDEN(table, N * C, 1e-7, "far/table");
    double worst = 0.0; /* the product rounded to float, at t = 99999 */
    for (size_t i = 0; i < C / 2; i++) {
        const float angle = t[0] * (float)llm_sinusoidal_frequency(i, C, 0);
        worst = fmax(worst, fabs(sin((double)angle) - (double)want[2 * i]));
    }
    CHECK(worst > 1e-4 && worst < 8e-3);
}

TEST(sinusoidal, "a shift by k is one rotation for all t, and the dot product knows only t - s") {
    const size_t widths[4] = {2, 4, 6, 34};
    for (size_t w = 0; w < 4; w++)
        for (size_t e = 0; e < 2; e++)
            for (size_t o = 0; o < 3; o++) {
                const size_t C = widths[w], N = 40;
                float *table = floats(N * C), *m = floats(C * C), *got = floats(N * C);
                llm_sinusoidal_table(table, NULL, N, C, e, sin_orders[o]);
                for (size_t k = 0; k < 30; k += 7) {
                    llm_sinusoidal_shift_matrix(m, (double)k, C, e, sin_orders[o]);
                    llm_matmul_forward(got, table, m, NULL, N, C, C);
                    CHECK_ALL_NEAR(got, table + k * C, (N - k) * C, 3e-7);
                }
                for (size_t t = 0; t < N; t++)
                    for (size_t s = 0; s <= t; s++)
                        CHECK_NEAR(dot(table + t * C, table + s * C, C),
                                   llm_sinusoidal_dot((double)(t - s), C, e), 4e-6);
                CHECK_NEAR(llm_sinusoidal_dot(0.0, C, e), (double)C / 2.0, 1e-12);
            }
}

TEST(sinusoidal, "a matrix for the wrong order or the wrong e does not shift") {
    enum { C = 8, N = 20 };
    float table[N * C], m[C * C], got[N * C];
    for (size_t o = 0; o < 3; o++)
        for (size_t p = 0; p < 3; p++)
            for (size_t e = 0; e < 2; e++) {
                llm_sinusoidal_table(table, NULL, N, C, 0, sin_orders[o]);
                llm_sinusoidal_shift_matrix(m, 3.0, C, e, sin_orders[p]);
                llm_matmul_forward(got, table, m, NULL, N, C, C);
                double worst = 0.0;
                for (size_t i = 0; i < (N - 3) * C; i++)
                    worst = fmax(worst, fabs((double)got[i] - (double)table[i + 3 * C]));
                CHECK(o == p && e == 0 ? worst < 1e-6 : worst > 0.1);
            }
}

TEST(sinusoidal,
     "every position of 50000 is its own, and the slowest clock is where it should be") {
    enum { C = 16, N = 50000 };
    float *table = floats(N * C);
    llm_sinusoidal_table(table, NULL, N, C, 0, LLM_SINUSOIDAL_NEIGHBOURS);
    for (size_t t = 1; t < N; t += 101)
        for (size_t s = 0; s < t; s += 97) {
            double apart = 0.0;
            for (size_t c = 0; c < C; c++)
                apart += fabs((double)table[t * C + c] - (double)table[s * C + c]);
            CHECK(apart > 1e-2);
        }
    CHECK_NEAR(llm_sinusoidal_frequency(7, C, 1), 1e-4, 1e-16);
    CHECK_NEAR(llm_sinusoidal_frequency(7, C, 0), pow(10.0, -3.5), 1e-16);
    CHECK(llm_sinusoidal_frequency(0, 2, 1) == 1.0);
}

TEST(sinusoidal, "is added to the scaled embedding at given positions; the gradient is scaled") {
    enum { N = 7, C = 6, M = 11 };
    float table[M * C], y[N * C], dx[N * C];
    const float *x = golden("add/x"), *dy = golden("add/dy");
    const int *pos = as_ints(golden("add/pos"), N);
    llm_sinusoidal_table(table, NULL, M, C, 0, LLM_SINUSOIDAL_NEIGHBOURS);
    llm_sinusoidal_forward(y, x, table, pos, N, M, C, sqrtf(6.0f));
    CHECK_GOLDEN(y, N * C, 5e-7, "add/y");
    for (size_t i = 0; i < N * C; i++) dx[i] = dy[i];
    llm_sinusoidal_backward(dx, dy, N, C, sqrtf(6.0f)); /* adds to what is there */
    for (size_t i = 0; i < N * C; i++) dx[i] -= dy[i];
    CHECK_GOLDEN(dx, N * C, 5e-7, "add/dx");

    float counted[N * C], given[N * C];
    const int count[N] = {0, 1, 2, 3, 4, 5, 6};
    memcpy(counted, x, sizeof counted);
    llm_sinusoidal_forward(counted, counted, table, NULL, N, M, C, 1.0f); /* in place */
    llm_sinusoidal_forward(given, x, table, count, N, M, C, 1.0f);
    CHECK(memcmp(counted, given, sizeof given) == 0);
}

TEST(sinusoidal, "odd widths and positions outside the table are refused; nothing is nothing") {
    float x[12] = {0}, m[9];
    const int high[1] = {2}, low[1] = {-1};
    CHECK_ASSERTS(llm_sinusoidal_table(x, NULL, 1, 3, 0, LLM_SINUSOIDAL_HALVES));
    CHECK_ASSERTS(llm_sinusoidal_shift_matrix(m, 1.0, 3, 0, LLM_SINUSOIDAL_HALVES));
    CHECK_ASSERTS(llm_sinusoidal_dot(1.0, 3, 0));
    CHECK_ASSERTS(llm_sinusoidal_table(x, NULL, 1, 1, 0, LLM_SINUSOIDAL_HALVES)); /* no pair */
    CHECK_ASSERTS(llm_sinusoidal_shift_matrix(m, 1.0, 1, 0, LLM_SINUSOIDAL_HALVES));
    CHECK_ASSERTS(llm_sinusoidal_dot(1.0, 1, 0));
    CHECK_ASSERTS(llm_sinusoidal_frequency(1, 3, 0));
    CHECK_ASSERTS(llm_sinusoidal_frequency(2, 4, 0));
    CHECK_ASSERTS(llm_sinusoidal_frequency(1, 4, 2));
    CHECK_ASSERTS(llm_sinusoidal_forward(x, x, x, high, 1, 2, 2, 1.0f));
    CHECK_ASSERTS(llm_sinusoidal_forward(x, x, x, low, 1, 2, 2, 1.0f));
    CHECK_ASSERTS(llm_sinusoidal_forward(x, x, x, NULL, 3, 2, 2, 1.0f));
    llm_sinusoidal_table(x, NULL, 0, 2, 1, LLM_SINUSOIDAL_HALVES);
    llm_sinusoidal_table(x, NULL, 3, 0, 0, LLM_SINUSOIDAL_HALVES);
    llm_sinusoidal_forward(x, x, x, NULL, 2, 2, 0, 1.0f);
    CHECK(x[0] == 0.0f && llm_sinusoidal_dot(1.0, 0, 0) == 0.0);
}
