/* @deep_net */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

/* The sizes {1, 2, ..., 2, 1} with k hidden layers. */
static llm_mlp dn_saw(size_t *size, size_t k) {
    const llm_mlp m = {size, k + 1, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_MSE};
    for (size_t l = 0; l <= k + 1; l++) size[l] = l == 0 || l == k + 1 ? 1 : 2;
    return m;
}

/* The triangle wave with 2^k pieces on [0,1]: distance to the nearest even multiple of 2^-k. */
static double dn_wave(double x, size_t k) {
    const double at = x * ldexp(1.0, (int)k), near_even = 2.0 * floor(0.5 * at + 0.5);
    return fabs(at - near_even);
}

TEST(deep_net, "k layers of two units are a triangle wave of 2^k pieces, exactly") {
    const float zero[1] = {0.0f}, one[1] = {1.0f};
    for (size_t k = 1; k <= 10; k++) {
        size_t size[12];
        const llm_mlp m = dn_saw(size, k);
        const size_t P = llm_mlp_param_count(&m);
        float *w = floats(P), *x = floats(4097), *y = floats(4097);
        llm_arena arena = test_arena(1 << 22);
        CHECK(P == 6 * k + 1);
        llm_deep_net_sawtooth(w, k);
        for (size_t i = 0; i <= 4096; i++) x[i] = (float)i / 4096.0f;
        llm_mlp_outputs(y, &m, w, x, 4097, 64, &arena);
        for (size_t i = 0; i <= 4096; i++) CHECK((double)y[i] == dn_wave((double)x[i], k));
        CHECK(llm_deep_net_pieces_1d(&m, w, zero, one, 3000, &arena) == (size_t)1 << k);
        CHECK(llm_deep_net_pieces_1d(&m, w, one, zero, 3000, &arena) == (size_t)1 << k);
        CHECK(llm_deep_net_most_pieces(size, k + 1) == pow(3.0, (double)k));
        CHECK(arena.used == 0);
    }
    float w[1];
    CHECK_ASSERTS(llm_deep_net_sawtooth(w, 0));
}

TEST(deep_net, "one hidden layer needs a unit for each of the 2^k pieces, and never has more than "
               "its units and one") {
    const float zero[1] = {0.0f}, one[1] = {1.0f}, low[1] = {-3.0f}, high[1] = {3.0f};
    for (size_t k = 1; k <= 7; k++) { /* the same wave, by @neural_net */
        const size_t n = ((size_t)1 << k) + 1, size[3] = {1, n - 1, 1};
        const llm_mlp m = {size, 2, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_MSE};
        float *x = floats(n), *y = floats(n), *w = floats(3 * n - 2);
        llm_arena arena = test_arena(1 << 22);
        for (size_t i = 0; i < n; i++) x[i] = (float)i / (float)(n - 1), y[i] = (float)(i % 2);
        CHECK(llm_neural_net_interpolate_1d(w, x, y, n, &arena));
        CHECK(llm_deep_net_pieces_1d(&m, w, zero, one, 1000, &arena) == n - 1);
        w[2 * (n - 1) + (n - 2)] = 0.0f; /* without the last unit */
        CHECK(llm_deep_net_pieces_1d(&m, w, zero, one, 1000, &arena) == n - 2);
    }
    for (uint64_t seed = 1; seed <= 5; seed++) {
        const size_t size[3] = {1, 13, 1};
        const llm_mlp m = {size, 2, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_MSE};
        float w[40], corner[13], slope[14];
        llm_rng rng = llm_rng_seed(seed);
        llm_arena arena = test_arena(1 << 22);
        llm_rng_normal_fill(&rng, w, 40);
        const size_t count = llm_relu_regions_1d(corner, slope, w, w + 13, w + 26, 13, &arena);
        size_t inside = 0;
        for (size_t i = 0; i < count; i++) inside += corner[i] > -3.0f && corner[i] < 3.0f;
        const size_t pieces = llm_deep_net_pieces_1d(&m, w, low, high, 1000, &arena);
        CHECK(pieces == inside + 1 && pieces <= 14);
    }
    /* the deep one of 1024 pieces has 61 numbers, the shallow one 3 * 1024 + 1 */
    CHECK(3 * 1024 + 1 > 50 * (6 * 10 + 1));
}

/* Pieces counted by brute force: second differences on a fine grid, runs of them merged. */
static size_t dn_sampled(const llm_mlp *m, const float *w, const float *a, const float *b) {
    const size_t n = 400000, D = m->size[0];
    double last = 0.0, before = 0.0, slope = 0.0;
    size_t pieces = 1, since = 9;
    for (size_t i = 0; i <= n; i++) {
        double h[32], z[32];
        const double t = (double)i / (double)n;
        for (size_t d = 0; d < D; d++) h[d] = (double)a[d] + t * ((double)b[d] - (double)a[d]);
        for (size_t l = 1; l <= m->layers; l++) {
            const llm_mlp_view v = llm_mlp_layer(m, l);
            for (size_t o = 0; o < v.out; o++) {
                z[o] = (double)w[v.bias + o];
                for (size_t c = 0; c < v.in; c++) z[o] += (double)w[v.weight + o * v.in + c] * h[c];
            }
            for (size_t o = 0; o < v.out; o++) h[o] = l < m->layers ? fmax(z[o], 0.0) : z[o];
        }
        slope = (h[0] - last) * (double)n;
        since++;
        if (i > 1 && fabs(slope - before) > 1e-7 && since > 2) pieces++, since = 1;
        if (i > 0) before = slope;
        last = h[0];
    }
    return pieces;
}

TEST(deep_net, "random nets: the count equals dense sampling and stays far below the bound") {
    const size_t size[6] = {3, 6, 6, 6, 6, 1}, deep[10] = {2, 16, 16, 16, 16, 16, 16, 16, 16, 1};
    for (uint64_t seed = 1; seed <= 3; seed++) {
        const llm_mlp m = {size, 5, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_MSE};
        float *w = floats(llm_mlp_param_count(&m)), a[3], b[3];
        llm_rng rng = llm_rng_seed(seed);
        llm_arena arena = test_arena(1 << 22);
        llm_mlp_init(w, &m, &rng);
        for (size_t l = 1; l <= 5; l++) { /* biases, or all corners lie at 0 */
            const llm_mlp_view v = llm_mlp_layer(&m, l);
            llm_rng_normal_fill(&rng, w + v.bias, v.out);
        }
        llm_rng_normal_fill(&rng, a, 3);
        for (size_t d = 0; d < 3; d++) b[d] = -2.0f * a[d] + 0.5f, a[d] *= 3.0f;
        const size_t pieces = llm_deep_net_pieces_1d(&m, w, a, b, 1000, &arena);
        CHECK(pieces > 1 && pieces == dn_sampled(&m, w, a, b));
        CHECK(llm_deep_net_most_pieces(size, 5) == 7.0 * 7.0 * 7.0 * 7.0);
    }
    const llm_mlp m = {deep, 9, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_MSE};
    for (uint64_t seed = 1; seed <= 3; seed++) {
        float *w = floats(llm_mlp_param_count(&m)), a[2] = {-3.0f, -2.0f}, b[2] = {3.0f, 4.0f};
        llm_rng rng = llm_rng_seed(seed);
        llm_arena arena = test_arena(1 << 22);
        llm_mlp_init(w, &m, &rng);
        for (size_t l = 1; l <= 9; l++) {
            const llm_mlp_view v = llm_mlp_layer(&m, l);
            llm_rng_normal_fill(&rng, w + v.bias, v.out);
            for (size_t o = 0; o < v.out; o++) w[v.bias + o] *= 0.3f;
        }
        const size_t pieces = llm_deep_net_pieces_1d(&m, w, a, b, 2000, &arena);
        CHECK(pieces > 8 && pieces < 400); /* seeds 4 to 27: 62 to 144 */
        CHECK(llm_deep_net_most_pieces(deep, 9) > 1e9);
        CHECK(llm_deep_net_pieces_1d(&m, w, a, b, 8, &arena) == 0); /* no room */
    }
}

TEST(deep_net, "points where the slope stays are no corners, at any scale; only the first output") {
    enum { U = 22 };
    const size_t size[3] = {1, U, 2};
    const llm_mlp m = {size, 2, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_MSE};
    const float low[1] = {-0.1f}, high[1] = {1.3f}, scale[4] = {1.0f, 1e-10f, 1e10f, 0.0f};
    float w[4 * U + 2], *first = w + 2 * U, *second = first + U;
    llm_rng rng = llm_rng_seed(1);
    llm_arena arena = test_arena(1 << 16);
    for (size_t k = 0; k < 4; k++) {
        for (size_t u = 0; u < U; u++) { /* corners nobody reads in the first output */
            w[u] = 1.0f, w[U + u] = -llm_rng_uniform(&rng);
            first[u] = 0.0f, second[u] = llm_rng_normal(&rng);
        }
        w[0] = -1.0f, w[U] = -1.0f, first[0] = scale[k];           /* off from 0 to 1 */
        w[1] = 1.0f, w[U + 1] = 1.0f, first[1] = -0.3f * scale[k]; /* on */
        w[U + 2] = -0.4f, first[2] = scale[k];                     /* the only corner */
        w[4 * U] = 0.0f, w[4 * U + 1] = 0.2f;
        CHECK(llm_deep_net_pieces_1d(&m, w, low, high, 100, &arena) == (k < 3 ? 2 : 1));
    }
    for (size_t u = 0; u < U; u++) first[u] = 0.0f; /* 1, 1 + 1e-8 and 1001: two, of the largest */
    first[1] = 1.0f, first[2] = 1e-8f, first[3] = 1e3f, w[U + 3] = -0.9f;
    CHECK(llm_deep_net_pieces_1d(&m, w, low, high, 100, &arena) == 2);
}

TEST(deep_net, "pieces shorter than 1e-12 of the segment are not counted") {
    const size_t size[4] = {1, 3, 3, 1};
    const llm_mlp m = {size, 3, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_MSE};
    const float zero[1] = {0.0f}, one[1] = {1.0f}, length[2] = {5e-13f, 1.5e-12f};
    llm_arena arena = test_arena(1 << 16);
    for (size_t k = 0; k < 2; k++) { /* corners at 1e-11, so much behind it, and 3e-11 */
        const float w[22] = {1.0f,       1.0f, 1.0f, 0.0f, -1e-11f, -3e-11f, 1.0f, 1.0f,
                             0.0f,       0.0f, 1.0f, 0.0f, 0.0f,    0.0f,    1.0f, 0.0f,
                             -length[k], 0.0f, 1.0f, 2.0f, 4.0f,    0.0f};
        CHECK(llm_deep_net_pieces_1d(&m, w, zero, one, 100, &arena) == 3 + k);
    }
}

TEST(deep_net, "there is room for the widest layer, be it the first or the last") {
    const size_t in[3] = {9, 1, 1}, out[3] = {1, 1, 9};
    const llm_mlp wide = {in, 2, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_MSE};
    const llm_mlp many = {out, 2, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_MSE};
    float w[20], a[9], b[9];
    llm_arena arena = test_arena(1 << 16);
    for (size_t i = 0; i < 9; i++) a[i] = -1.0f, b[i] = 1.0f;
    for (size_t i = 0; i < 20; i++) w[i] = i == 9 || i == 11 ? 0.0f : 1.0f;
    CHECK(llm_deep_net_pieces_1d(&wide, w, a, b, 3, &arena) == 2);
    for (size_t i = 0; i < 20; i++) w[i] = i == 1 ? 0.0f : 1.0f;
    CHECK(llm_deep_net_pieces_1d(&many, w, a, b, 3, &arena) == 2);
}

TEST(deep_net, "squares miss by 4^-(m+1), products by at most three times that") {
    for (size_t m = 0; m <= 8; m++) {
        double most = 0.0, product = 0.0;
        const double bound = ldexp(1.0, -2 * (int)m - 2);
        for (int i = 0; i <= 3 << 11; i++) {
            const double x = (double)i / (double)(3 << 11);
            most = fmax(most, fabs(llm_deep_net_square(x, m) - x * x));
            for (int j = 0; j <= 96; j += 5) {
                const double y = (double)j / 96.0;
                product = fmax(product, fabs(llm_deep_net_product(x, y, m) - x * y));
            }
        }
        CHECK(most <= bound * (1.0 + 1e-9) && most > 0.95 * bound);
        CHECK(product <= 3.0 * bound * (1.0 + 1e-9) && product > 0.5 * bound);
    }
    CHECK(llm_deep_net_tent(0.5) == 1.0 && llm_deep_net_tent(-1.0) == 0.0);
    CHECK(llm_deep_net_tent(0.25) == 0.5 && llm_deep_net_tent(1.0) == 0.0);
}

TEST(deep_net, "only ReLU, and room for two points at least") {
    size_t size[3];
    llm_mlp m = dn_saw(size, 1);
    const float w[7] = {1.0f, 1.0f, 0.0f, -0.5f, 2.0f, -4.0f, 0.0f}, zero[1] = {0.0f},
                one[1] = {1.0f};
    llm_arena arena = test_arena(1 << 22);
    CHECK(llm_deep_net_pieces_1d(&m, w, zero, one, 3, &arena) == 2);
    CHECK(llm_deep_net_pieces_1d(&m, w, zero, one, 2, &arena) == 0);
    CHECK_ASSERTS(llm_deep_net_pieces_1d(&m, w, zero, one, 1, &arena));
    m.act = LLM_ACTIVATION_TANH;
    CHECK_ASSERTS(llm_deep_net_pieces_1d(&m, w, zero, one, 9, &arena));
}
