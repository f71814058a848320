/* @flash23 */
#include "../test.h"

#include "../../llm.h"

#include "../tiny_flash23.h"

TEST(flash23, "equals PyTorch, text by text: windows, alignment, cap, slopes, groups") {
    for (size_t n = 0; n < 5; n++) {
        const tiny_flash23_case *z = &tiny_flash23[n];
        const size_t rows = z->start_q[z->B] * z->H;
        const llm_flash23_config c = tiny_flash23_config(z, golden("%s/slope", z->name));
        float *out = floats(rows * z->D), *lse = floats(rows);
        llm_flash23_forward(out, lse, golden("%s/q", z->name), golden("%s/k", z->name),
                            golden("%s/v", z->name), &c);
        CHECK_GOLDEN(out, rows * z->D, 1e-6f, "%s/out", z->name);
        CHECK_GOLDEN(lse, rows, 1e-6f, "%s/lse", z->name);
    }
}

/* flash-attn's README draws both: queries by keys, 1 where a score is kept. */
TEST(flash23, "causal with unequal lengths keeps the lower right corner, as flash-attn documents") {
    static const char *const wide[2] = {"11110", "11111"};
    static const char *const high[5] = {"00", "00", "00", "10", "11"};
    const size_t start[2] = {0, 0};
    const llm_flash23_config c = llm_flash23_defaults(start, 1, 1, 1, 1);
    size_t first, end;
    for (size_t i = 0; i < 2; i++)
        for (size_t j = 0; j < 5; j++) {
            llm_flash23_range(&first, &end, i, 2, 5, &c);
            CHECK((j >= first && j < end) == (wide[i][j] == '1'));
        }
    for (size_t i = 0; i < 5; i++)
        for (size_t j = 0; j < 2; j++) {
            llm_flash23_range(&first, &end, i, 5, 2, &c);
            CHECK((j >= first && j < end) == (high[i][j] == '1'));
        }
}

TEST(flash23, "the range of a query is the rule, for all sizes and windows") {
    const size_t limits[] = {0, 1, 2, 5, 100, SIZE_MAX - 1, SIZE_MAX}, start[2] = {0, 0};
    llm_flash23_config c = llm_flash23_defaults(start, 1, 1, 1, 1);
    for (size_t l = 0; l < 7; l++)
        for (size_t r = 0; r < 7; r++)
            for (size_t Tq = 1; Tq < 6; Tq++)
                for (size_t Tk = 0; Tk < 6; Tk++)
                    for (size_t i = 0; i < Tq; i++) {
                        size_t first, end;
                        c.left = limits[l], c.right = limits[r];
                        llm_flash23_range(&first, &end, i, Tq, Tk, &c);
                        CHECK(first <= end && end <= Tk);
                        for (size_t j = 0; j < Tk; j++) {
                            const double far = (double)j - ((double)i + (double)Tk - (double)Tq);
                            const bool seen = far >= -(double)c.left && far <= (double)c.right;
                            CHECK((j >= first && j < end) == seen);
                        }
                    }
}

TEST(flash23, "around the edges of tiles: @gqa text by text, and @sliding_window") {
    const size_t T[] = {1, 63, 64, 65, 300}, H = 4, Hkv = 2, D = 20;
    size_t start[6] = {0};
    for (size_t b = 0; b < 5; b++) start[b + 1] = start[b] + T[b];
    const size_t N = start[5];
    llm_rng rng = llm_rng_seed(1);
    float *q = tiny_flash23_normal(N * H * D, &rng), *k = tiny_flash23_normal(N * Hkv * D, &rng);
    float *v = tiny_flash23_normal(N * Hkv * D, &rng), *out = floats(N * H * D);
    float *lse = floats(N * H), *qt = floats(N * H * D), *kt = floats(N * Hkv * D);
    float *vt = floats(N * Hkv * D), *want = floats(N * H * D), *got = floats(N * H * D);
    float *want_lse = floats(N * H), *got_lse = floats(N * H);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 20));
    for (size_t w = 0; w < 3; w++) {
        const size_t windows[3] = {SIZE_MAX, 64, 10};
        llm_flash23_config c = llm_flash23_defaults(start, 5, H, Hkv, D);
        c.left = windows[w] - (w > 0);
        llm_flash23_forward(out, lse, q, k, v, &c);
        for (size_t b = 0; b < 5; b++) {
            tiny_flash23_turn(qt, q + start[b] * H * D, T[b], H, D);
            tiny_flash23_turn(kt, k + start[b] * Hkv * D, T[b], Hkv, D);
            tiny_flash23_turn(vt, v + start[b] * Hkv * D, T[b], Hkv, D);
            if (w == 0) {
                const llm_gqa_config g = llm_gqa_defaults(1, H, Hkv, T[b], D);
                llm_gqa_forward(want, want_lse, qt, kt, vt, &g, &arena);
            } else {
                const llm_sliding_window_config s =
                    llm_sliding_window_defaults(1, H, Hkv, T[b], D, windows[w]);
                llm_sliding_window_forward(want, want_lse, qt, kt, vt, &s, &arena);
            }
            tiny_flash23_turn(got, out + start[b] * H * D, T[b], H, D);
            tiny_flash23_turn(got_lse, lse + start[b] * H, T[b], H, 1);
            CHECK_ALL_NEAR(got, want, T[b] * H * D, 3e-6f);
            CHECK_ALL_NEAR(got_lse, want_lse, T[b] * H, 3e-6f);
        }
    }
    llm_arena_destroy(&arena);
}

TEST(flash23, "fewer queries than keys, over several tiles: @gqa with its last queries") {
    const size_t T = 270, S = 305, H = 2, D = 4, start_q[2] = {0, T}, start_k[2] = {0, S};
    llm_rng rng = llm_rng_seed(6);
    float *q = tiny_flash23_normal(T * H * D, &rng), *k = tiny_flash23_normal(S * H * D, &rng);
    float *v = tiny_flash23_normal(S * H * D, &rng), *out = floats(T * H * D), *lse = floats(T * H);
    float *qt = floats(T * H * D), *kt = floats(S * H * D), *vt = floats(S * H * D);
    float *want = floats(T * H * D), *want_lse = floats(T * H), *got = floats(T * H * D);
    llm_flash23_config c = llm_flash23_defaults(start_q, 1, H, H, D);
    llm_gqa_config g = llm_gqa_defaults(1, H, H, T, D);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 18));
    c.start_k = start_k, g.S = S;
    tiny_flash23_turn(qt, q, T, H, D);
    tiny_flash23_turn(kt, k, S, H, D);
    tiny_flash23_turn(vt, v, S, H, D);
    llm_flash23_forward(out, lse, q, k, v, &c);
    llm_gqa_forward(want, want_lse, qt, kt, vt, &g, &arena);
    tiny_flash23_turn(got, out, T, H, D);
    CHECK_ALL_NEAR(got, want, T * H * D, 3e-6f);
    llm_arena_destroy(&arena);
}

TEST(flash23, "windows to both sides, over several tiles: the definition in doubles") {
    const size_t T = 270, S = 290, start_q[2] = {0, T}, start_k[2] = {0, S};
    const size_t sides[6][2] = {{SIZE_MAX, SIZE_MAX}, {SIZE_MAX, 5}, {70, 3},
                                {0, SIZE_MAX},        {100, 100},    {0, 0}};
    llm_rng rng = llm_rng_seed(7);
    float *q = tiny_flash23_normal(T * 2, &rng), *k = tiny_flash23_normal(S * 2, &rng);
    float *v = tiny_flash23_normal(S * 2, &rng), *out = floats(T * 2), *lse = floats(T);
    for (size_t w = 0; w < 6; w++) {
        llm_flash23_config c = llm_flash23_defaults(start_q, 1, 1, 1, 2);
        c.start_k = start_k, c.left = sides[w][0], c.right = sides[w][1];
        llm_flash23_forward(out, lse, q, k, v, &c);
        for (size_t i = 0; i < T; i++) {
            double sum = 0.0, o[2] = {0.0, 0.0};
            for (size_t j = 0; j < S; j++) {
                const double far = (double)j - (double)(i + S - T);
                if (far < -(double)c.left || far > (double)c.right) continue;
                const double s = (double)q[2 * i] * (double)k[2 * j] +
                                 (double)q[2 * i + 1] * (double)k[2 * j + 1];
                const double e = exp((double)c.scale * s);
                sum += e, o[0] += e * (double)v[2 * j], o[1] += e * (double)v[2 * j + 1];
            }
            for (size_t d = 0; d < 2; d++) CHECK_NEAR(out[2 * i + d], o[d] / sum, 2e-6);
            CHECK_NEAR(lse[i], log(sum), 2e-6);
        }
    }
}

TEST(flash23, "what is not seen is not read, other texts above all; scores of 1e4 do no harm") {
    const size_t H = 1, D = 2, T = 70, start[3] = {0, T, 2 * T};
    llm_rng rng = llm_rng_seed(2);
    float *q = tiny_flash23_normal(2 * T * D, &rng), *k = tiny_flash23_normal(2 * T * D, &rng);
    float *v = tiny_flash23_normal(2 * T * D, &rng), *out = floats(2 * T * D);
    float *lse = floats(2 * T), *want = floats(2 * T * D), *want_lse = floats(2 * T);
    llm_flash23_config c = llm_flash23_defaults(start, 2, H, H, D);
    c.left = 20;
    llm_flash23_forward(want, want_lse, q, k, v, &c);
    for (size_t at = 0; at < T; at += 23) { /* only query `at` of the second text can look */
        float *k2 = floats(2 * T * D), *v2 = floats(2 * T * D);
        for (size_t j = at > 20 ? at - 20 : 0; j <= at; j++)
            for (size_t d = 0; d < D; d++) {
                k2[(T + j) * D + d] = k[(T + j) * D + d];
                v2[(T + j) * D + d] = v[(T + j) * D + d];
            }
        llm_flash23_forward(out, lse, q, k2, v2, &c);
        CHECK_ALL_NEAR(out + (T + at) * D, want + (T + at) * D, D, 1e-6f);
        CHECK_NEAR(lse[T + at], want_lse[T + at], 1e-6);
    }
    for (size_t i = 0; i < 2 * T * D; i++) q[i] *= 100.0f, k[i] *= 100.0f;
    llm_flash23_forward(out, lse, q, k, v, &c);
    for (size_t i = 0; i < 2 * T * D; i++) CHECK(isfinite(out[i]) && isfinite(lse[i / D]));
    CHECK_ALL_NEAR(out, v, D, 0.0f);

    c.Hkv = 0;
    CHECK_ASSERTS(llm_flash23_forward(out, lse, q, k, v, &c));
    c.H = 3, c.Hkv = 2;
    CHECK_ASSERTS(llm_flash23_forward(out, lse, q, k, v, &c));
}
