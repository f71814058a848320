/* @stored_dot_codes */
#include "../test.h"

#include "../../llm.h"

enum { L = LLM_STORED_DOT_LANES, ROWS = LLM_STORED_DOT_ROWS, BLOCKS = LLM_STORED_DOT_BLOCKS };

/* Scales as halves, and what they are. */
static const unsigned short halves[6] = {0x3c00, 0xc200, 0x2a66, 0x0001, 0x8200, 0x5bff};
static double sc_value(int k) {
    static const double value[6] = {1.0,           -3.0, 0x666 * 0x1p-15, 0x1p-24, -0x200 * 0x1p-24,
                                    0x7ff * 0x1p-3};
    return value[k];
}

/* w <- n columns of random codes; weight (n): what they are. */
static void sc_fill(unsigned char *w, double *weight, size_t n, bool four, llm_rng *rng) {
    for (size_t b = 0; b < n / 32; b++) {
        unsigned char *p = w + b * (four ? 18 : 34);
        const int k = (int)llm_rng_below(rng, 6);
        p[0] = (unsigned char)(halves[k] & 255), p[1] = (unsigned char)(halves[k] >> 8);
        for (int i = 0; i < 32; i++) {
            const int code = four ? (int)llm_rng_below(rng, 16) : (int)llm_rng_below(rng, 256);
            unsigned char *at = p + 2 + (four ? i % 16 : i);
            if (!four)
                *at = (unsigned char)code;
            else
                *at = (unsigned char)(i < 16 ? code : (*at & 15) + code * 16);
            weight[b * 32 + (size_t)i] = sc_value(k) * (four         ? code - 8
                                                        : code < 128 ? code
                                                                     : code - 256);
        }
    }
}

TEST(stored_dot_codes, "blocks follow each other as long as there are any") {
    size_t at[BLOCKS + 1];
    at[BLOCKS] = 7;
    for (size_t n = 0; n <= 12; n++) {
        const size_t want = n < BLOCKS ? n : BLOCKS;
        CHECK(llm_stored_dot_codes_blocks(at, n * 32, 34) == want);
        for (size_t b = 0; b < BLOCKS; b++) CHECK(at[b] == (b < want ? b * 34 : 0));
    }
    CHECK(at[BLOCKS] == 7);
}

TEST(stored_dot_codes, "scales are halves times a factor, of all patterns, at odd addresses") {
    unsigned char from[3 * BLOCKS + 1];
    size_t at[BLOCKS];
    float scale[BLOCKS + 1];
    scale[BLOCKS] = 7.0f;
    for (unsigned first = 0; first < 65536; first += BLOCKS) {
        for (size_t b = 0; b < BLOCKS; b++) {
            const unsigned word = first + (unsigned)b;
            at[b] = 3 * (BLOCKS - 1 - b);
            from[1 + at[b]] = (unsigned char)(word & 255);
            from[2 + at[b]] = (unsigned char)(word >> 8);
        }
        llm_stored_dot_codes_scales(scale, from + 1, at, 0.25f);
        for (size_t b = 0; b < BLOCKS; b++) {
            const unsigned word = first + (unsigned)b;
            const int e = (int)(word >> 10 & 31);
            const double m = word & 1023, size = e ? ldexp(1024 + m, e - 27) : ldexp(m, -26);
            if (e < 31)
                CHECK((double)scale[b] == (word >> 15 ? -size : size));
            else
                CHECK(m > 0.0 ? isnan(scale[b]) : scale[b] == (word >> 15 ? -INFINITY : INFINITY));
        }
    }
    CHECK(scale[BLOCKS] == 7.0f);
}

TEST(stored_dot_codes, "a pair of blocks fills eight lanes, one block four") {
    const float scale[2] = {3.0f, -5.0f};
    const llm_stored_dot_floats d = llm_stored_dot_pair_scales(scale);
    float lane[L];
    memcpy(lane, &d, sizeof lane);
    for (int l = 0; l < L; l++) CHECK(lane[l] == scale[l / 4]);
}

TEST(stored_dot_codes, "sums over blocks are those of double precision, at odd addresses") {
    llm_rng rng = llm_rng_seed(1);
    static const size_t lengths[6] = {0, 64, 192, 256, 448, LLM_STORED_DOT_MOST};
    for (int four = 0; four < 2; four++) {
        const llm_gguf_blocks_type type = four ? LLM_GGUF_BLOCKS_Q4_0 : LLM_GGUF_BLOCKS_Q8_0;
        for (int s = 0; s < 6; s++) {
            const size_t n = lengths[s];
            float *x = floats(n + 1), *to = floats(n + 1), y[ROWS + 1];
            double want[ROWS], size[ROWS], *weight = (double *)test_memory(n + 1, sizeof(double));
            const unsigned char *row[ROWS];
            llm_rng_normal_fill(&rng, x, n);
            llm_stored_dot_arrange(to, x, n, type);
            for (int r = 0; r < ROWS; r++) {
                unsigned char *w =
                    (unsigned char *)test_memory(n / 32 * (four ? 18 : 34) + 1, 1) + 1;
                sc_fill(w, weight, n, four != 0, &rng);
                want[r] = size[r] = 0.0, row[r] = w;
                for (size_t i = 0; i < n; i++)
                    want[r] += weight[i] * (double)x[i], size[r] += fabs(weight[i] * (double)x[i]);
            }
            for (int r = 0; r <= ROWS; r++) y[r] = 7.0f;
            if (four)
                llm_stored_dot_nibbles(y, row, to, n);
            else
                llm_stored_dot_bytes(y, row, to, n);
            for (int r = 0; r < ROWS; r++) CHECK_NEAR(y[r], want[r], 2e-6 * size[r]);
            CHECK(y[ROWS] == 7.0f);
        }
    }
}

TEST(stored_dot_codes, "every code stands at its place and keeps its sign") {
    float x[64], to[64], y[ROWS];
    for (int i = 0; i < 64; i++) x[i] = ldexpf(1.0f, i % 12);
    for (int four = 0; four < 2; four++) {
        const llm_gguf_blocks_type type = four ? LLM_GGUF_BLOCKS_Q4_0 : LLM_GGUF_BLOCKS_Q8_0;
        llm_stored_dot_arrange(to, x, 64, type);
        for (int at = 0; at < 64; at++) {
            for (int code = four ? -8 : -128; code < (four ? 8 : 128); code++) {
                unsigned char w[68];
                const unsigned char *const row[ROWS] = {w, w, w, w};
                memset(w, four ? 0x88 : 0, sizeof w);
                for (int b = 0; b < 2; b++)
                    w[b * (four ? 18 : 34)] = 0, w[b * (four ? 18 : 34) + 1] = 0x3c;
                if (four) {
                    unsigned char *p = w + at / 32 * 18 + 2 + at % 16;
                    *p = (unsigned char)(at % 32 < 16 ? 0x80 | (code + 8) : (code + 8) * 16 | 8);
                    llm_stored_dot_nibbles(y, row, to, 64);
                } else {
                    w[at / 32 * 34 + 2 + at % 32] = (unsigned char)(code & 255);
                    llm_stored_dot_bytes(y, row, to, 64);
                }
                for (int r = 0; r < ROWS; r++) CHECK(y[r] == (float)code * x[at]);
            }
        }
    }
}

TEST(stored_dot_codes, "a block whose scale is no number makes its row none, and only it") {
    float x[64], to[64], y[ROWS];
    for (int i = 0; i < 64; i++) x[i] = 1.0f;
    for (int k = 0; k < 4; k++) {
        unsigned char bad[68], good[68];
        const unsigned char *const row[ROWS] = {good, bad, good, good};
        const int step = k / 2 ? 18 : 34;
        memset(good, 0x99, sizeof good);
        for (int b = 0; b < 2; b++) good[b * step] = 0, good[b * step + 1] = 0x3c;
        memcpy(bad, good, sizeof bad);
        bad[step + 1] = 0x7c, bad[step] = (unsigned char)(k % 2);
        llm_stored_dot_arrange(to, x, 64, k / 2 ? LLM_GGUF_BLOCKS_Q4_0 : LLM_GGUF_BLOCKS_Q8_0);
        if (k / 2)
            llm_stored_dot_nibbles(y, row, to, 64);
        else
            llm_stored_dot_bytes(y, row, to, 64);
        CHECK(!isfinite(y[1]));
        for (int r = 0; r < ROWS; r++) CHECK(r == 1 || isfinite(y[r]));
    }
}
