/* @stored_dot */
#include "../test.h"

#include "../../llm.h"

enum { L = LLM_STORED_DOT_LANES, ROWS = LLM_STORED_DOT_ROWS };
static const llm_gguf_blocks_type numbers[3] = {LLM_GGUF_BLOCKS_F32, LLM_GGUF_BLOCKS_BF16,
                                                LLM_GGUF_BLOCKS_F16};

/* By the definition of the format: IEEE 754 binary16. */
static double sd_half(unsigned word) {
    const int e = (int)(word >> 10 & 31), m = (int)(word & 1023);
    double x = e == 0 ? ldexp(m, -24) : ldexp(1024 + m, e - 25);
    if (e == 31) x = m == 0 ? (double)INFINITY : (double)NAN;
    return word >> 15 ? -x : x;
}

/* p <- a weight, and what it is worth. */
static double sd_put(unsigned char *p, llm_gguf_blocks_type type, llm_rng *rng) {
    uint32_t bits;
    float x = llm_rng_normal(rng);
    if (type == LLM_GGUF_BLOCKS_F16) {
        const unsigned word = llm_rng_below(rng, 65536) & 0xbfffu; /* below 2 */
        p[0] = (unsigned char)(word & 255), p[1] = (unsigned char)(word >> 8);
        return sd_half(word);
    }
    memcpy(&bits, &x, 4);
    if (type == LLM_GGUF_BLOCKS_BF16) {
        bits &= 0xffff0000u;
        p[0] = (unsigned char)(bits >> 16 & 255), p[1] = (unsigned char)(bits >> 24);
        memcpy(&x, &bits, 4);
    } else {
        memcpy(p, &x, 4);
    }
    return (double)x;
}

TEST(stored_dot, "halves of all 65536 patterns are what the format says") {
    for (unsigned first = 0; first < 65536; first += L) {
        uint32_t word[L];
        float got[L];
        for (unsigned l = 0; l < L; l++) word[l] = first + l + 0xabcd0000u; /* only 16 bits count */
        const llm_stored_dot_floats x = llm_stored_dot_half(llm_stored_dot_load(word));
        memcpy(got, &x, sizeof got);
        for (unsigned l = 0; l < L; l++) {
            const double want = sd_half(first + l);
            CHECK(isnan(want) ? isnan(got[l]) : (double)got[l] == want);
            CHECK(isnan(want) || !signbit(got[l]) == !signbit(want));
        }
    }
}

TEST(stored_dot, "halves in memory come in the order of x, of all patterns, at odd addresses") {
    float x[2 * L], order[2 * L], got[2 * L];
    unsigned char bytes[4 * L + 1];
    llm_stored_dot_floats y[2];
    for (int l = 0; l < 2 * L; l++) x[l] = (float)l;
    llm_stored_dot_arrange(order, x, 2 * L, LLM_GGUF_BLOCKS_F16);
    for (unsigned first = 0; first < 65536; first += 2 * L) {
        for (unsigned l = 0; l < 2 * L; l++)
            bytes[1 + 2 * l] = (unsigned char)((first + l) & 255),
                          bytes[2 + 2 * l] = (unsigned char)((first + l) >> 8);
        llm_stored_dot_halves(y, bytes + 1);
        memcpy(got, y, sizeof got);
        for (unsigned l = 0; l < 2 * L; l++) {
            const double want = sd_half(first + (unsigned)order[l]);
            CHECK(isnan(want) ? isnan(got[l]) : (double)got[l] == want);
        }
    }
}

TEST(stored_dot, "lanes are loaded at any address and added") {
    unsigned char bytes[4 * L + 1];
    float x[L];
    for (int l = 0; l < L; l++) x[l] = (float)(1 << l);
    memcpy(bytes + 1, x, sizeof x);
    CHECK(llm_stored_dot_sum(llm_stored_dot_real(llm_stored_dot_load(bytes + 1))) ==
          (float)((1 << L) - 1));
}

TEST(stored_dot, "x is put into the order of the parts of words; what fills no lanes stays") {
    float x[200], to[200];
    for (int i = 0; i < 200; i++) x[i] = (float)i;
    for (size_t n = 0; n <= 200; n++) {
        const size_t whole = n - n % (2 * L);
        for (int i = 0; i < 200; i++) to[i] = -1.0f;
        llm_stored_dot_arrange(to, x, n, LLM_GGUF_BLOCKS_BF16);
        for (size_t i = 0; i < whole; i++)
            CHECK(to[i] == (float)(i / (2 * L) * (2 * L) + 2 * (i % L) + i / L % 2));
        for (size_t i = whole; i < 200; i++) CHECK(to[i] == (i < n ? (float)i : -1.0f));
        llm_stored_dot_arrange(to, x, n, LLM_GGUF_BLOCKS_F32);
        for (size_t i = 0; i < n; i++) CHECK(to[i] == (float)i);
        llm_stored_dot_arrange(to, x, n, LLM_GGUF_BLOCKS_Q6_K);
        for (size_t i = 0; i < n; i++) CHECK(to[i] == (float)i);
    }
    /* words of Q8_0 hold four bytes; those of Q4_0 low and high halves, 16 weights apart */
    llm_stored_dot_arrange(to, x, 128, LLM_GGUF_BLOCKS_Q8_0);
    for (size_t i = 0; i < 128; i++)
        CHECK(to[i] == (float)(i / (4 * L) * (4 * L) + 4 * (i % L) + i / L % 4));
    llm_stored_dot_arrange(to, x, 128, LLM_GGUF_BLOCKS_Q4_0);
    for (size_t i = 0; i < 128; i++) {
        const size_t word = i / (8 * L) * L + i % L, part = i / L % 8;
        const size_t byte = word % 4 * 4 + part / 2;
        CHECK(to[i] == (float)(word / 4 * 32 + byte + (part % 2 ? 16 : 0)));
    }
}

TEST(stored_dot, "groups are whole lanes and whole blocks; other forms have none") {
    static const llm_gguf_blocks_type none[8] = {
        LLM_GGUF_BLOCKS_Q4_1, LLM_GGUF_BLOCKS_Q5_0, LLM_GGUF_BLOCKS_Q5_1, LLM_GGUF_BLOCKS_Q4_K,
        LLM_GGUF_BLOCKS_Q5_K, LLM_GGUF_BLOCKS_Q6_K, LLM_GGUF_BLOCKS_I8,   LLM_GGUF_BLOCKS_F64};
    for (int i = 0; i < 8; i++) CHECK(llm_stored_dot_group(none[i]) == 0);
    for (int i = 0; i < 3; i++) CHECK(llm_stored_dot_group(numbers[i]) == 2 * L);
    CHECK(llm_stored_dot_group(LLM_GGUF_BLOCKS_Q8_0) == 32);
    CHECK(llm_stored_dot_group(LLM_GGUF_BLOCKS_Q4_0) == (L == 8 ? 64 : 32));
}

TEST(stored_dot, "sums over rows are those of double precision, at odd addresses") {
    llm_rng rng = llm_rng_seed(1);
    static const size_t groups[5] = {0, 1, 2, 7, 40};
    for (int f = 0; f < 3; f++) {
        const size_t bytes = f == 0 ? 4 : 2;
        for (int s = 0; s < 5; s++) {
            const size_t n = groups[s] * 2 * L;
            float *x = floats(n + L), *to = floats(n + L), y[ROWS + 1];
            const unsigned char *row[ROWS];
            double want[ROWS], size[ROWS];
            llm_rng_normal_fill(&rng, x, n + L);
            llm_stored_dot_arrange(to, x, n, numbers[f]);
            for (int r = 0; r < ROWS; r++) {
                unsigned char *w = (unsigned char *)test_memory(n * bytes + 1, 1) + 1;
                want[r] = size[r] = 0.0, row[r] = w;
                for (size_t i = 0; i < n; i++) {
                    const double term = sd_put(w + i * bytes, numbers[f], &rng) * (double)x[i];
                    want[r] += term, size[r] += fabs(term);
                }
            }
            for (int r = 0; r <= ROWS; r++) y[r] = 7.0f;
            llm_stored_dot_numbers(y, row, to, n, numbers[f]);
            for (int r = 0; r < ROWS; r++) CHECK_NEAR(y[r], want[r], 1e-6 * size[r]);
            CHECK(y[ROWS] == 7.0f);
        }
    }
}

TEST(stored_dot, "one weight times 1 is that weight, to the last bit") {
    llm_rng rng = llm_rng_seed(2);
    for (int f = 0; f < 3; f++) {
        const size_t bytes = f == 0 ? 4 : 2;
        unsigned char w[ROWS][8 * L];
        const unsigned char *row[ROWS];
        double value[ROWS][2 * L];
        for (int r = 0; r < ROWS; r++) {
            row[r] = w[r];
            for (size_t i = 0; i < 2 * L; i++)
                value[r][i] = sd_put(w[r] + i * bytes, numbers[f], &rng);
        }
        for (size_t i = 0; i < 2 * L; i++) {
            float x[2 * L] = {0.0f}, to[2 * L], y[ROWS];
            x[i] = 1.0f;
            llm_stored_dot_arrange(to, x, 2 * L, numbers[f]);
            llm_stored_dot_numbers(y, row, to, 2 * L, numbers[f]);
            for (int r = 0; r < ROWS; r++) CHECK((double)y[r] == value[r][i]);
        }
    }
}

TEST(stored_dot, "an infinity or a NaN among the weights is seen in its row alone") {
    float x[2 * L], y[ROWS];
    for (int i = 0; i < 2 * L; i++) x[i] = 1.0f;
    for (int k = 0; k < 4 * L; k++) {
        unsigned char w[ROWS][4 * L];
        const unsigned char *row[ROWS];
        memset(w, 0, sizeof w);
        for (int r = 0; r < ROWS; r++) row[r] = w[r];
        w[2][k / 2 * 2 + 1] = 0x7c, w[2][k / 2 * 2] = k % 2 ? 1 : 0;
        llm_stored_dot_numbers(y, row, x, 2 * L, LLM_GGUF_BLOCKS_F16);
        CHECK(k % 2 ? isnan(y[2]) : isinf(y[2]));
        CHECK(y[0] == 0.0f && y[1] == 0.0f && y[3] == 0.0f);
    }
}
