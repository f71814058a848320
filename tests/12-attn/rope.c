/* @rope */
#include "../test.h"

#include "../../llm.h"

enum { B = 2, H = 2, T = 3 }; /* of the golden values */

/* Forward, in place too, and backward from a nonzero gradient, against the arrays of that name. */
static void rope_check(const char *name, const float *cosine, const float *sine, size_t D,
                       size_t rot, llm_rope_pairing pairing) {
    const size_t n = B * H * T * D;
    const float *x = golden("%s/x", name), *dy = golden("%s/dy", name);
    float *y = floats(n), *dx = floats(n), *want = golden("%s/dx", name);
    llm_rope_forward(y, x, cosine, sine, B, H, T, D, rot, pairing);
    /* transformers rounds the angles, up to 50, to float: 2e-6 */
    CHECK_GOLDEN(y, n, 5e-6f, "%s/y", name);
    memcpy(dx, x, n * sizeof(float));
    llm_rope_forward(dx, dx, cosine, sine, B, H, T, D, rot, pairing);
    CHECK_ALL_NEAR(dx, y, n, 0.0f);
    for (size_t i = 0; i < n; i++) dx[i] = x[i], want[i] += x[i];
    llm_rope_backward(dx, dy, cosine, sine, B, H, T, D, rot, pairing);
    CHECK_ALL_NEAR(dx, want, n, 1e-5f);
}

TEST(rope,
     "equals Llama's halves and GPT-NeoX's partial halves in transformers, forward and backward") {
    const char *names[2] = {"llama", "neox"};
    const size_t widths[2][2] = {{8, 8}, {10, 6}}; /* D, rot */
    const float theta[2] = {500.0f, 10000.0f};
    for (size_t m = 0; m < 2; m++) {
        const size_t rot = widths[m][1];
        float *inv_freq = floats(rot / 2), *c = floats(B * T * rot / 2),
              *s = floats(B * T * rot / 2);
        llm_rope_inv_freq(inv_freq, rot, theta[m]);
        CHECK_ALL_CLOSE(inv_freq, golden("%s/inv_freq", names[m]), rot / 2, 4e-7f); /* float pow */
        llm_rope_table(c, s, as_ints(golden("%s/pos", names[m]), B * T), inv_freq, B * T, rot);
        rope_check(names[m], c, s, widths[m][0], rot, LLM_ROPE_HALVES);
    }
}

TEST(rope, "equals GPT-J's neighbours and Qwen2-VL's three axes in transformers") {
    float inv_freq[6], c[B * T * 6], s[B * T * 6];
    llm_rope_inv_freq(inv_freq, 4, 10000.0f);
    llm_rope_table(c, s, as_ints(golden("gptj/pos"), B * T), inv_freq, B * T, 4);
    rope_check("gptj", c, s, 7, 4, LLM_ROPE_NEIGHBOURS);

    const size_t section[3] = {1, 3, 2};
    size_t wrong[3] = {1, 3, 3};
    const int *pos = as_ints(golden("qwen2vl/pos"), 3 * B * T);
    llm_rope_inv_freq(inv_freq, 12, 1e6f);
    llm_rope_mrope_table(c, s, pos, section, inv_freq, B * T, 12);
    rope_check("qwen2vl", c, s, 12, 12, LLM_ROPE_HALVES);
    CHECK_ASSERTS(llm_rope_mrope_table(c, s, pos, wrong, inv_freq, 1, 12));
    CHECK_ASSERTS(llm_rope_mrope_table(c, s, pos, section, inv_freq, 1, 13));
    wrong[2] = 0;
    CHECK_ASSERTS(llm_rope_mrope_table(c, s, pos, wrong, inv_freq, 1, 9));
}

TEST(rope, "is the complex product (x_a + i x_b) exp(i t f) for every width, in either layout") {
    const size_t widths[][2] = {{1, 0}, {2, 2}, {3, 2}, {6, 4}, {17, 16}, {64, 64}}; /* D, rot */
    llm_rng rng = llm_rng_seed(1);
    for (size_t w = 0; w < 6; w++) {
        const size_t D = widths[w][0], rot = widths[w][1], half = rot / 2, N = 5;
        float *inv_freq = floats(half), *c = floats(N * half), *s = floats(N * half);
        float *x = floats(3 * N * D), *y = floats(3 * N * D), *back = zeros(3 * N * D);
        llm_rng_normal_fill(&rng, x, 3 * N * D);
        llm_rope_inv_freq(inv_freq, rot, 10000.0f);
        llm_rope_table(c, s, NULL, inv_freq, N, rot); /* positions 0 .. 4, shared by three heads */
        for (int p = 0; p < 2; p++) {
            const llm_rope_pairing pairing = p ? LLM_ROPE_NEIGHBOURS : LLM_ROPE_HALVES;
            llm_rope_forward(y, x, c, s, 1, 3, N, D, rot, pairing);
            for (size_t r = 0; r < 3 * N; r++) {
                const float *xr = x + r * D, *yr = y + r * D;
                for (size_t i = 0; i < half; i++) {
                    const size_t a = p ? 2 * i : i, b = p ? 2 * i + 1 : i + half;
                    const double size = hypot((double)xr[a], (double)xr[b]);
                    const double turned = atan2((double)xr[b], (double)xr[a]) +
                                          (double)(r % N) * pow(10000.0, -(double)i / (double)half);
                    CHECK_NEAR(yr[a], size * cos(turned), 1e-6); /* float sines times 4 */
                    CHECK_NEAR(yr[b], size * sin(turned), 1e-6);
                }
                for (size_t d = rot; d < D; d++) CHECK(yr[d] == xr[d]);
            }
            /* forward then backward is the identity */
            for (size_t i = 0; i < 3 * N * D; i++) back[i] = 0.0f;
            llm_rope_backward(back, y, c, s, 1, 3, N, D, rot, pairing);
            CHECK_ALL_NEAR(back, x, 3 * N * D, 2e-6f);
        }
    }
}

/* q.k with q at position m and k at n; float_angles is the mistake of multiplying in float. */
static double rope_score(const float *q, const float *k, int m, int n, size_t D,
                         bool float_angles) {
    enum { MOST = 128 };
    float inv_freq[MOST / 2], c[MOST], s[MOST], x[2 * MOST];
    const int pos[2] = {m, n};
    llm_rope_inv_freq(inv_freq, D, 10000.0f);
    llm_rope_table(c, s, pos, inv_freq, 2, D);
    for (size_t i = 0; float_angles && i < D; i++) {
        const float angle = (float)pos[i / (D / 2)] * inv_freq[i % (D / 2)];
        c[i] = cosf(angle), s[i] = sinf(angle);
    }
    memcpy(x, q, D * sizeof(float));
    memcpy(x + D, k, D * sizeof(float));
    llm_rope_forward(x, x, c, s, 2, 1, 1, D, D, LLM_ROPE_HALVES);
    return dot(x, x + D, D);
}

TEST(rope, "q_m.k_n depends on m - n only, up to positions of 1e5; float angles would not do") {
    enum { D = 128 };
    float q[D], k[D];
    llm_rng rng = llm_rng_seed(2);
    double worst_float = 0.0;
    for (size_t trial = 0; trial < 10; trial++) {
        llm_rng_normal_fill(&rng, q, D);
        llm_rng_normal_fill(&rng, k, D);
        const int distance = (int)llm_rng_below(&rng, 50);
        const double want = rope_score(q, k, distance, 0, D, false);
        for (int shift = 1; shift <= 100000; shift *= 10) {
            CHECK_NEAR(rope_score(q, k, shift + distance, shift, D, false), want, 1e-4);
            CHECK_NEAR(rope_score(q, k, shift, shift + distance, D, false),
                       rope_score(q, k, 0, distance, D, false), 1e-4);
            worst_float =
                fmax(worst_float, fabs(rope_score(q, k, shift + distance, shift, D, true) - want));
        }
        if (distance) CHECK(fabs(rope_score(q, k, 2 * distance, 0, D, false) - want) > 1e-2);
        CHECK_NEAR(rope_score(q, k, 777, 777, D, false), dot(q, k, D), 1e-4);
    }
    CHECK(worst_float > 4e-3); /* 0.009 to 0.024 over seeds 11 to 18 */
}

TEST(rope,
     "permuted weights and biases give the same scores in the other layout, and permute back") {
    const size_t C = 5, D = 7, rot = 6, n = H * D * C;
    float *w = floats(n), *b = floats(H * D), *x = floats(T * C), *to = floats(n),
          *bias = floats(H * D);
    float *q = floats(T * H * D), *k = floats(T * H * D), *back = floats(n), inv_freq[3], c[3 * T],
          s[3 * T];
    llm_rng rng = llm_rng_seed(3);
    llm_rng_normal_fill(&rng, w, n);
    llm_rng_normal_fill(&rng, b, H * D);
    llm_rng_normal_fill(&rng, x, T * C);
    llm_rope_inv_freq(inv_freq, rot, 100.0f);
    llm_rope_table(c, s, NULL, inv_freq, T, rot);
    for (int p = 0; p < 2; p++) {
        const llm_rope_pairing pairing = p ? LLM_ROPE_NEIGHBOURS : LLM_ROPE_HALVES;
        llm_rope_permute_weights(to, w, H, D, C, rot, pairing);
        llm_rope_permute_weights(bias, b, H, D, 1, rot, pairing);
        llm_matmul_forward(q, x, w, b, T, C, H * D); /* (T,H,D): heads inside */
        llm_matmul_forward(k, x, to, bias, T, C, H * D);
        llm_rope_permute_weights(back, to, H, D, C, rot, p ? LLM_ROPE_HALVES : LLM_ROPE_NEIGHBOURS);
        CHECK_ALL_NEAR(back, w, n, 0.0f);
        llm_rope_forward(q, q, c, s, T, H, 1, D, rot, p ? LLM_ROPE_HALVES : LLM_ROPE_NEIGHBOURS);
        llm_rope_forward(k, k, c, s, T, H, 1, D, rot, pairing);
        for (size_t i = 0; i < T; i++)
            for (size_t j = 0; j < T; j++)
                for (size_t h = 0; h < H; h++)
                    CHECK_NEAR(dot(k + (i * H + h) * D, k + (j * H + h) * D, D),
                               dot(q + (i * H + h) * D, q + (j * H + h) * D, D), 2e-5);
    }
}

TEST(rope, "an odd or too large part is refused; nothing is something") {
    float x[4] = {1, 2, 3, 4}, c[2] = {1, 1}, s[2] = {0, 0};
    CHECK_ASSERTS(llm_rope_inv_freq(c, 3, 10.0f));
    CHECK_ASSERTS(llm_rope_inv_freq(c, 2, 0.0f));
    CHECK_ASSERTS(llm_rope_table(c, s, NULL, c, 1, 3));
    CHECK_ASSERTS(llm_rope_forward(x, x, c, s, 1, 1, 1, 4, 3, LLM_ROPE_HALVES));
    CHECK_ASSERTS(llm_rope_forward(x, x, c, s, 1, 1, 1, 2, 4, LLM_ROPE_HALVES));
    CHECK_ASSERTS(llm_rope_backward(x, c, c, s, 1, 1, 1, 4, 3, LLM_ROPE_HALVES));
    CHECK_ASSERTS(llm_rope_backward(x, c, c, s, 1, 1, 1, 2, 4, LLM_ROPE_HALVES));
    CHECK_ASSERTS(llm_rope_permute_weights(c, x, 1, 4, 1, 3, LLM_ROPE_HALVES));
    CHECK_ASSERTS(llm_rope_permute_weights(c, x, 1, 2, 1, 4, LLM_ROPE_HALVES));
    float to[4];
    llm_rope_permute_weights(to, x, 1, 4, 1, 4, LLM_ROPE_NEIGHBOURS);
    CHECK(to[0] == 1.0f && to[1] == 3.0f && to[2] == 2.0f && to[3] == 4.0f);
    llm_rope_inv_freq(to, 4, 0.25f);
    CHECK(to[0] == 1.0f && to[1] == 2.0f);
    llm_rope_forward(x, x, c, s, 1, 0, 1, 4, 4, LLM_ROPE_HALVES);
    llm_rope_forward(x, x, c, s, 1, 1, 0, 4, 4, LLM_ROPE_HALVES);
    CHECK(x[0] == 1.0f && x[3] == 4.0f);
}
