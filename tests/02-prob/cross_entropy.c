/* @cross_entropy */
#include "../test.h"

#include "../../llm.h"

#include "../tape.h"

static int *cross_entropy_targets(const float *x, size_t N) {
    int *target = (int *)test_memory(N, sizeof(int));
    for (size_t n = 0; n < N; n++) target[n] = (int)x[n];
    return target;
}

static float *cross_entropy_copy(const float *x, size_t n) {
    float *copy = floats(n);
    memcpy(copy, x, n * sizeof(float));
    return copy;
}

TEST(cross_entropy, "equals torch's cross_entropy and gradients: indices, weights, distributions") {
    const size_t shapes[][2] = {{1, 1}, {2, 2}, {5, 3}, {4, 17}, {7, 8}, {3, 50}}; /* (N, V) */
    for (size_t s = 0; s < 6; s++) {
        const size_t N = shapes[s][0], V = shapes[s][1], size = N * V;
        const float *z = golden("%zux%zu/z", N, V), *p = golden("%zux%zu/p", N, V);
        const float *weight = golden("%zux%zu/weight", N, V);
        const int *target = cross_entropy_targets(golden("%zux%zu/target", N, V), N);
        float *loss = floats(N), *lse = floats(N), *dz = zeros(size), *lse_want = floats(N);
        const size_t kept = llm_cross_entropy_forward(loss, lse, z, target, N, V);
        CHECK(kept == (N > 2 ? N - 1 : N));
        CHECK_GOLDEN(loss, N, 1e-6f, "%zux%zu/loss", N, V);
        memcpy(lse_want, golden("%zux%zu/lse", N, V), N * sizeof(float));
        if (kept < N) lse_want[1] = 0.0f; /* the ignored row */
        for (size_t n = 0; n < N; n++) CHECK_NEAR(lse[n], lse_want[n], n + 1 < N ? 2e-6 : 1e-3);
        llm_cross_entropy_forward(lse_want, NULL, z, target, N, V);
        CHECK_ALL_NEAR(lse_want, loss, N, 0.0f);

        /* The last row has an offset of 1e4, where an ulp of lse is 1e-3: its softmax is only good
         * to 1e-3. The other rows, and all of them in place, are good to rounding. */
        const size_t fine = (N - 1) * V;
        llm_cross_entropy_backward(dz, z, lse, target, N, V, 1.0f);
        CHECK_ALL_NEAR(dz, golden("%zux%zu/sum", N, V), fine, 2e-6f);
        CHECK_GOLDEN(dz, size, 1e-3f, "%zux%zu/sum", N, V);
        float *g = cross_entropy_copy(z, size);
        llm_cross_entropy_in_place(loss, g, target, NULL, N, V, 1.0f / (float)kept, 0.0f);
        CHECK_GOLDEN(loss, N, 1e-6f, "%zux%zu/loss", N, V);
        CHECK_GOLDEN(g, size, 1e-6f, "%zux%zu/mean", N, V);
        CHECK(llm_cross_entropy_total(target, NULL, N) == (float)kept);

        g = cross_entropy_copy(z, size);
        const float total = llm_cross_entropy_total(target, weight, N);
        llm_cross_entropy_in_place(loss, g, target, weight, N, V, 1.0f / total, 0.0f);
        CHECK_GOLDEN(loss, N, 1e-6f, "%zux%zu/weighted", N, V);
        CHECK_GOLDEN(g, size, 1e-6f, "%zux%zu/dweighted", N, V);

        dz = zeros(size);
        llm_cross_entropy_soft_forward(loss, lse, z, p, N, V);
        llm_cross_entropy_soft_backward(dz, z, lse, p, N, V, 1.0f);
        CHECK_GOLDEN(loss, N, 1e-6f, "%zux%zu/soft", N, V);
        CHECK_ALL_NEAR(dz, golden("%zux%zu/dsoft", N, V), fine, 2e-6f);
        CHECK_GOLDEN(dz, size, 1e-3f, "%zux%zu/dsoft", N, V);
    }
}

TEST(cross_entropy, "z-loss equals autograd; smoothed labels as a distribution equal torch's") {
    enum { N = 6, V = 11 };
    const float *z = golden("z_loss/z"), *weight = golden("z_loss/weight");
    const int *target = cross_entropy_targets(golden("z_loss/target"), N);
    float *g = cross_entropy_copy(z, N * V), loss[N], lse[N], p[N * V];
    llm_cross_entropy_in_place(loss, g, target, weight, N, V, 0.25f, 0.01f);
    CHECK_GOLDEN(loss, N, 1e-6f, "z_loss/loss");
    CHECK_GOLDEN(g, N * V, 1e-6f, "z_loss/dz");

    const int *smooth = cross_entropy_targets(golden("smooth/target"), N);
    for (size_t i = 0; i < N * V; i++)
        p[i] = 0.1f / (float)V + (i % V == (size_t)smooth[i / V] ? 0.9f : 0.0f);
    g = zeros(N * V);
    llm_cross_entropy_soft_forward(loss, lse, z, p, N, V);
    llm_cross_entropy_soft_backward(g, z, lse, p, N, V, 1.0f);
    CHECK_GOLDEN(loss, N, 1e-6f, "smooth/loss");
    CHECK_GOLDEN(g, N * V, 1e-6f, "smooth/dz");
}

TEST(cross_entropy, "uniform logits give log V, gradient rows sum to 0, also for a vocabulary") {
    const size_t sizes[] = {1, 2, 3, 31, 50257};
    llm_rng rng = llm_rng_seed(1);
    for (size_t s = 0; s < 5; s++) {
        const size_t V = sizes[s];
        float *z = floats(2 * V), *dz = zeros(2 * V), loss[2], lse[2];
        const int target[2] = {(int)V - 1, (int)(V / 2)};
        for (size_t i = 0; i < V; i++) z[i] = 3.0f, z[V + i] = 3.0f * llm_rng_normal(&rng);
        CHECK(llm_cross_entropy_forward(loss, lse, z, target, 2, V) == 2);
        CHECK_NEAR(loss[0], log((double)V), 2e-6);
        llm_cross_entropy_backward(dz, z, lse, target, 2, V, 1.0f);
        for (size_t n = 0; n < 2; n++) {
            double sum = 0.0;
            for (size_t i = 0; i < V; i++) sum += (double)dz[n * V + i];
            CHECK_NEAR(sum, 0.0, 2e-6); /* lse of 15 is rounded to 5e-7, and with it the softmax */
        }
        llm_cross_entropy_in_place(loss, z, target, NULL, 2, V, 1.0f, 0.0f);
        CHECK_ALL_NEAR(z, dz, 2 * V, 2e-6f);
    }
}

TEST(cross_entropy, "logits of 1e4, masked logits and ignored rows of NaN") {
    const float z[12] = {1e4f, -1e4f, 0.0f, 1e4f, -1e4f,     0.0f,
                         NAN,  NAN,   NAN,  0.5f, -INFINITY, 0.5f};
    const int target[4] = {0, 1, LLM_CROSS_ENTROPY_IGNORE, 2};
    float loss[4], lse[4], dz[12] = {0.0f}, soft_lse[4], g[12];
    const float want_loss[4] = {0.0f, 2e4f, 0.0f, 0.69314718f},
                want_lse[4] = {1e4f, 1e4f, 0.0f, 1.19314718f};
    const float want[12] = {0, 0, 0, 1, -1, 0, 0, 0, 0, 0.5f, 0, -0.5f};
    CHECK(llm_cross_entropy_forward(loss, lse, z, target, 4, 3) == 3);
    CHECK_ALL_NEAR(loss, want_loss, 4, 1e-7f);
    CHECK_ALL_NEAR(lse, want_lse, 4, 1e-6f);
    llm_cross_entropy_backward(dz, z, lse, target, 4, 3, 1.0f);
    CHECK_ALL_NEAR(dz, want, 12, 1e-6f);
    memcpy(g, z, sizeof g);
    loss[2] = NAN;
    llm_cross_entropy_in_place(loss, g, target, NULL, 4, 3, 1.0f, 0.0f);
    CHECK_ALL_NEAR(loss, want_loss, 4, 1e-7f);
    CHECK_ALL_NEAR(g, want, 12, 1e-7f);
    const float p[3] = {0.25f, 0.0f, 0.75f}; /* no mass on the masked logit */
    llm_cross_entropy_soft_forward(loss, soft_lse, z + 9, p, 1, 3);
    CHECK_NEAR(loss[0], log(2.0), 1e-6);
    const int impossible[1] = {1};
    llm_cross_entropy_forward(loss, lse, z + 9, impossible, 1, 3);
    CHECK(loss[0] == INFINITY);

    const int all[2] = {LLM_CROSS_ENTROPY_IGNORE, LLM_CROSS_ENTROPY_IGNORE};
    CHECK(llm_cross_entropy_forward(loss, lse, z, all, 2, 3) == 0 && loss[0] == 0.0f);
    CHECK(llm_cross_entropy_total(all, NULL, 2) == 0.0f);
    CHECK(llm_cross_entropy_forward(NULL, NULL, NULL, NULL, 0, 3) == 0);
    const int wrong[2] = {3, -1};
    for (size_t k = 0; k < 2; k++) {
        CHECK_ASSERTS(llm_cross_entropy_forward(loss, lse, z, wrong + k, 1, 3));
        CHECK_ASSERTS(llm_cross_entropy_backward(dz, z, lse, wrong + k, 1, 3, 1.0f));
        CHECK_ASSERTS(llm_cross_entropy_in_place(loss, g, wrong + k, NULL, 1, 3, 1.0f, 0.0f));
    }
}

/* The loss in double: sum over rows of weight_y (lse - z_y) + c lse^2, or with p in place of y. */
static double cross_entropy_loss(const float *z, const int *target, const float *weight,
                                 const float *p, size_t N, size_t V, double c) {
    double loss = 0.0;
    for (size_t n = 0; n < N; n++) {
        double sum = 0.0;
        if (target && target[n] == LLM_CROSS_ENTROPY_IGNORE) continue;
        for (size_t i = 0; i < V; i++) sum += exp((double)z[n * V + i]);
        const double lse = log(sum);
        for (size_t i = 0; p && i < V; i++)
            loss += (double)p[n * V + i] * (lse - (double)z[n * V + i]);
        if (target) {
            const size_t y = (size_t)target[n];
            loss +=
                (weight ? (double)weight[y] : 1.0) * (lse - (double)z[n * V + y]) + c * lse * lse;
        }
    }
    return loss;
}

TEST(cross_entropy, "gradients agree with differences, and add to what is there") {
    enum { N = 4, V = 5 };
    const int target[N] = {3, LLM_CROSS_ENTROPY_IGNORE, 0, 4};
    float z[N * V], p[N * V], weight[V], loss[N], lse[N], dz[N * V] = {0.0f}, g[N * V];
    llm_rng rng = llm_rng_seed(3);
    llm_rng_normal_fill(&rng, z, N * V);
    for (size_t i = 0; i < N * V; i++) p[i] = 0.3f * llm_rng_uniform(&rng); /* sums are not 1 */
    for (size_t i = 0; i < V; i++) weight[i] = 0.5f + llm_rng_uniform(&rng);
    /* the loss is in double: what is left is the curvature, of the order of step^2 */
    llm_cross_entropy_forward(loss, lse, z, target, N, V);
    llm_cross_entropy_backward(dz, z, lse, target, N, V, 0.75f);
    llm_cross_entropy_backward(dz, z, lse, target, N, V, 0.75f);
    CHECK_GRAD(dz, z, N * V, 1e-2f, 1e-4f,
               1.5 * cross_entropy_loss(z, target, NULL, NULL, N, V, 0.0));
    memcpy(g, z, sizeof g);
    llm_cross_entropy_in_place(loss, g, target, weight, N, V, 2.0f, 0.3f);
    CHECK_GRAD(g, z, N * V, 1e-2f, 1e-3f,
               2.0 * cross_entropy_loss(z, target, weight, NULL, N, V, 0.3f));
    memset(dz, 0, sizeof dz);
    llm_cross_entropy_soft_forward(loss, lse, z, p, N, V);
    llm_cross_entropy_soft_backward(dz, z, lse, p, N, V, 0.5f);
    llm_cross_entropy_soft_backward(dz, z, lse, p, N, V, 0.5f);
    CHECK_GRAD(dz, z, N * V, 1e-2f, 1e-4f, cross_entropy_loss(z, NULL, NULL, p, N, V, 0.0));
}

TEST(cross_entropy, "H(p,q) = H(p) + KL as in SciPy; no q beats q = p") {
    const float *p = golden("decompose/p"), *q = golden("decompose/q");
    float parts[3], best_parts[2];
    parts[2] = llm_cross_entropy_decompose(&parts[0], &parts[1], p, q, 13);
    CHECK_GOLDEN(parts, 3, 2e-7f, "decompose/parts");

    const float best = llm_cross_entropy_decompose(&best_parts[0], &best_parts[1], p, p, 13);
    CHECK(best_parts[1] == 0.0f && best == best_parts[0] && best == parts[0]);
    llm_rng rng = llm_rng_seed(2);
    for (size_t round = 0; round < 100; round++) { /* move mass from a to b */
        float moved[13];
        memcpy(moved, p, sizeof moved);
        const size_t a = llm_rng_below(&rng, 13), b = llm_rng_below(&rng, 13);
        const float mass = moved[a] * llm_rng_uniform(&rng);
        moved[a] -= mass, moved[b] += mass;
        CHECK(llm_cross_entropy_decompose(&parts[0], &parts[1], p, moved, 13) >= best);
        CHECK(parts[1] >= -1e-7f); /* q does not sum to 1 exactly */
    }
    const float half[2] = {0.5f, 0.5f}, sure[2] = {1.0f, 0.0f};
    CHECK(llm_cross_entropy_decompose(&parts[0], &parts[1], half, sure, 2) == INFINITY);
    CHECK(parts[1] == INFINITY);
    CHECK_NEAR(parts[0], log(2.0), 1e-7);
    CHECK_NEAR(llm_cross_entropy_decompose(&parts[0], &parts[1], sure, half, 2), log(2.0), 1e-7);
    CHECK(parts[0] == 0.0f);
}

TEST(cross_entropy, "its gradient is what @autodiff_array makes of log(sum(exp(z))) - z_target") {
    enum { N = 5, V = 7 };
    tape_open(90);
    const int target[N] = {3, 0, 6, LLM_CROSS_ENTROPY_IGNORE, 2};
    float *chosen = zeros(N * V), *kept = zeros(N), loss[N], lse[N], dz[N * V];
    for (size_t n = 0; n < N; n++)
        if (target[n] != LLM_CROSS_ENTROPY_IGNORE)
            chosen[n * V + (size_t)target[n]] = kept[n] = 1.0f;
    const size_t z = tape_draw(N, V), y = tape_log(tape_row_sums(tape_exp(z)));
    const size_t at = tape_row_sums(tape_mul(z, tape_input(chosen, N, V)));
    const size_t each = tape_mul(tape_sub(y, at), tape_input(kept, N, 1));
    tape_back(each, NULL);
    llm_cross_entropy_forward(loss, lse, tape_floats(z), target, N, V);
    memset(dz, 0, sizeof dz);
    llm_cross_entropy_backward(dz, tape_floats(z), lse, target, N, V, 1.0f);
    TAPE_CHECK(loss, each, 1e-6);
    TAPE_CHECK_GRAD(dz, z, 1e-6);
}

/* loss (N), dz (N,V) in pieces of `block` classes, the last ones first when `back`. */
static size_t cross_entropy_pieces(float *loss, float *dz, const float *z, const int *target,
                                   size_t N, size_t V, size_t block, bool back, float scale) {
    llm_logsumexp_pair *state = (llm_logsumexp_pair *)test_memory(N, sizeof *state);
    float *z_y = floats(N);
    const size_t pieces = (V + block - 1) / block;
    for (size_t n = 0; n < N; n++) state[n].max = -INFINITY;
    for (size_t pass = 0; pass < 2; pass++)
        for (size_t k = 0; k < pieces; k++) {
            const size_t first = block * (back ? pieces - 1 - k : k);
            const size_t size = V - first < block ? V - first : block;
            float *piece = floats(N * size);
            for (size_t i = 0; i < N * size; i++) piece[i] = z[i / size * V + first + i % size];
            if (pass == 0) llm_cross_entropy_chunk(state, z_y, piece, target, first, N, size);
            if (pass == 0) continue;
            llm_cross_entropy_chunk_backward(piece, state, target, first, N, size, scale);
            for (size_t i = 0; i < N * size; i++) dz[i / size * V + first + i % size] = piece[i];
        }
    return llm_cross_entropy_chunk_loss(loss, state, z_y, target, N);
}

TEST(cross_entropy, "in pieces of the vocabulary, of any size and order: torch's numbers as well") {
    const size_t shapes[][2] = {{1, 1}, {2, 2}, {5, 3}, {4, 17}, {7, 8}, {3, 50}};
    const size_t blocks[5] = {1, 2, 3, 7, 64};
    for (size_t s = 0; s < 6; s++)
        for (size_t b = 0; b < 10; b++) {
            const size_t N = shapes[s][0], V = shapes[s][1];
            float *z = cross_entropy_copy(golden("%zux%zu/z", N, V), N * V);
            const int *target = cross_entropy_targets(golden("%zux%zu/target", N, V), N);
            float *loss = floats(N), *dz = floats(N * V);
            for (size_t i = 0; N > 2 && i < V; i++) z[V + i] = NAN; /* the ignored row */
            CHECK(cross_entropy_pieces(loss, dz, z, target, N, V, blocks[b / 2], b % 2 == 1,
                                       1.0f) == (N > 2 ? N - 1 : N));
            CHECK_GOLDEN(loss, N, 1e-6f, "%zux%zu/loss", N, V);
            CHECK_GOLDEN(dz, N * V, 1e-6f, "%zux%zu/sum", N, V);
        }
    /* pieces of nothing but masked classes, before and behind the target's; and one scale */
    const float inf = INFINITY;
    const float z[8] = {-inf, -inf, 1.0f, -inf, 2.0f, 0.5f, -inf, -inf};
    const int target[1] = {5};
    float loss[1], dz[8], want[1], dwant[8] = {0};
    float lse[1];
    llm_cross_entropy_forward(want, lse, z, target, 1, 8);
    llm_cross_entropy_backward(dwant, z, lse, target, 1, 8, 0.25f);
    for (size_t block = 1; block < 4; block++) {
        CHECK(cross_entropy_pieces(loss, dz, z, target, 1, 8, block, block == 3, 0.25f) == 1);
        CHECK_NEAR(loss[0], want[0], 1e-6);
        CHECK_ALL_NEAR(dz, dwant, 8, 1e-7f);
    }
    const int wrong[1] = {-1};
    CHECK_ASSERTS(cross_entropy_pieces(loss, dz, z, wrong, 1, 8, 2, false, 1.0f));
}

TEST(cross_entropy,
     "fused with the output matrix: no (N,V) logits, and the gradients of both factors") {
    const size_t N = 6, C = 5, V = 23, block = 4;
    llm_rng rng = llm_rng_seed(11);
    float *h = floats(N * C), *w = floats(V * C), *z = floats(N * V), *loss = floats(N);
    float *dh = zeros(N * C), *dw = zeros(V * C), *lse = floats(N), *want = floats(N);
    float *dz = zeros(N * V), *dh_want = zeros(N * C), *dw_want = zeros(V * C);
    const int target[6] = {3, -100, 22, 0, 7, 8};
    llm_rng_normal_fill(&rng, h, N * C);
    llm_rng_normal_fill(&rng, w, V * C);
    llm_matmul_forward(z, h, w, NULL, N, C, V);
    const size_t kept = llm_cross_entropy_forward(want, lse, z, target, N, V);
    llm_cross_entropy_backward(dz, z, lse, target, N, V, 0.2f);
    llm_matmul_backward(dh_want, dw_want, NULL, dz, h, w, N, C, V);

    llm_logsumexp_pair state[6];
    float z_y[6], *piece = floats(N * block);
    for (size_t n = 0; n < N; n++) state[n].max = -INFINITY, state[n].sum = 0.0f;
    for (size_t pass = 0; pass < 2; pass++)
        for (size_t first = 0; first < V; first += block) {
            const size_t size = V - first < block ? V - first : block;
            llm_matmul_forward(piece, h, w + first * C, NULL, N, C, size);
            if (pass == 0) llm_cross_entropy_chunk(state, z_y, piece, target, first, N, size);
            if (pass == 0) continue;
            llm_cross_entropy_chunk_backward(piece, state, target, first, N, size, 0.2f);
            llm_matmul_backward(dh, dw + first * C, NULL, piece, h, w + first * C, N, C, size);
        }
    CHECK(llm_cross_entropy_chunk_loss(loss, state, z_y, target, N) == kept && kept == 5);
    CHECK_ALL_NEAR(loss, want, N, 1e-6f);
    CHECK_ALL_NEAR(dh, dh_want, N * C, 1e-6f);
    CHECK_ALL_NEAR(dw, dw_want, V * C, 1e-6f);
}
