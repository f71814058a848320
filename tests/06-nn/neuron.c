/* @neuron */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

TEST(neuron, "forward and backward equal torch's Linear(1) with an activation behind it") {
    const char *name[5] = {"identity", "gelu", "silu", "sigmoid", "tanh"};
    const int act[5] = {LLM_ACTIVATION_IDENTITY, LLM_ACTIVATION_GELU, LLM_ACTIVATION_SILU,
                        LLM_ACTIVATION_SIGMOID, LLM_ACTIVATION_TANH};
    const size_t size[3] = {1, 3, 7};
    for (size_t k = 0; k < 15; k++) {
        const size_t C = size[k / 5];
        const char *s = name[k % 5];
        const float *x = golden("%zu/%s/x", C, s), *w = golden("%zu/%s/w", C, s);
        const float *b = golden("%zu/%s/b", C, s);
        float z[1], a[1], dx[7] = {0}, dw[7] = {0}, db[1] = {0};
        a[0] = llm_neuron_forward(z, x, w, b[0], C, act[k % 5]);
        CHECK(llm_neuron_forward(NULL, x, w, b[0], C, act[k % 5]) == a[0]);
        llm_neuron_backward(dx, dw, db, 0.75f, x, w, z[0], C, act[k % 5]);
        CHECK_GOLDEN(z, 1, 1e-6f, "%zu/%s/z", C, s);
        CHECK_GOLDEN(a, 1, 1e-6f, "%zu/%s/a", C, s);
        CHECK_GOLDEN(dx, C, 1e-6f, "%zu/%s/dx", C, s);
        CHECK_GOLDEN(dw, C, 1e-6f, "%zu/%s/dw", C, s);
        CHECK_GOLDEN(db, 1, 1e-6f, "%zu/%s/db", C, s);
        llm_neuron_backward(NULL, NULL, NULL, 0.75f, x, w, z[0], C, act[k % 5]);
        llm_neuron_backward(dx, dw, db, 0.75f, x, w, z[0], C, act[k % 5]); /* adds */
        for (size_t i = 0; i < C; i++) dx[i] /= 2.0f, dw[i] /= 2.0f;
        db[0] /= 2.0f;
        CHECK_GOLDEN(dx, C, 1e-6f, "%zu/%s/dx", C, s);
        CHECK_GOLDEN(dw, C, 1e-6f, "%zu/%s/dw", C, s);
        CHECK_GOLDEN(db, 1, 1e-6f, "%zu/%s/db", C, s);
    }
}

TEST(neuron, "gradients agree with finite differences for five activations") {
    enum { C = 4 };
    const int act[5] = {LLM_ACTIVATION_GELU_TANH, LLM_ACTIVATION_SOFTPLUS, LLM_ACTIVATION_MISH,
                        LLM_ACTIVATION_TANH, LLM_ACTIVATION_SIGMOID};
    float x[C] = {0.5f, -1.0f, 2.0f, 0.25f}, w[C] = {1.0f, 0.5f, -0.25f, 2.0f}, b = 0.125f, z;
    for (size_t k = 0; k < 5; k++) {
        float dx[C] = {0}, dw[C] = {0}, db = 0.0f;
        llm_neuron_forward(&z, x, w, b, C, act[k]);
        llm_neuron_backward(dx, dw, &db, 1.0f, x, w, z, C, act[k]);
        CHECK_GRAD(dx, x, C, 1e-2f, 1e-4f, llm_neuron_forward(NULL, x, w, b, C, act[k]));
        CHECK_GRAD(dw, w, C, 1e-2f, 1e-4f, llm_neuron_forward(NULL, x, w, b, C, act[k]));
        CHECK_GRAD(&db, &b, 1, 1e-2f, 1e-4f, llm_neuron_forward(NULL, x, w, b, C, act[k]));
    }
}

TEST(neuron, "ten epochs of the delta rule equal torch.optim.SGD, online and batch") {
    for (int online = 0; online < 2; online++) {
        float *w = golden_n(NULL, "delta/w"), b = golden("delta/b")[0], got[4];
        double loss = 0.0;
        llm_arena arena = test_arena(4096);
        for (size_t epoch = 0; epoch < 10; epoch++)
            loss = llm_neuron_delta(w, &b, golden("delta/x"), golden("delta/t"), 7, 2,
                                    LLM_ACTIVATION_SIGMOID, 0.25f, online, &arena);
        got[0] = w[0], got[1] = w[1], got[2] = b, got[3] = (float)loss;
        CHECK_GOLDEN(got, 4, 1e-6f, online ? "delta/online" : "delta/batch");
        CHECK(arena.used == 0);
        CHECK(llm_neuron_delta(w, &b, NULL, NULL, 0, 2, 0, 1.0f, online, &arena) == 0.0);
        CHECK(w[0] == got[0] && b == got[2]);
    }
}

TEST(neuron, "of the 16 functions of two bits it learns 14, and never XOR and its opposite") {
    const float x[8] = {0.0f, 0.0f, 0.0f, 1.0f, 1.0f, 0.0f, 1.0f, 1.0f};
    llm_arena arena = test_arena(4096);
    size_t learned = 0;
    for (int table = 0; table < 16; table++) {
        float t[4], w[2] = {0.0f, 0.0f}, b = 0.0f;
        for (int n = 0; n < 4; n++) t[n] = (float)(table >> n & 1);
        for (size_t epoch = 0; epoch < 500; epoch++)
            llm_neuron_delta(w, &b, x, t, 4, 2, LLM_ACTIVATION_SIGMOID, 2.0f, true, &arena);
        bool right = true;
        for (size_t n = 0; n < 4; n++) {
            const float a = llm_neuron_forward(NULL, x + 2 * n, w, b, 2, LLM_ACTIVATION_SIGMOID);
            right = right && (a > 0.5f) == (t[n] > 0.5f);
        }
        CHECK(right == (table != 6 && table != 9));
        learned += right;
    }
    CHECK(learned == 14);
}

TEST(neuron, "threshold units: AND, OR, NAND, and an adder that is right on all 8 inputs") {
    const int one[2] = {1, 1}, minus[2] = {-1, -1};
    for (int k = 0; k < 4; k++) {
        const bool x[2] = {(k & 1) != 0, (k & 2) != 0};
        CHECK(llm_neuron_fires(x, one, 2, 2) == (x[0] && x[1]));
        CHECK(llm_neuron_fires(x, one, 1, 2) == (x[0] || x[1]));
        CHECK(llm_neuron_fires(x, minus, -1, 2) == !(x[0] && x[1]));
    }
    for (int k = 0; k < 8; k++) {
        bool sum, carry;
        llm_neuron_adder(&sum, &carry, k & 1, (k & 2) != 0, (k & 4) != 0);
        CHECK((int)sum + 2 * (int)carry == (k & 1) + (k >> 1 & 1) + (k >> 2 & 1));
    }
}

TEST(neuron, "the distance to the boundary is that of the nearest point of it") {
    const float w[2] = {3.0f, -4.0f}, b = 2.0f;
    llm_rng rng = llm_rng_seed(1);
    float x[20], distance[10];
    llm_rng_normal_fill(&rng, x, 20);
    CHECK(llm_neuron_boundary(distance, x, w, b, 10, 2));
    for (size_t n = 0; n < 10; n++) {
        /* brute force: the line 3 u - 4 v + 2 = 0, points (u, (3 u + 2) / 4) */
        double best = 1e9;
        for (int k = -40000; k <= 40000; k++) {
            const double u = (double)k / 5000.0, v = (3.0 * u + 2.0) / 4.0;
            const double du = u - (double)x[2 * n], dv = v - (double)x[2 * n + 1];
            best = fmin(best, sqrt(du * du + dv * dv));
        }
        CHECK_NEAR(fabsf(distance[n]), best, 1e-5);
        CHECK((distance[n] > 0.0f) ==
              (llm_neuron_forward(NULL, x + 2 * n, w, b, 2, LLM_ACTIVATION_IDENTITY) > 0.0f));
    }
    const float none[2] = {0.0f, 0.0f}, was = distance[0];
    CHECK(!llm_neuron_boundary(distance, x, none, b, 10, 2) && distance[0] == was);
}

/* Mistakes on an OR of k of C bits until 400 examples pass without one; each bit is on with chance
 * 1/k. Winnow, or the perceptron rule that adds. */
static size_t ne_mistakes(bool winnow, size_t C, size_t k, uint64_t seed) {
    float *w = floats(C), b = 0.0f;
    bool *x = bools(C);
    llm_rng rng = llm_rng_seed(seed);
    size_t mistakes = 0;
    for (size_t i = 0; i < C; i++) w[i] = winnow ? 1.0f : 0.0f;
    for (size_t quiet = 0; quiet < 400; quiet++) {
        bool target = false;
        float sum = b;
        for (size_t i = 0; i < C; i++) {
            x[i] = llm_rng_uniform(&rng) < 0.7f / (float)k;
            target = target || (i < k && x[i]);
            if (x[i]) sum += w[i];
        }
        bool right =
            winnow ? llm_neuron_winnow(w, x, target, C, 2.0f, (float)C) : (sum > 0.0f) == target;
        if (right) continue;
        mistakes++;
        quiet = 0;
        for (size_t i = 0; i < C && !winnow; i++)
            if (x[i]) w[i] += target ? 1.0f : -1.0f;
        if (!winnow) b += target ? 1.0f : -1.0f;
    }
    return mistakes;
}

TEST(neuron, "Winnow makes at most 2 + 3 k (1 + log2 C) mistakes, adding makes more") {
    const size_t k = 3;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        size_t before = 0;
        for (size_t C = 32; C <= 512; C *= 4) {
            const size_t mistakes = ne_mistakes(true, C, k, seed);
            CHECK((double)mistakes <= 2.0 + 3.0 * (double)k * (1.0 + log2((double)C)));
            before = mistakes;
        }
        /* seeds 4 to 27: 41 to 53 against 683 to 772 */
        CHECK(6 * before < ne_mistakes(false, 512, k, seed));
    }
    float w[3] = {1.0f, 1.0f, 4.0f};
    const bool x[3] = {true, false, true};
    CHECK(llm_neuron_winnow(w, x, true, 3, 2.0f, 5.0f) && w[0] == 1.0f); /* exactly theta: yes */
    CHECK(!llm_neuron_winnow(w, x, false, 3, 2.0f, 5.0f));
    CHECK(w[0] == 0.5f && w[1] == 1.0f && w[2] == 2.0f);
    CHECK(!llm_neuron_winnow(w, x, true, 3, 4.0f, 5.0f));
    CHECK(w[0] == 2.0f && w[1] == 1.0f && w[2] == 8.0f);
}

TEST(neuron, "Winnow adds up the weights of what is on, from nothing") {
    float w[2] = {1.0f, 1.0f};
    const bool first[2] = {true, false}, none[2] = {false, false};
    CHECK(llm_neuron_winnow(w, none, false, 2, 2.0f, 0.5f));  /* 0 is below theta */
    CHECK(!llm_neuron_winnow(w, first, true, 2, 2.0f, 2.0f)); /* 1 is, too */
    CHECK(w[0] == 2.0f && w[1] == 1.0f);
}
