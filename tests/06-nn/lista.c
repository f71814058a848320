/* @lista */
#include "../test.h"

#include "../../llm.h"

enum { K = 5, D = 4, N = 6, T = 3 };

static llm_arena arena_of(size_t bytes) {
    llm_arena a = {(unsigned char *)test_memory(bytes, 1), bytes, 0, 0};
    return a;
}

static float *weights(void) {
    float *w = floats(K * (D + K + 1));
    memcpy(w, golden("net/W"), K * D * sizeof(float));
    memcpy(w + K * D, golden("net/S"), K * K * sizeof(float));
    memcpy(w + K * (D + K), golden("net/theta"), K * sizeof(float));
    return w;
}

TEST(lista, "codes of every round and all gradients equal the recurrence under autograd") {
    const llm_lista m = {K, D, T};
    const float *w = weights(), *x = golden("net/x");
    float *c = floats(T * N * K), *z = floats(T * N * K), *dw = zeros(llm_lista_param_count(&m));
    llm_arena a = arena_of(4096);
    CHECK(llm_lista_param_count(&m) == K * (D + K + 1));
    llm_lista_forward(c, z, &m, w, x, N);
    CHECK_GOLDEN(c, T * N * K, 1e-6f, "net/c");
    for (size_t turn = 0; turn < 2; turn++) /* the second adds */
        llm_lista_backward(dw, golden("net/dc"), &m, c, z, w, x, N, &a);
    for (size_t i = 0; i < llm_lista_param_count(&m); i++) dw[i] *= 0.5f;
    CHECK_GOLDEN(dw, K * D, 2e-6f, "net/dW");
    CHECK_GOLDEN(dw + K * D, K * K, 2e-6f, "net/dS");
    CHECK_GOLDEN(dw + K * (D + K), K, 2e-6f, "net/dtheta");
    CHECK(a.used == 0);
}

TEST(lista, "a number exactly at the threshold is cut off, and so is its gradient") {
    const llm_lista m = {1, 1, 2};
    const float w[3] = {1.0f, 0.0f, 0.5f}, x[2] = {0.5f, -0.5f}, dc[2] = {1.0f, 1.0f};
    float c[4], z[4], dw[3] = {0.0f, 0.0f, 0.0f};
    llm_arena a = arena_of(1024);
    llm_lista_forward(c, z, &m, w, x, 2);
    llm_lista_backward(dw, dc, &m, c, z, w, x, 2, &a);
    for (size_t i = 0; i < 4; i++) CHECK(c[i] == 0.0f && fabsf(z[i]) == 0.5f);
    for (size_t i = 0; i < 3; i++) CHECK(dw[i] == 0.0f);
}

/* A dictionary of 16 atoms in 8 dimensions, signals of three of them. */
enum { ATOMS = 16, SIZE = 8 };
static void draw(float *x, const float *d, size_t n, llm_rng *rng) {
    for (size_t i = 0; i < n * SIZE; i++) x[i] = 0.0f;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < 3; k++) {
            const size_t atom = llm_rng_below(rng, ATOMS);
            const float share = llm_rng_normal(rng);
            for (size_t j = 0; j < SIZE; j++) x[i * SIZE + j] += share * d[atom * SIZE + j];
        }
}

TEST(lista, "with ISTA's weights it is ISTA; trained, three rounds are worth many of ISTA's") {
    enum { BATCH = 64, FRESH = 200 };
    llm_arena a = arena_of(1 << 20);
    {
        const uint64_t seed = 1;
        const llm_lista m = {ATOMS, SIZE, 3};
        const size_t P = llm_lista_param_count(&m);
        llm_rng rng = llm_rng_seed(seed);
        static float d[ATOMS * SIZE], x[BATCH * SIZE], fresh[FRESH * SIZE];
        static float c[3 * FRESH * ATOMS], z[3 * FRESH * ATOMS], want[FRESH * ATOMS];
        static float right[BATCH * ATOMS], dc[BATCH * ATOMS];
        float *w = floats(P), *g = floats(P), *m1 = zeros(P), *m2 = zeros(P);
        llm_wasserstein_directions(d, ATOMS, SIZE, &rng); /* unit vectors */
        llm_lista_init(w, &m, d, 0.1, &a);
        CHECK(a.used == 0);
        draw(fresh, d, FRESH, &rng);
        llm_lista_forward(c, z, &m, w, fresh, FRESH);
        memset(want, 0, sizeof want);
        llm_sparse_coding_fista(want, fresh, d, FRESH, ATOMS, SIZE, 0.1, 3, false, &a);
        CHECK_ALL_NEAR(c + 2 * FRESH * ATOMS, want, FRESH * ATOMS, 1e-5f);

        llm_adamw_config adam = llm_adamw_defaults();
        adam.weight_decay = 0.0f;
        for (size_t step = 1; step <= 500; step++) {
            draw(x, d, BATCH, &rng);
            memset(right, 0, sizeof right);
            llm_sparse_coding_fista(right, x, d, BATCH, ATOMS, SIZE, 0.1, 60, true, &a);
            memset(g, 0, P * sizeof(float));
            llm_lista_forward(c, z, &m, w, x, BATCH);
            for (size_t i = 0; i < BATCH * ATOMS; i++)
                dc[i] = (c[2 * BATCH * ATOMS + i] - right[i]) / BATCH;
            llm_lista_backward(g, dc, &m, c, z, w, x, BATCH, &a);
            adam.lr = 3e-3f;
            llm_adamw_step(w, m1, m2, g, P, &adam, step);
        }
        memset(want, 0, sizeof want);
        llm_sparse_coding_fista(want, fresh, d, FRESH, ATOMS, SIZE, 0.1, 2000, true, &a);
        llm_lista_forward(c, z, &m, w, fresh, FRESH);
        double off = 0.0, all = 0.0;
        for (size_t i = 0; i < FRESH * ATOMS; i++) {
            off += pow((double)(c[2 * FRESH * ATOMS + i] - want[i]), 2.0);
            all += (double)want[i] * (double)want[i];
        }
        static float ista[FRESH * ATOMS];
        double by = 0.0;
        memset(ista, 0, sizeof ista);
        llm_sparse_coding_fista(ista, fresh, d, FRESH, ATOMS, SIZE, 0.1, 12, false, &a);
        for (size_t i = 0; i < FRESH * ATOMS; i++) by += pow((double)(ista[i] - want[i]), 2.0);
        CHECK(by / all > 0.2 && by / all < 0.4);
        CHECK(off <
              by); /* seeds 1 to 10: better than 24 rounds of ISTA too, in two cases than 48 */
    }
}
