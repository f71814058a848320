/* @transformer_sublayer */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

enum { B = 2, T = 3, C = 5, N = B * T };

static float *draw(size_t n, llm_rng *rng) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    return x;
}
static llm_transformer_config config(bool pre, bool rms) {
    llm_transformer_config c = llm_transformer_preset(LLM_TRANSFORMER_GPT2);
    c.width = C, c.last_norm = pre, c.rms = rms, c.eps = 1e-3f;
    return c;
}
static llm_transformer_sublayer_view look(void) {
    llm_transformer_sublayer_view v;
    memset(&v, 0, sizeof v);
    v.B = B, v.T = v.S = T;
    return v;
}

/* f(h) = 3 h between the two halves of the frame, forward and backward. */
static void through(float *y, float *d, float *g, const float *x, const float *dy, const float *w,
                    const llm_transformer_config *c) {
    llm_arena arena = test_arena(1 << 14);
    const llm_transformer_sublayer_view v = look();
    const llm_transformer_weights_norm n = {(float *)test_memory(C, sizeof(float)),
                                            c->rms ? NULL : (float *)test_memory(C, sizeof(float))};
    const llm_transformer_weights_norm dn = {g, c->rms || !g ? NULL : g + C};
    llm_transformer_sublayer_acts a;
    memcpy(n.w, w, C * sizeof(float));
    if (n.b) memcpy(n.b, w + C, C * sizeof(float));
    llm_transformer_sublayer_begin(&a, x, &v, &n, c, &arena);
    CHECK((a.in == x) == !c->last_norm && a.x == x);
    float *f = llm_arena_floats(&arena, N * C), *din = zeros(N * C);
    for (size_t i = 0; i < N * C; i++) f[i] = 3.0f * a.in[i];
    memcpy(y, llm_transformer_sublayer_end(&a, f, &n, c, &arena), N * C * sizeof(float));
    if (!d) return;
    memcpy(d, dy, N * C * sizeof(float));
    const size_t used = arena.used;
    llm_transformer_sublayer_end_backward(d, &dn, &a, &n, c, &arena);
    CHECK(arena.used == used);
    for (size_t i = 0; i < N * C; i++) din[i] = 3.0f * d[i];
    llm_transformer_sublayer_begin_backward(d, din, &dn, &a, &n, c);
}

TEST(transformer_sublayer, "pre is x + f(N(x)), post N(x + f(x)), for both norms") {
    llm_rng rng = llm_rng_seed(1);
    for (size_t k = 0; k < 4; k++) {
        const llm_transformer_config c = config(k % 2, k / 2);
        const float *x = draw(N * C, &rng), *w = draw(2 * C, &rng);
        float *y = floats(N * C);
        through(y, NULL, NULL, x, NULL, w, &c);
        for (size_t n = 0; n < N; n++) {
            double in[C], sum = 0.0, square = 0.0;
            for (size_t i = 0; i < C; i++) in[i] = (double)x[n * C + i] * (c.last_norm ? 1.0 : 4.0);
            for (size_t i = 0; i < C; i++) sum += in[i] / C;
            for (size_t i = 0; i < C; i++) {
                if (!c.rms) in[i] -= sum;
                square += in[i] * in[i] / C;
            }
            for (size_t i = 0; i < C; i++) {
                double norm = in[i] / sqrt(square + 1e-3) * (double)w[i];
                if (!c.rms) norm += (double)w[C + i];
                const double want = c.last_norm ? (double)x[n * C + i] + 3.0 * norm : norm;
                CHECK_NEAR(y[n * C + i], want, 1e-5);
            }
        }
    }
}

static double weighed(const float *x, const float *w, const float *dy,
                      const llm_transformer_config *c) {
    float y[N * C];
    through(y, NULL, NULL, x, NULL, w, c);
    return dot(y, dy, N * C);
}

TEST(transformer_sublayer, "gradients of input and norm equal finite differences") {
    llm_rng rng = llm_rng_seed(2);
    for (size_t k = 0; k < 4; k++) {
        const llm_transformer_config c = config(k % 2, k / 2);
        float *x = draw(N * C, &rng), *w = draw(2 * C, &rng), *dy = draw(N * C, &rng);
        float y[N * C], d[N * C], *g = zeros(2 * C);
        through(y, d, g, x, dy, w, &c);
        CHECK_GRAD(d, x, N * C, 1e-2f, 3e-3f, weighed(x, w, dy, &c));
        CHECK_GRAD(g, w, 2 * C, 1e-2f, 1e-3f, weighed(x, w, dy, &c));
    }
}
