/* @ffn */
#include "../test.h"

#include "../../llm.h"

enum { N = 3, C = 5, H = 7 };

static const struct {
    const char *name;
    int kind;
} kinds[] = {{"relu", LLM_ACTIVATION_RELU},
             {"gelu", LLM_ACTIVATION_GELU},
             {"gelu_tanh", LLM_ACTIVATION_GELU_TANH},
             {"silu", LLM_ACTIVATION_SILU}};

static llm_ffn_acts acts_of(bool gated, size_t rows, size_t hidden) {
    llm_ffn_acts a;
    a.gate = gated ? floats(rows * hidden) : NULL;
    a.up = floats(rows * hidden);
    a.hidden = floats(rows * hidden);
    return a;
}

static llm_ffn_weights golden_weights(const char *name, bool gated, bool bias) {
    llm_ffn_weights w;
    w.gate = gated ? golden("%s/gate", name) : NULL;
    w.up = golden("%s/up", name);
    w.up_bias = bias ? golden("%s/up_bias", name) : NULL;
    w.down = golden("%s/down", name);
    w.down_bias = bias ? golden("%s/down_bias", name) : NULL;
    return w;
}

TEST(ffn, "forward and all gradients equal PyTorch for four activations, plain and gated") {
    /* gradients are sums of terms up to 170: PyTorch's own float32 is off by up to 2.6e-6 here */
    const float tol = 1e-5f;
    for (size_t k = 0; k < 4; k++) {
        for (size_t gated = 0; gated < 2; gated++) {
            char name[40];
            snprintf(name, sizeof name, "%s_%s", kinds[k].name, gated ? "gated" : "plain");
            const llm_ffn_weights w = golden_weights(name, gated, !gated);
            const llm_ffn_acts a = acts_of(gated, N, H);
            const float *x = golden("%s/x", name), *dy = golden("%s/dy", name);
            float *y = floats(N * C);
            llm_ffn_forward(y, &a, x, &w, N, C, H, kinds[k].kind);
            CHECK_GOLDEN(y, N * C, tol, "%s/y", name);

            llm_ffn_weights dw;
            dw.gate = gated ? zeros(H * C) : NULL;
            dw.up = zeros(H * C), dw.up_bias = gated ? NULL : zeros(H);
            dw.down = zeros(C * H), dw.down_bias = gated ? NULL : zeros(C);
            float *dx = zeros(N * C);
            llm_arena arena;
            CHECK(llm_arena_create(&arena, 4096));
            llm_ffn_backward(dx, &dw, dy, &a, x, &w, N, C, H, kinds[k].kind, false, &arena);
            CHECK_GOLDEN(dx, N * C, tol, "%s/dx", name);
            CHECK_GOLDEN(dw.up, H * C, tol, "%s/dup", name);
            CHECK_GOLDEN(dw.down, C * H, tol, "%s/ddown", name);
            if (gated) {
                CHECK_GOLDEN(dw.gate, H * C, tol, "%s/dgate", name);
            } else {
                CHECK_GOLDEN(dw.up_bias, H, tol, "%s/dup_bias", name);
                CHECK_GOLDEN(dw.down_bias, C, tol, "%s/ddown_bias", name);
            }
            CHECK(arena.used == 0);
            llm_arena_destroy(&arena);
        }
    }
}

TEST(ffn, "equals transformers' GPT2MLP, LlamaMLP and T5DenseGatedActDense") {
    const struct {
        const char *name;
        int kind;
        bool gated;
    } modules[] = {{"gpt2", LLM_ACTIVATION_GELU_TANH, false},
                   {"llama", LLM_ACTIVATION_SILU, true},
                   {"t5", LLM_ACTIVATION_GELU_TANH, true}};
    for (size_t m = 0; m < 3; m++) {
        const bool gated = modules[m].gated;
        const llm_ffn_weights w = golden_weights(modules[m].name, gated, !gated);
        const llm_ffn_acts a = acts_of(gated, N, H);
        float *y = floats(N * C);
        llm_ffn_forward(y, &a, golden("%s/x", modules[m].name), &w, N, C, H, modules[m].kind);
        CHECK_GOLDEN(y, N * C, 1e-6f, "%s/y", modules[m].name);
    }
}

static llm_ffn_weights random_weights(llm_rng *rng, bool gated, size_t width, size_t hidden) {
    llm_ffn_weights w;
    w.gate = gated ? floats(hidden * width) : NULL;
    w.up = floats(hidden * width), w.up_bias = floats(hidden);
    w.down = floats(width * hidden), w.down_bias = floats(width);
    if (gated) llm_rng_normal_fill(rng, w.gate, hidden * width);
    llm_rng_normal_fill(rng, w.up, hidden * width);
    llm_rng_normal_fill(rng, w.up_bias, hidden);
    llm_rng_normal_fill(rng, w.down, width * hidden);
    llm_rng_normal_fill(rng, w.down_bias, width);
    return w;
}

static double loss_of(const float *x, const llm_ffn_weights *w, const float *dy, size_t n,
                      size_t width, size_t hidden, int kind) {
    static float y[64], gate[64], up[64], act[64]; /* CHECK_GRAD calls this hundreds of times */
    const llm_ffn_acts a = {w->gate ? gate : NULL, up, act};
    llm_ffn_forward(y, &a, x, w, n, width, hidden, kind);
    return dot(y, dy, n * width);
}

TEST(ffn,
     "gradients of inputs and weights equal finite differences, biases in the gated form too") {
    llm_rng rng = llm_rng_seed(1);
    const size_t sizes[][3] = {{1, 1, 1}, {2, 3, 5}, {3, 2, 3}}; /* (N, C, H) */
    for (size_t s = 0; s < 3; s++) {
        for (size_t gated = 0; gated < 2; gated++) {
            const size_t n = sizes[s][0], c = sizes[s][1], h = sizes[s][2];
            const int kind = gated ? LLM_ACTIVATION_SILU : LLM_ACTIVATION_GELU;
            float *x = floats(n * c), *dy = floats(n * c), *y = floats(n * c);
            llm_rng_normal_fill(&rng, x, n * c);
            llm_rng_normal_fill(&rng, dy, n * c);
            llm_ffn_weights w = random_weights(&rng, gated, c, h), dw;
            dw.gate = gated ? zeros(h * c) : NULL;
            dw.up = zeros(h * c), dw.up_bias = zeros(h);
            dw.down = zeros(c * h), dw.down_bias = zeros(c);
            float *dx = zeros(n * c);
            const llm_ffn_acts a = acts_of(gated, n, h);
            llm_arena arena;
            CHECK(llm_arena_create(&arena, 4096));
            llm_ffn_forward(y, &a, x, &w, n, c, h, kind);
            llm_ffn_backward(dx, &dw, dy, &a, x, &w, n, c, h, kind, false, &arena);
            llm_arena_destroy(&arena);
            /* float rounding of the loss over a step of 1e-2, and its third derivative */
            const float step = 1e-2f, tol = 1e-3f;
            CHECK_GRAD(dx, x, n * c, step, tol, loss_of(x, &w, dy, n, c, h, kind));
            CHECK_GRAD(dw.up, w.up, h * c, step, tol, loss_of(x, &w, dy, n, c, h, kind));
            CHECK_GRAD(dw.up_bias, w.up_bias, h, step, tol, loss_of(x, &w, dy, n, c, h, kind));
            CHECK_GRAD(dw.down, w.down, c * h, step, tol, loss_of(x, &w, dy, n, c, h, kind));
            CHECK_GRAD(dw.down_bias, w.down_bias, c, step, tol, loss_of(x, &w, dy, n, c, h, kind));
            if (gated)
                CHECK_GRAD(dw.gate, w.gate, h * c, step, tol, loss_of(x, &w, dy, n, c, h, kind));
        }
    }
}

TEST(ffn, "a token does not see the others: changing one leaves the rest bitwise alone") {
    llm_rng rng = llm_rng_seed(2);
    const llm_ffn_weights w = random_weights(&rng, true, C, H);
    const llm_ffn_acts a = acts_of(true, N, H);
    float x[N * C], y[N * C], again[N * C];
    llm_rng_normal_fill(&rng, x, N * C);
    llm_ffn_forward(y, &a, x, &w, N, C, H, LLM_ACTIVATION_SILU);
    x[1 * C + 2] += 1.0f;
    llm_ffn_forward(again, &a, x, &w, N, C, H, LLM_ACTIVATION_SILU);
    CHECK(memcmp(y, again, C * sizeof(float)) == 0);
    CHECK(memcmp(y + C, again + C, C * sizeof(float)) != 0);
    CHECK(memcmp(y + 2 * C, again + 2 * C, C * sizeof(float)) == 0);
}

TEST(ffn,
     "recomputing the hidden layer gives bitwise the stored gradients; any gradient may be NULL") {
    llm_rng rng = llm_rng_seed(3);
    for (size_t gated = 0; gated < 2; gated++) {
        const llm_ffn_weights w = random_weights(&rng, gated, C, H);
        llm_ffn_acts a = acts_of(gated, N, H);
        float x[N * C], y[N * C], dy[N * C];
        llm_rng_normal_fill(&rng, x, N * C);
        llm_rng_normal_fill(&rng, dy, N * C);
        llm_ffn_forward(y, &a, x, &w, N, C, H, LLM_ACTIVATION_GELU);
        float *dx[2], *ddown[2], *dup[2];
        for (size_t recompute = 0; recompute < 2; recompute++) {
            llm_ffn_weights dw = {NULL, NULL, NULL, NULL, NULL};
            dx[recompute] = zeros(N * C);
            dw.up = dup[recompute] = zeros(H * C);
            dw.down = ddown[recompute] = zeros(C * H);
            for (size_t i = 0; recompute && i < N * H; i++) a.hidden[i] = NAN;
            llm_arena arena;
            CHECK(llm_arena_create(&arena, 4096));
            llm_ffn_backward(dx[recompute], &dw, dy, &a, x, &w, N, C, H, LLM_ACTIVATION_GELU,
                             recompute, &arena);
            llm_ffn_backward(NULL, NULL, dy, &a, x, &w, N, C, H, LLM_ACTIVATION_GELU, recompute,
                             &arena);
            llm_arena_destroy(&arena);
        }
        CHECK(memcmp(dx[0], dx[1], N * C * sizeof(float)) == 0);
        CHECK(memcmp(dup[0], dup[1], H * C * sizeof(float)) == 0);
        CHECK(memcmp(ddown[0], ddown[1], C * H * sizeof(float)) == 0);
    }
}

TEST(ffn, "gradients accumulate") {
    float x = 1.0f, up = 2.0f, down = 3.0f, dy = 1.0f, y, pre, hidden;
    float dx = 10.0f, dup = 20.0f, ddown = 30.0f;
    const llm_ffn_weights w = {NULL, &up, NULL, &down, NULL}, dw = {NULL, &dup, NULL, &ddown, NULL};
    const llm_ffn_acts a = {NULL, &pre, &hidden};
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 256));
    llm_ffn_forward(&y, &a, &x, &w, 1, 1, 1, LLM_ACTIVATION_RELU);
    llm_ffn_backward(&dx, &dw, &dy, &a, &x, &w, 1, 1, 1, LLM_ACTIVATION_RELU, false, &arena);
    llm_arena_destroy(&arena);
    CHECK(y == 6.0f && dx == 16.0f && dup == 23.0f && ddown == 32.0f); /* y = 3 max(0, 2 x) */
}

TEST(ffn, "the hidden size of released Llama models") {
    CHECK(llm_ffn_hidden_dim(4096, 1.0f, 256) == 11008);  /* Llama 2 7B */
    CHECK(llm_ffn_hidden_dim(5120, 1.0f, 256) == 13824);  /* Llama 2 13B */
    CHECK(llm_ffn_hidden_dim(8192, 1.3f, 4096) == 28672); /* Llama 2 70B */
    CHECK(llm_ffn_hidden_dim(4096, 1.3f, 1024) == 14336); /* Llama 3 8B */
    CHECK(llm_ffn_hidden_dim(288, 1.0f, 32) == 768);      /* stories15M */
}

TEST(ffn, "rows of W_up are keys and columns of W_down the values they fetch") {
    llm_rng rng = llm_rng_seed(4);
    const llm_ffn_weights w = random_weights(&rng, false, C, H);
    float x[C], score[H], y[C], sum[C];
    llm_rng_normal_fill(&rng, x, C);
    const llm_ffn_acts a = acts_of(false, 1, H);
    llm_ffn_forward(y, &a, x, &w, 1, C, H, LLM_ACTIVATION_RELU);
    for (size_t c = 0; c < C; c++) sum[c] = w.down_bias[c];
    for (size_t h = 0; h < H; h++) {
        score[h] = w.up_bias[h] + (float)dot(w.up + h * C, x, C);
        for (size_t c = 0; c < C && score[h] > 0.0f; c++) sum[c] += score[h] * w.down[c * H + h];
    }
    CHECK_ALL_NEAR(y, sum, C, 1e-5f);
}
