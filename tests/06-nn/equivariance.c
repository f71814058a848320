/* @equivariance */
#include "../test.h"

#include "../../llm.h"

static float *eq_normals(llm_rng *rng, size_t n) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    return x;
}
static llm_arena eq_arena(size_t bytes) {
    llm_arena arena = {(unsigned char *)test_memory(bytes + 64, 1), bytes, 0, 0};
    arena.memory += 64 - (uintptr_t)arena.memory % 64;
    return arena;
}

TEST(equivariance, "turns are the square's, four are nothing; shifts go around; a defect by hand") {
    enum { C = 2, S = 5, n = C * S * S };
    llm_rng rng = llm_rng_seed(1);
    float *x = eq_normals(&rng, n), y[n], z[n];
    for (size_t q = 0; q < 8; q++) {
        llm_equivariance_turn(y, x, C, S, q);
        llm_augmentation_square(z, x, C, S, q % 4);
        CHECK_ALL_NEAR(y, z, n, 0.0f);
    }
    const float line[6] = {1, 2, 3, 4, 5, 6}, want[6] = {6, 4, 5, 3, 1, 2};
    llm_equivariance_shift(y, line, 1, 2, 3, 1, 1);
    CHECK_ALL_NEAR(y, want, 6, 0.0f);
    llm_equivariance_shift(y, line, 1, 2, 3, 3, 4);
    CHECK_ALL_NEAR(y, want, 6, 0.0f);
    llm_equivariance_shift(y, x, 2, 3, 5, 1, 2);
    for (size_t i = 0; i < 30; i++) /* channel, row, column */
        CHECK(y[i / 15 * 15 + (i / 5 + 1) % 3 * 5 + (i % 5 + 2) % 5] == x[i]);
    llm_equivariance_symmetrize(z, line, 3, 2); /* of 1, 3, 5 and of 2, 4, 6 */
    CHECK(z[0] == 3.0f && z[1] == 4.0f);
    const float a[2] = {3.0f, 5.0f}, b[2] = {3.0f, 4.0f};
    CHECK_NEAR(llm_equivariance_defect(a, b, 2), 0.2, 1e-7);
    CHECK(llm_equivariance_defect(b, b, 2) == 0.0);
}

/* y <- 3 x 3 convolution of x (1,S,S) around the border. */
static void eq_circular(float *y, const float *x, const float *w, size_t S) {
    float *wide = floats((S + 2) * (S + 2));
    for (size_t i = 0; i < (S + 2) * (S + 2); i++)
        wide[i] = x[(i / (S + 2) + S - 1) % S * S + (i % (S + 2) + S - 1) % S];
    const llm_conv2d c = llm_conv2d_make(1, S + 2, S + 2, 1, 3, 1, 0);
    llm_conv2d_naive(y, wide, w, NULL, 1, &c);
}

TEST(equivariance, "convolution follows shifts; zeros, strides and dense layers do not") {
    enum { S = 8, n = S * S };
    double border = 0.0, odd = 0.0, blur = 0.0, dense = 0.0;
    int label[40];
    float x[40 * n];
    llm_rng rng = llm_rng_seed(2);
    llm_glyphs(x, label, 40, 1.0f, 0.05f, &rng);
    for (size_t draw = 0; draw < 40; draw++) {
        float *w = eq_normals(&rng, 9), *full = eq_normals(&rng, n * n), tx[n], y[n], ty[n],
              want[n];
        float small[n / 4], moved[n / 4], shifted[n / 4], mean[2];
        for (size_t down = 0; down < 3; down++)
            for (size_t right = 0; right < 3; right++) {
                llm_equivariance_shift(tx, x + draw * n, 1, S, S, down, right);
                eq_circular(y, x + draw * n, w, S);
                eq_circular(ty, tx, w, S);
                llm_equivariance_shift(want, y, 1, S, S, down, right);
                CHECK(llm_equivariance_defect(ty, want, n) < 1e-6);
                llm_pooling_global_forward(mean, y, 1, n);
                llm_pooling_global_forward(mean + 1, ty, 1, n);
                CHECK_NEAR(mean[0], mean[1], 1e-5);
                if (down + right == 0) continue;
                for (size_t i = 0; i < n / 4; i++) /* a stride of 2: every second pixel */
                    small[i] = y[i / 4 * 2 * S + i % 4 * 2],
                    moved[i] = ty[i / 4 * 2 * S + i % 4 * 2];
                llm_equivariance_shift(shifted, small, 1, S / 2, S / 2, down / 2, right / 2);
                const double defect = llm_equivariance_defect(moved, shifted, n / 4);
                if (down % 2 == 0 && right % 2 == 0) CHECK(defect < 1e-6);
                if (down != 0 || right != 1) continue;
                odd += defect / 40.0;
                llm_equivariance_blurpool(small, y, 1, S, S);
                llm_equivariance_blurpool(moved, ty, 1, S, S);
                blur += llm_equivariance_defect(moved, small, n / 4) / 40.0;
                const llm_conv2d c = llm_conv2d_make(1, S, S, 1, 3, 1, 1);
                llm_conv2d_naive(y, x + draw * n, w, NULL, 1, &c);
                llm_conv2d_naive(ty, tx, w, NULL, 1, &c);
                llm_equivariance_shift(want, y, 1, S, S, down, right);
                border += llm_equivariance_defect(ty, want, n) / 40.0;
                llm_matmul_naive(y, x + draw * n, full, NULL, 1, n, n);
                llm_matmul_naive(ty, tx, full, NULL, 1, n, n);
                llm_equivariance_shift(want, y, 1, S, S, down, right);
                dense += llm_equivariance_defect(ty, want, n) / 40.0;
            }
    }
    CHECK(border > 0.01);
    CHECK(odd > 0.5);
    CHECK(blur < 0.7 * odd);
    CHECK(dense > 0.5);
}

TEST(equivariance,
     "p4: turning the picture turns the answers and exchanges them, two layers deep") {
    enum { N = 2, C = 3, O = 2, Q = 2, S = 6 };
    llm_rng rng = llm_rng_seed(3);
    llm_arena arena = eq_arena(1 << 18);
    for (size_t k = 1; k < 4; k++) {
        float *x = eq_normals(&rng, N * C * S * S), *w = eq_normals(&rng, O * C * k * k);
        float *v = eq_normals(&rng, Q * O * 4 * k * k), *tx = floats(N * C * S * S);
        const size_t M = S - k + 1, L = M - k + 1, h = O * 4 * M * M, out = Q * 4 * L * L;
        float *a = floats(N * h), *ta = floats(N * h), *y = floats(N * out), *ty = floats(N * out);
        float *want = floats(N * out);
        llm_equivariance_turn(tx, x, N * C, S, 1);
        llm_equivariance_p4conv_forward(a, x, w, N, O, C, 1, S, k, 0, &arena);
        llm_equivariance_p4conv_forward(ta, tx, w, N, O, C, 1, S, k, 0, &arena);
        llm_equivariance_p4conv_forward(y, a, v, N, Q, O, 4, M, k, 0, &arena);
        llm_equivariance_p4conv_forward(ty, ta, v, N, Q, O, 4, M, k, 0, &arena);
        for (size_t p = 0; p < N * Q; p++) /* answer r is the turned answer r - 1 */
            for (size_t r = 0; r < 4; r++)
                llm_equivariance_turn(want + (p * 4 + r) * L * L, y + (p * 4 + (r + 3) % 4) * L * L,
                                      1, L, 1);
        CHECK(llm_equivariance_defect(ty, want, N * out) < 1e-5);
        /* the first answer of the first layer is the plain convolution */
        const llm_conv2d c = llm_conv2d_make(C, S, S, O, k, 1, 0);
        float *plain = floats(O * M * M);
        llm_conv2d_naive(plain, x, w, NULL, 1, &c);
        for (size_t o = 0; o < O; o++)
            CHECK_ALL_NEAR(a + o * 4 * M * M, plain + o * M * M, M * M, 1e-5f);
        CHECK(arena.used == 0);
    }
    float one[4] = {0.0f};
    CHECK_ASSERTS(llm_equivariance_p4_bank(one, one, 1, 1, 2, 1));
}

static double eq_loss(const float *x, const float *w, const float *dy, size_t turns, size_t pad,
                      llm_arena *arena) {
    const size_t S = 4 + 2 * pad - 2;
    float *y = llm_arena_floats(arena, 2 * 2 * 4 * S * S);
    llm_equivariance_p4conv_forward(y, x, w, 2, 2, 1, turns, 4, 3, pad, arena);
    const double loss = dot(y, dy, 2 * 2 * 4 * S * S);
    arena->used = 0;
    return loss;
}

TEST(equivariance, "p4: gradients of pictures and kernels agree with differences") {
    llm_rng rng = llm_rng_seed(4);
    llm_arena arena = eq_arena(1 << 18);
    for (size_t turns = 1; turns < 5; turns += 3)
        for (size_t pad = 0; pad < 2; pad++) {
            const size_t S = 2 + 2 * pad, n = 2 * turns * 16, m = 2 * turns * 9;
            float *x = eq_normals(&rng, n), *w = eq_normals(&rng, m), *dx = zeros(n),
                  *dw = zeros(m);
            float *dy = eq_normals(&rng, 2 * 2 * 4 * S * S);
            llm_equivariance_p4conv_backward(dx, dw, dy, x, w, 2, 2, 1, turns, 4, 3, pad, &arena);
            CHECK(arena.used == 0);
            /* linear in each: differences of float outputs */
            CHECK_GRAD(dx, x, n, 0.1f, 1e-4f, eq_loss(x, w, dy, turns, pad, &arena));
            CHECK_GRAD(dw, w, m, 0.1f, 1e-4f, eq_loss(x, w, dy, turns, pad, &arena));
            float *again = zeros(m), *dx2 = zeros(n);
            llm_equivariance_p4conv_backward(NULL, again, dy, x, w, 2, 2, 1, turns, 4, 3, pad,
                                             &arena);
            llm_equivariance_p4conv_backward(dx2, NULL, dy, x, w, 2, 2, 1, turns, 4, 3, pad,
                                             &arena);
            CHECK_ALL_NEAR(again, dw, m, 0.0f);
            CHECK_ALL_NEAR(dx2, dx, n, 0.0f);
        }
}

TEST(equivariance, "p4: summing a bank's gradient is the transpose of making the bank") {
    enum { O = 2, C = 3, k = 3, most = O * C * 4 * k * k };
    llm_rng rng = llm_rng_seed(7);
    llm_arena arena = eq_arena(64);
    for (size_t turns = 1; turns < 5; turns += 3) {
        const size_t n = O * C * turns * k * k;
        float *w = eq_normals(&rng, n), *z = eq_normals(&rng, 4 * n), bank[4 * most],
              *dw = zeros(n);
        llm_equivariance_p4_bank(bank, w, O, C, turns, k);
        llm_equivariance_p4_bank_backward(dw, z, O, C, turns, k, &arena);
        CHECK_NEAR(dot(bank, z, 4 * n), dot(w, dw, n), 1e-4);
        CHECK(arena.used == 0);
    }
}

TEST(equivariance, "BlurPool keeps the mean, and its backward is its transpose") {
    enum { C = 2, H = 4, W = 6, n = C * H * W };
    llm_rng rng = llm_rng_seed(5);
    float *x = eq_normals(&rng, n), *dy = eq_normals(&rng, n / 4), y[n / 4], dx[n] = {0.0f};
    float flat[n];
    llm_equivariance_blurpool(y, x, C, H, W);
    CHECK_NEAR(y[0],
               0.25 * x[0] + 0.125 * (x[1] + x[5] + x[6] + x[18]) +
                   0.0625 * (x[7] + x[11] + x[19] + x[23]),
               1e-6);
    llm_equivariance_blurpool_backward(dx, dy, C, H, W);
    CHECK_NEAR(dot(y, dy, n / 4), dot(x, dx, n), 1e-5);
    for (size_t i = 0; i < n; i++) flat[i] = 3.0f;
    llm_equivariance_blurpool(y, flat, C, H, W);
    for (size_t i = 0; i < n / 4; i++) CHECK(y[i] == 3.0f);
    CHECK_ASSERTS(llm_equivariance_blurpool(y, x, 1, 3, 4));
    CHECK_ASSERTS(llm_equivariance_blurpool(y, x, 1, 4, 3));
}

TEST(equivariance, "BlurPool goes around borders of any even length, and so does its backward") {
    enum { C = 2, H = 6, W = 10, n = C * H * W };
    const double weight[3] = {0.25, 0.5, 0.25};
    llm_rng rng = llm_rng_seed(6);
    float *x = eq_normals(&rng, n), *dy = eq_normals(&rng, n / 4), y[n / 4], dx[n] = {0.0f};
    llm_equivariance_blurpool(y, x, C, H, W);
    llm_equivariance_blurpool_backward(dx, dy, C, H, W);
    for (int i = 0; i < n; i++) {
        const int c = i / (H * W), row = i / W % H, column = i % W;
        double sum = 0.0, back = 0.0;
        for (int k = 0; k < 9; k++) {
            const double w = weight[k / 3] * weight[k % 3];
            const int r = (row + k / 3 - 1 + H) % H, q = (column + k % 3 - 1 + W) % W;
            sum += w * (double)x[(c * H + r) * W + q];
            if (r % 2 == 0 && q % 2 == 0) back += w * (double)dy[(c * H + r) * W / 4 + q / 2];
        }
        if (row % 2 == 0 && column % 2 == 0)
            CHECK_NEAR(y[(c * H + row) * W / 4 + column / 2], sum, 1e-6);
        CHECK_NEAR(dx[i], back, 1e-6);
    }
}

/* Test error on digits 0 to 8 turned by any quarters (a 9 would be a 6), of an MLP trained on 180
 * of them, plain or as the mean of its answers to the four turns; *apart: how far its answers to a
 * picture and to the turned one differ. */
static double eq_error(bool symmetric, uint64_t seed, float *apart) {
    enum { TRAIN = 200, FRESH = 500, P = LLM_GLYPHS_PIXELS, K = 10 };
    const size_t size[3] = {P, 48, K};
    const llm_mlp m = {size, 2, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_SOFTMAX};
    const size_t G = symmetric ? 4 : 1, params = llm_mlp_param_count(&m);
    float *raw = floats((TRAIN + FRESH) * P), *x = floats(G * FRESH * P),
          *z = floats(G * FRESH * K);
    float *mean = floats(FRESH * K), *dz = floats(FRESH * K), *dy = floats(G * FRESH * K);
    float *cache = floats(llm_mlp_cache(&m, G * FRESH)), *w = floats(params), *g = floats(params);
    float *v = zeros(params);
    int all[TRAIN + FRESH], label[FRESH];
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena = eq_arena(2 * G * FRESH * 48 * sizeof(float) + 128);
    llm_glyphs(raw, all, TRAIN + FRESH, 0.5f, 0.1f, &rng);
    llm_mlp_init(w, &m, &rng);
    size_t wrong = 0, total = 0;
    for (size_t step = 0; step <= 150; step++) { /* all at once; the last time, the fresh ones */
        const size_t from = step < 150 ? 0 : TRAIN, to = step < 150 ? TRAIN : TRAIN + FRESH;
        llm_rng turns = llm_rng_seed(seed + 1000 * from + 7);
        size_t N = 0;
        for (size_t i = from; i < to; i++)
            if (all[i] != 9) label[N++] = all[i];
        for (size_t i = from, n = 0; i < to; i++) {
            float turned[P];
            if (all[i] == 9) continue;
            llm_equivariance_turn(turned, raw + i * P, 1, 8, llm_rng_below(&turns, 4));
            for (size_t q = 0; q < G; q++)
                llm_equivariance_turn(x + (q * N + n) * P, turned, 1, 8, q);
            n++;
        }
        llm_mlp_forward(z, cache, &m, w, x, G * N);
        llm_equivariance_symmetrize(mean, z, G, N * K);
        if (step == 150) {
            float *picture = floats(P), answer[2 * K], part[4 * K];
            for (size_t t = 0; t < 2; t++) {
                for (size_t q = 0; q < G; q++) {
                    llm_equivariance_turn(picture, x, 1, 8, t + q);
                    llm_mlp_forward(part + q * K, cache, &m, w, picture, 1);
                }
                llm_equivariance_symmetrize(answer + t * K, part, G, K);
            }
            *apart = (float)llm_equivariance_defect(answer, answer + K, K);
            wrong = N - (size_t)(llm_output_layer_accuracy(mean, label, N, K) * (double)N + 0.5);
            total = N;
            break;
        }
        llm_output_layer_loss(dz, mean, label, NULL, N, K, LLM_OUTPUT_LAYER_SOFTMAX);
        for (size_t i = 0; i < G * N * K; i++) dy[i] = dz[i % (N * K)] / (float)G;
        memset(g, 0, params * sizeof(float));
        llm_mlp_backward(NULL, g, dy, cache, &m, w, x, G * N, &arena);
        for (size_t i = 0; i < params; i++) {
            v[i] = 0.9f * v[i] + g[i];
            w[i] -= 0.05f * v[i];
        }
    }
    return (double)wrong / (double)total;
}

TEST(equivariance, "averaged over the turns an MLP is invariant, and errs less on turned digits") {
    double plain = 0.0, symmetric = 0.0;
    float apart;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        plain += eq_error(false, seed, &apart) / 3.0;
        CHECK(apart > 0.02f);
        symmetric += eq_error(true, seed, &apart) / 3.0;
        CHECK(apart < 1e-5f);
    }
    /* Six other sets of three seeds: 0.38 to 0.52 times */
    CHECK(symmetric < 0.75 * plain);
}
