/* @output_layer_density */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

TEST(output_layer_density, "ordered classes: probabilities, loss and gradients equal autograd's") {
    const size_t shape[3][2] = {{1, 2}, {9, 3}, {11, 6}};
    for (size_t s = 0; s < 3; s++) {
        const size_t N = shape[s][0], K = shape[s][1];
        const float *z = golden("ordered/%zux%zu/z", N, K);
        const float *theta = golden("ordered/%zux%zu/theta", N, K);
        const int *label = as_ints(golden("ordered/%zux%zu/label", N, K), N);
        float *p = floats(N * K), *dz = floats(N), *dtheta = zeros(K - 1), loss[1];
        double cut[5];
        llm_arena arena = test_arena(1 << 18);
        llm_output_layer_cuts(cut, theta, K);
        for (size_t k = 1; k + 1 < K; k++) CHECK(cut[k] > cut[k - 1]);
        llm_output_layer_ordered_predict(p, z, theta, N, K, &arena);
        CHECK_GOLDEN(p, N * K, 1e-6f, "ordered/%zux%zu/p", N, K);
        for (size_t twice = 0; twice < 2; twice++)
            loss[0] =
                (float)llm_output_layer_ordered_loss(dz, dtheta, z, theta, label, N, K, &arena);
        for (size_t k = 0; k + 1 < K; k++) dtheta[k] /= 2.0f;
        CHECK_GOLDEN(loss, 1, 1e-6f, "ordered/%zux%zu/loss", N, K);
        CHECK_GOLDEN(dz, N, 1e-6f, "ordered/%zux%zu/dz", N, K);
        CHECK_GOLDEN(dtheta, K - 1, 1e-6f, "ordered/%zux%zu/dtheta", N, K);
        llm_output_layer_ordered_loss(dz, NULL, z, theta, label, N, K, &arena);
        CHECK((float)llm_output_layer_ordered_loss(NULL, dtheta, z, theta, label, N, K, &arena) ==
              loss[0]);
        CHECK_GOLDEN(dtheta, K - 1, 1e-6f, "ordered/%zux%zu/dtheta", N, K); /* untouched */
        CHECK(arena.used == 0);
    }
}

TEST(output_layer_density, "ordered: gradients agree with differences; far scores stay finite") {
    enum { N = 5, K = 4 };
    float z[N] = {-1.0f, 0.5f, 2.0f, 0.0f, 1.0f}, theta[K - 1] = {-0.5f, 0.25f, -1.0f}, dz[N];
    float dtheta[K - 1] = {0}, far[2] = {1000.0f, -1000.0f};
    const int label[N] = {0, 1, 3, 2, 1}, wrong[2] = {0, 3}, middle[2] = {1, 2}, bad[1] = {4};
    llm_arena arena = test_arena(1 << 18);
    llm_output_layer_ordered_loss(dz, dtheta, z, theta, label, N, K, &arena);
    CHECK_GRAD(dz, z, N, 1e-2f, 1e-4f,
               llm_output_layer_ordered_loss(NULL, NULL, z, theta, label, N, K, &arena));
    CHECK_GRAD(dtheta, theta, K - 1, 1e-2f, 1e-4f,
               llm_output_layer_ordered_loss(NULL, NULL, z, theta, label, N, K, &arena));
    const double loss = llm_output_layer_ordered_loss(dz, dtheta, far, theta, wrong, 2, K, &arena);
    CHECK(loss > 999.0 && loss < 1001.0 && dz[0] == 0.5f && dz[1] == -0.5f);
    const double cost = llm_output_layer_ordered_loss(dz, dtheta, far, theta, middle, 2, K, &arena);
    CHECK(cost > 999.0 && cost < 1002.0 && dz[0] == 0.5f && dz[1] == -0.5f);
    CHECK(llm_output_layer_ordered_loss(dz, dtheta, z, theta, label, 0, K, &arena) == 0.0);
    CHECK_ASSERTS(llm_output_layer_ordered_loss(dz, dtheta, z, theta, bad, 1, K, &arena));
    CHECK_ASSERTS(llm_output_layer_ordered_loss(dz, dtheta, z, theta, label, 1, 1, &arena));
    CHECK_ASSERTS(llm_output_layer_ordered_predict(dz, z, theta, 1, 1, &arena));
}

TEST(output_layer_density, "a mean with its variance equals torch's gaussian_nll_loss") {
    const size_t shape[2][2] = {{1, 1}, {5, 3}};
    for (size_t s = 0; s < 2; s++) {
        const size_t N = shape[s][0], D = shape[s][1];
        const float *z = golden("normal/%zux%zu/z", N, D), *t = golden("normal/%zux%zu/t", N, D);
        float *dz = floats(2 * N * D), loss[1];
        loss[0] = (float)llm_output_layer_normal_loss(dz, z, t, N, D);
        CHECK_GOLDEN(loss, 1, 1e-6f, "normal/%zux%zu/loss", N, D);
        CHECK_GOLDEN(dz, 2 * N * D, 1e-6f, "normal/%zux%zu/dz", N, D);
        CHECK((float)llm_output_layer_normal_loss(NULL, z, t, N, D) == loss[0]);
    }
    CHECK(llm_output_layer_normal_loss(NULL, NULL, NULL, 0, 1) == 0.0);
}

TEST(output_layer_density,
     "a mixture equals torch's MixtureSameFamily; one component is a normal") {
    const size_t shape[3][3] = {{1, 1, 1}, {4, 1, 3}, {5, 2, 4}};
    llm_arena arena = test_arena(1 << 18);
    for (size_t s = 0; s < 3; s++) {
        const size_t N = shape[s][0], D = shape[s][1], M = shape[s][2], n = N * M * (2 + D);
        const float *z = golden("mixture/%zux%zux%zu/z", N, D, M);
        const float *t = golden("mixture/%zux%zux%zu/t", N, D, M);
        float *dz = floats(n), loss[1];
        loss[0] = (float)llm_output_layer_mixture_loss(dz, z, t, N, D, M, &arena);
        CHECK_GOLDEN(loss, 1, 2e-6f, "mixture/%zux%zux%zu/loss", N, D, M);
        CHECK_GOLDEN(dz, n, 3e-6f, "mixture/%zux%zux%zu/dz", N, D, M);
        CHECK((float)llm_output_layer_mixture_loss(NULL, z, t, N, D, M, &arena) == loss[0]);
        CHECK(arena.used == 0);
    }
    const float z[3] = {5.0f, 0.25f, 1.5f}, normal[2] = {1.5f, 0.5f}, t[1] = {-1.0f};
    CHECK_NEAR(llm_output_layer_mixture_loss(NULL, z, t, 1, 1, 1, &arena),
               llm_output_layer_normal_loss(NULL, normal, t, 1, 1), 1e-6);
    float far[6] = {0.0f, 0.0f, -4.0f, -4.0f, 3.0f, -3.0f}, dz[6]; /* both components far off */
    llm_output_layer_mixture_loss(dz, far, t, 1, 1, 2, &arena);
    for (size_t i = 0; i < 6; i++) CHECK(isfinite(dz[i]));
    CHECK(dz[5] < 0.0f && dz[0] > 0.49f);
    CHECK_ASSERTS(llm_output_layer_mixture_loss(NULL, z, t, 1, 1, 0, &arena));
}

/* Loss on fresh points of a net with 20 hidden units, M components or (0) a normal, trained on
 * Bishop's inverse problem: x = t + 0.3 sin(2 pi t) + noise, find t. */
static double od_inverse(size_t M, uint64_t seed) {
    const size_t n = 250, steps = 500, out = M ? 3 * M : 2, size[3] = {1, 20, out};
    const llm_mlp m = {size, 2, LLM_ACTIVATION_TANH, LLM_OUTPUT_LAYER_MSE};
    const size_t P = llm_mlp_param_count(&m);
    float *x = floats(2 * n), *t = floats(2 * n), *w = floats(P), *g = floats(P);
    float *v1 = zeros(P), *v2 = zeros(P);
    float *y = floats(n * out), *dy = floats(n * out), *cache = floats(llm_mlp_cache(&m, n));
    llm_arena arena = test_arena(1 << 18);
    llm_rng rng = llm_rng_seed(seed);
    llm_adamw_config config = llm_adamw_defaults();
    config.lr = 0.02f, config.weight_decay = 0.0f;
    for (size_t i = 0; i < 2 * n; i++) {
        t[i] = llm_rng_uniform(&rng);
        x[i] = t[i] + 0.3f * sinf(2.0f * LLM_PI * t[i]) + 0.2f * llm_rng_uniform(&rng) - 0.1f;
    }
    llm_mlp_init(w, &m, &rng);
    for (size_t k = 0; k < M; k++) /* components start side by side */
        w[llm_mlp_layer(&m, 2).bias + 2 * M + k] = ((float)k + 0.5f) / (float)M;
    double loss = 0.0;
    for (size_t step = 0; step <= steps; step++) {
        const size_t from = step == steps ? n : 0; /* at the end the fresh ones */
        for (size_t i = 0; i < P; i++) g[i] = 0.0f;
        llm_mlp_forward(y, cache, &m, w, x + from, n);
        loss = M ? llm_output_layer_mixture_loss(dy, y, t + from, n, 1, M, &arena)
                 : llm_output_layer_normal_loss(dy, y, t + from, n, 1);
        if (step == steps) break;
        llm_mlp_backward(NULL, g, dy, cache, &m, w, x, n, &arena);
        llm_adamw_step(w, v1, v2, g, P, &config, step + 1);
    }
    return loss;
}

TEST(output_layer_density, "on an inverse problem a mixture's median beats a normal's") {
    float loss[2][9];
    size_t order[9];
    for (uint64_t seed = 1; seed <= 9; seed++)
        for (size_t k = 0; k < 2; k++) loss[k][seed - 1] = (float)od_inverse(3 * k, seed);
    llm_argsort(order, loss[0], 9);
    const float normal = loss[0][order[4]];
    llm_argsort(order, loss[1], 9);
    /* eight further sets of nine seeds: 0.46 to 0.79; a start in three ends with two components as
     * one */
    CHECK(loss[1][order[4]] < normal - 0.23f);
}
