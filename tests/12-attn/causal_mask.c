/* @causal_mask */
#include "../test.h"

#include "../../llm.h"

TEST(causal_mask, "attention under both readings equals torch; rows that see nothing are zero") {
    const size_t shapes[][2] = {{1, 1}, {2, 5}, {5, 2}, {1, 17}, {17, 3}, {4, 4}};
    enum { D = 3 };
    for (size_t c = 0; c < 6; c++)
        for (int align = LLM_CAUSAL_MASK_TOP_LEFT; align <= LLM_CAUSAL_MASK_BOTTOM_RIGHT; align++) {
            const size_t Tq = shapes[c][0], Tk = shapes[c][1];
            const float *q = golden("%zux%zu/q", Tq, Tk), *k = golden("%zux%zu/k", Tq, Tk);
            const float *v = golden("%zux%zu/v", Tq, Tk);
            float s[17 * 17], *out = floats(Tq * D);
            llm_attn_score_dot_forward(s, q, k, Tq, Tk, D);
            for (size_t i = 0; i < Tq; i++) {
                double sum = 0.0, o[D] = {0};
                for (size_t j = 0; j < Tk; j++) {
                    if (!llm_causal_mask_allowed(i, j, Tq, Tk, align)) continue;
                    const double e = exp((double)s[i * Tk + j] / sqrt((double)D));
                    sum += e;
                    for (size_t d = 0; d < D; d++) o[d] += e * (double)v[j * D + d];
                }
                for (size_t d = 0; d < D; d++)
                    out[i * D + d] = sum > 0.0 ? (float)(o[d] / sum) : 0.0f;
            }
            CHECK_GOLDEN(out, Tq * D, 1e-6f, "%zux%zu/%s", Tq, Tk,
                         align == LLM_CAUSAL_MASK_TOP_LEFT ? "left" : "right");
        }
}

TEST(causal_mask, "the two tables that FlashAttention's README shows for 2 x 5 and 5 x 2") {
    const char *wide = "1111011111", *high = "0000001011"; /* bottom right */
    for (size_t n = 0; n < 10; n++) {
        CHECK(llm_causal_mask_allowed(n / 5, n % 5, 2, 5, LLM_CAUSAL_MASK_BOTTOM_RIGHT) ==
              (wide[n] == '1'));
        CHECK(llm_causal_mask_allowed(n / 2, n % 2, 5, 2, LLM_CAUSAL_MASK_BOTTOM_RIGHT) ==
              (high[n] == '1'));
    }
    const size_t left[5] = {1, 2, 2, 2, 2}, right[5] = {0, 0, 0, 1, 2}; /* keys seen, Tk = 2 */
    for (size_t i = 0; i < 5; i++) {
        CHECK(llm_causal_mask_seen(i, 5, 2, LLM_CAUSAL_MASK_TOP_LEFT) == left[i]);
        CHECK(llm_causal_mask_seen(i, 5, 2, LLM_CAUSAL_MASK_BOTTOM_RIGHT) == right[i]);
    }
    CHECK(llm_causal_mask_seen(0, 1, 0, LLM_CAUSAL_MASK_TOP_LEFT) == 0);
    CHECK_ASSERTS(llm_causal_mask_seen(2, 2, 5, LLM_CAUSAL_MASK_TOP_LEFT));
}

TEST(causal_mask, "tiles are those of the rule of @attn_mask, none missing; n (n + 1) / 2 of n^2") {
    const size_t sizes[] = {1, 2, 3, 7, 17};
    for (size_t a = 0; a < 5; a++)
        for (size_t b = 0; b < 5; b++)
            for (size_t high = 1; high < 6; high++)
                for (size_t wide = 1; wide < 6; wide++)
                    for (int align = 0; align < 2; align++) {
                        const size_t Tq = sizes[a], Tk = sizes[b];
                        llm_causal_mask_tile tile[17 * 17];
                        const size_t count = llm_causal_mask_tiles(tile, Tq, Tk, high, wide, align);
                        size_t at = 0;
                        for (size_t i = 0; i < Tq; i += high)
                            for (size_t j = 0; j < Tk; j += wide) {
                                size_t yes = 0, pairs = 0;
                                for (size_t r = i; r < i + high && r < Tq; r++)
                                    for (size_t k = j; k < j + wide && k < Tk; k++, pairs++) {
                                        const size_t shift =
                                            align ? Tk : Tq; /* j <= i + shift - Tq */
                                        yes += k + Tq <= r + shift;
                                        CHECK(llm_causal_mask_allowed(r, k, Tq, Tk, align) ==
                                              (k + Tq <= r + shift));
                                    }
                                if (yes == 0) continue;
                                CHECK(at < count);
                                CHECK(tile[at].row == i / high && tile[at].column == j / wide);
                                CHECK(tile[at].diagonal == (yes < pairs));
                                at++;
                            }
                        CHECK(at == count);
                        CHECK(llm_causal_mask_tiles(NULL, Tq, Tk, high, wide, align) == count);
                    }
    for (size_t n = 1; n < 12; n++) {
        const size_t count = llm_causal_mask_tiles(NULL, 16 * n, 16 * n, 16, 16, 0);
        CHECK(count == n * (n + 1) / 2);
    }
    CHECK_ASSERTS(llm_causal_mask_tiles(NULL, 0, 3, 0, 1, 0));
    CHECK_ASSERTS(llm_causal_mask_tiles(NULL, 0, 3, 1, 0, 0));
}

TEST(causal_mask, "packing keeps the triangle and nothing else") {
    const size_t sizes[] = {0, 1, 2, 3, 17};
    llm_rng rng = llm_rng_seed(2);
    for (size_t c = 0; c < 5; c++) {
        const size_t T = sizes[c];
        float *x = floats(T * T), *packed = floats(T * (T + 1) / 2), *back = floats(T * T);
        for (size_t i = 0; i < T; i++) llm_rng_normal_fill(&rng, x + i * T, i + 1); /* NaN above */
        llm_causal_mask_pack(packed, x, T);
        llm_causal_mask_unpack(back, packed, T, -INFINITY);
        size_t n = 0;
        for (size_t i = 0; i < T; i++)
            for (size_t j = 0; j < T; j++) {
                CHECK(back[i * T + j] == (j <= i ? x[i * T + j] : -INFINITY));
                if (j <= i) CHECK(packed[n++] == x[i * T + j]);
            }
    }
}

TEST(causal_mask, "pairs of rows are alike: workers differ by one pair at most") {
    for (size_t n = 0; n <= 40; n++) {
        size_t order[40], seen[40] = {0};
        llm_causal_mask_balance(order, n);
        for (size_t k = 0; k < n; k++) CHECK(order[k] < n && seen[order[k]]++ == 0);
        for (size_t k = 0; k + 1 < n; k += 2)
            CHECK(order[k] + 1 + order[k + 1] + 1 == n + 1); /* row r has r + 1 tiles */
        for (size_t workers = 1; workers <= 5; workers++) {
            size_t work[5] = {0}, least = SIZE_MAX, most = 0;
            for (size_t k = 0; k < n; k++) work[k / 2 % workers] += order[k] + 1;
            for (size_t w = 0; w < workers; w++) {
                least = work[w] < least ? work[w] : least;
                most = work[w] > most ? work[w] : most;
            }
            CHECK(most - least <= n + 1);
            if (n % (2 * workers) == 0) CHECK(most == least);
        }
    }
}
