/* @vocab_size */
#include "../test.h"

#include "../../llm.h"

#include "../tiny_hostile.h"

enum { SIZES = 8 };

/* the hostile strings of the first ten groups, a line each */
static char *size_text(size_t *size) {
    char *text = (char *)test_memory(TINY_HOSTILE_MIX * TINY_HOSTILE_EACH, TINY_HOSTILE_MOST);
    *size = 0;
    for (size_t g = 0; g < TINY_HOSTILE_MIX; g++)
        for (size_t i = 0; i < TINY_HOSTILE_EACH; i++) {
            *size += tiny_hostile(text + *size, g, i);
            if (g + 1 < TINY_HOSTILE_MIX || i + 1 < TINY_HOSTILE_EACH) text[(*size)++] = '\n';
        }
    return text;
}

/* tokens of text with a BPE of V ids that was trained on it */
static size_t size_tokens(const char *text, size_t size, size_t V, llm_arena *arena) {
    llm_bpe bpe;
    llm_error e;
    int ids[TINY_HOSTILE_MOST];
    size_t tokens = 0;
    CHECK(llm_bpe_train(&bpe, text, size, LLM_PRE_TOKENIZE_GPT2, V, &e));
    for (size_t at = 0, n; at < size; at += n) {
        n = llm_pre_tokenize(text + at, size - at, LLM_PRE_TOKENIZE_GPT2);
        tokens += llm_bpe_encode(ids, &bpe, text + at, n, 0.0f, NULL, arena);
    }
    llm_bpe_free(&bpe);
    return tokens;
}

TEST(vocab_size,
     "tokens of a text at eight sizes are those of tokenizers, and never more at more") {
    size_t size, before = SIZE_MAX;
    const char *text = size_text(&size);
    const float *V = golden("measured/size"), *want = golden("measured/tokens");
    llm_arena arena;
    CHECK(llm_arena_create(&arena, (size_t)1 << 20));
    CHECK_NEAR(size, golden("measured/bytes")[0], 0);
    for (size_t i = 0; i < SIZES; i++) {
        const size_t tokens = size_tokens(text, size, (size_t)V[i], &arena);
        CHECK_NEAR(tokens, want[i], 0);
        CHECK(tokens <= before);
        before = tokens;
    }
    llm_arena_destroy(&arena);
}

TEST(vocab_size, "the curve through points is that of scipy's curve_fit") {
    for (int i = 0; i < 5; i++) {
        size_t n;
        const float *Vf = golden_n(&n, "fit%d/V", i), *yf = golden("fit%d/y", i);
        const float *want = golden("fit%d/abc", i);
        double V[16], y[16], squares = 0.0;
        for (size_t k = 0; k < n; k++) V[k] = (double)Vf[k], y[k] = (double)yf[k];
        const llm_vocab_size_curve f = llm_vocab_size_fit(V, y, n);
        CHECK_NEAR(f.a, want[0], 2e-6 * (1 + fabs((double)want[0])));
        CHECK_NEAR(f.b, want[1], 2e-5 * (1 + fabs((double)want[1])));
        CHECK_NEAR(f.c, want[2], 2e-6 * (1 + fabs((double)want[2])));
        for (size_t k = 0; k < n; k++) {
            const double r = f.a + f.b * pow(V[k], -f.c) - y[k];
            squares += r * r;
        }
        CHECK_NEAR(f.squares, squares, 1e-15);
        if (i == 1) CHECK(f.squares < 1e-12); /* points on a curve */
    }
    const double V[3] = {1, 2, 3}, y[3] = {1, 2, 3};
    CHECK_ASSERTS(llm_vocab_size_fit(V, y, 2));
    /* three points too steep or too straight for any c: it ends a step of the grid behind 4 and
     * 0.01 */
    const double steep[3] = {1, 0, 0}, straight[3] = {-1, -2, -3};
    CHECK_NEAR(llm_vocab_size_fit(V, steep, 3).c, 4.0 * pow(400.0, 1.0 / 60.0), 1e-6);
    CHECK_NEAR(llm_vocab_size_fit(V, straight, 3).c, 0.01 / pow(400.0, 1.0 / 60.0), 1e-6);
    const double flat[3] = {2, 2, 2};
    const llm_vocab_size_curve f = llm_vocab_size_line(V, flat, 3, 1.0);
    CHECK_NEAR(f.a, 2, 1e-15);
    CHECK_NEAR(f.b, 0, 1e-15);
    const double same[3] = {5, 5, 5}; /* all at one V: the mean */
    CHECK_NEAR(llm_vocab_size_line(same, y, 3, 1.0).a, 2, 1e-15);
}

TEST(vocab_size, "the cheapest size is that of a search, inside, and larger for larger models") {
    const llm_vocab_size_curve f = {0.22, 4.0, 0.5, 0.0};
    const float *row = golden("best/rows");
    for (size_t i = 0; i < 4; i++) {
        const double N = (double)row[3 * i], d = (double)row[3 * i + 1];
        const double V = llm_vocab_size_best(&f, N, d, 1.0, 1e9);
        CHECK_NEAR(V / (double)row[3 * i + 2], 1.0, 2e-6);
        for (int side = -1; side <= 1; side += 2) { /* by the cost itself */
            const double other = V * (1.0 + 0.01 * side);
            const llm_vocab_size_costs a =
                llm_vocab_size_cost(N, d, V, true, 1e9, f.a + f.b * pow(V, -f.c), 1.0);
            const llm_vocab_size_costs b =
                llm_vocab_size_cost(N, d, other, true, 1e9, f.a + f.b * pow(other, -f.c), 1.0);
            CHECK(a.flops < b.flops);
        }
    }
    CHECK((double)row[11] > (double)row[8]); /* of equal N, the narrower model has the larger V */
    CHECK_NEAR(llm_vocab_size_best(&f, 1e10, 1024, 1.0, 5000.0), 5000.0, 1e-6); /* the limit */
    CHECK_NEAR(llm_vocab_size_best(&f, 1e6, 4096, 3000.0, 5000.0), 3000.0, 1e-6);
    CHECK(llm_vocab_size_best(&f, 1e6, 128, 7.0, 7.0) == 7.0);
    const llm_vocab_size_curve small = {0.5, 0.5, 1.0, 0.0}; /* a V^2 = N b c / d */
    CHECK_NEAR(llm_vocab_size_best(&small, 1e6, 100, 1.0, 1e6), 100.0, 1e-9);
    for (int k = 0; k < 3; k++) {
        llm_vocab_size_curve bad = f;
        *(k == 0 ? &bad.a : k == 1 ? &bad.b : &bad.c) = 0.0;
        CHECK_ASSERTS(llm_vocab_size_best(&bad, 1e6, 128, 1.0, 10.0));
    }
    CHECK_ASSERTS(llm_vocab_size_best(&f, 1e6, 128, 0.0, 10.0));
    CHECK_ASSERTS(llm_vocab_size_best(&f, 1e6, 128, 11.0, 10.0));
}

TEST(vocab_size, "costs of GPT-2 by hand") {
    /* 124,439,808 parameters, 50,257 times 768 of them embedding; 1 GB of text at a quarter */
    const double V = 50257, d = 768, N = 124439808 - V * d;
    llm_vocab_size_costs c = llm_vocab_size_cost(N, d, V, true, 1e9, 0.25, 1024);
    CHECK_NEAR(c.embedding, 38597376, 0);
    CHECK_NEAR(c.share, 0.31016905, 1e-8);
    CHECK_NEAR(c.tokens, 2.5e8, 0);
    CHECK_NEAR(c.flops / (6 * 124439808.0 * 2.5e8), 1, 1e-15);
    CHECK_NEAR(c.softmax, c.share, 1e-15);
    CHECK_NEAR(c.logits_bytes, 205852672, 0); /* 196 MiB for one sequence */
    const double flops = c.flops;
    c = llm_vocab_size_cost(N, d, V, false, 1e9, 0.25, 1024);
    CHECK_NEAR(c.embedding, 2 * 38597376, 0);
    CHECK_NEAR(c.share, 2 * 38597376 / (N + 2 * 38597376), 1e-15);
    CHECK_NEAR(c.flops, flops, 0); /* a look-up costs nothing */
}

TEST(vocab_size, "padded ids get no gradient, and change loss and gradients by rounding only") {
    CHECK(llm_vocab_size_pad(50257, 128) == 50304 && llm_vocab_size_pad(50304, 128) == 50304);
    CHECK(llm_vocab_size_pad(0, 8) == 0 && llm_vocab_size_pad(1, 8) == 8);
    CHECK(llm_vocab_size_pad(9, 1) == 9);
    CHECK(llm_vocab_size_pad(SIZE_MAX - 8, 8) == SIZE_MAX - 7); /* the largest */
    CHECK_ASSERTS(llm_vocab_size_pad(9, 0));
    CHECK_ASSERTS(llm_vocab_size_pad(SIZE_MAX, 2));
    const size_t sizes[4] = {1, 7, 61, 257}, N = 3;
    llm_rng rng = llm_rng_seed(1);
    for (size_t s = 0; s < 4; s++) {
        const size_t V = sizes[s], P = llm_vocab_size_pad(V, 64);
        float *z = floats(N * V), *dz = zeros(N * V), *zp = floats(N * P), *dzp = zeros(N * P);
        float loss[3], lse[3], lossp[3], lsep[3];
        const int target[3] = {0, (int)(V - 1), (int)(V / 2)};
        llm_rng_normal_fill(&rng, z, N * V);
        llm_rng_normal_fill(&rng, zp, N * P); /* what a padded matrix product leaves there */
        for (size_t i = 0; i < N; i++) memcpy(zp + i * P, z + i * V, V * sizeof *z);
        llm_vocab_size_mask(zp, N, V, P);
        llm_cross_entropy_forward(loss, lse, z, target, N, V);
        llm_cross_entropy_forward(lossp, lsep, zp, target, N, P);
        llm_cross_entropy_backward(dz, z, lse, target, N, V, 0.5f);
        llm_cross_entropy_backward(dzp, zp, lsep, target, N, P, 0.5f);
        CHECK_ALL_NEAR(lossp, loss, N, 2e-6f); /* the same terms, summed in another order */
        for (size_t i = 0; i < N; i++) {
            CHECK_ALL_NEAR(dzp + i * P, dz + i * V, V, 1e-6f);
            for (size_t v = V; v < P; v++) CHECK(zp[i * P + v] == -INFINITY && dzp[i * P + v] == 0);
        }
    }
    float one = 0.0f;
    llm_vocab_size_mask(&one, 1, 1, 1);
    CHECK(one == 0.0f);
    CHECK_ASSERTS(llm_vocab_size_mask(&one, 1, 2, 1));
}

TEST(vocab_size, "the power law between models is found back, and noise averaged") {
    double N[6], E[6], k, gamma;
    for (size_t i = 0; i < 6; i++) {
        N[i] = pow(10.0, 6.0 + (double)i);
        E[i] = 20.0 * pow(N[i], 0.83);
    }
    llm_vocab_size_scaling(&k, &gamma, N, E, 6);
    CHECK_NEAR(gamma, 0.83, 1e-12);
    CHECK_NEAR(k, 20.0, 1e-9);
    const double n3[3] = {1, exp(1.0), exp(2.0)}, e3[3] = {1, exp(2.0), exp(1.0)};
    llm_vocab_size_scaling(&k, &gamma, n3, e3, 3); /* the line through (0,0), (1,2), (2,1) */
    CHECK_NEAR(gamma, 0.5, 1e-12);
    CHECK_NEAR(k, exp(0.5), 1e-12);
    llm_vocab_size_scaling(&k, &gamma, n3, e3, 2); /* through (0,0) and (1,2) */
    CHECK_NEAR(gamma, 2.0, 1e-12);
    CHECK_ASSERTS(llm_vocab_size_scaling(&k, &gamma, N, E, 1));
}

TEST(vocab_size,
     "measured: the best size for the hostile text is inside, and grows with the model") {
    const float *V = golden("fit0/V"), *y = golden("fit0/y");
    double x[SIZES], t[SIZES], last = 0.0;
    for (size_t i = 0; i < SIZES; i++) x[i] = (double)V[i], t[i] = (double)y[i];
    const llm_vocab_size_curve f = llm_vocab_size_fit(x, t, SIZES);
    for (double N = 1e4; N < 1e7; N *= 10) {
        const double best = llm_vocab_size_best(&f, N, 64, 1, 1e7);
        CHECK(best > last && best < 1e7 && best > 1);
        last = best;
    }
}
