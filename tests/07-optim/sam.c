/* @sam */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

static const size_t sa_size[3] = {3, 4, 2};
static const llm_mlp sa_net = {sa_size, 2, LLM_ACTIVATION_TANH, LLM_OUTPUT_LAYER_SOFTMAX};
enum { SA_P = 26, SA_N = 6 };

TEST(sam, "20 steps with momentum equal the PyTorch SAM, plain and adaptive") {
    const char *names[2] = {"sam", "adaptive"};
    const float *x = golden("net/x");
    const int *label = as_ints(golden("net/label"), SA_N);
    for (size_t k = 0; k < 2; k++) {
        float w[SA_P], v[SA_P] = {0.0f}, g[SA_P], path[3 * SA_P], *at = path;
        llm_arena arena = test_arena(1 << 21);
        llm_sam_config c = llm_sam_defaults();
        if (k == 1) c.adaptive = true, c.rho = 0.5f, c.eta = 0.0f;
        memcpy(w, golden("net/w0"), sizeof w);
        for (size_t t = 1; t <= 20; t++) {
            memset(g, 0, sizeof g);
            llm_sam_gradient(g, w, &sa_net, x, label, NULL, SA_N, &c, &arena);
            for (size_t i = 0; i < SA_P; i++) {
                v[i] = 0.9f * v[i] + g[i];
                w[i] -= 0.1f * v[i];
            }
            if (t != 1 && t != 2 && t != 20) continue;
            memcpy(at, w, sizeof w);
            at += SA_P;
        }
        CHECK_GOLDEN(path, 3 * SA_P, 5e-6f, "%s/w", names[k]);
        CHECK(arena.used == 0);
    }
    const llm_sam_config c = llm_sam_defaults();
    CHECK(c.rho == 0.05f && c.eta == 0.01f && !c.adaptive && c.micro == 0);
}

TEST(sam, "eta, a perturbation for each micro-batch, and LookSAM equal autograd; w is put back") {
    const float *x = golden("net/x"), *w0 = golden("net/w0"), *plain = golden("eta/plain");
    const int *label = as_ints(golden("net/label"), SA_N);
    float w[SA_P], g[SA_P], v[SA_P], loss[1];
    llm_arena arena = test_arena(1 << 21);
    llm_sam_config c = llm_sam_defaults();
    c.adaptive = true, c.rho = 0.3f, c.eta = 0.2f, c.micro = 4;
    memcpy(w, w0, sizeof w);
    for (size_t i = 0; i < SA_P; i++) g[i] = 1.0f;
    loss[0] = (float)llm_sam_gradient(g, w, &sa_net, x, label, NULL, SA_N, &c, &arena);
    for (size_t i = 0; i < SA_P; i++) g[i] -= 1.0f; /* added */
    CHECK_GOLDEN(loss, 1, 1e-6f, "eta/loss");
    CHECK_GOLDEN(g, SA_P, 2e-6f, "eta/g");
    CHECK(memcmp(w, w0, sizeof w) == 0);
    CHECK(arena.used == 0);

    llm_sam_look(v, golden("eta/g"), plain, SA_P);
    CHECK_GOLDEN(v, SA_P, 1e-6f, "eta/look");
    memcpy(g, plain, sizeof g);
    llm_sam_look_again(g, v, SA_P, 0.7f);
    CHECK_GOLDEN(g, SA_P, 1e-6f, "eta/again");
    float zero[2] = {0.0f, 0.0f}, some[2] = {1.0f, 2.0f}, out[2];
    llm_sam_look(out, some, zero, 2);
    CHECK_ALL_NEAR(out, some, 2, 0.0f);
    llm_sam_look_again(some, zero, 2, 1.0f);
    CHECK(some[0] == 1.0f && some[1] == 2.0f);
}

TEST(sam, "rho 0 is the plain gradient to the bit; targets and a batch of none") {
    llm_rng rng = llm_rng_seed(1);
    const llm_mlp net = {sa_size, 2, LLM_ACTIVATION_TANH, LLM_OUTPUT_LAYER_MSE};
    float w[SA_P], x[5 * 3], target[5 * 2], g[SA_P] = {0.0f}, want[SA_P] = {0.0f};
    float two[SA_P] = {0.0f}, three[SA_P] = {0.0f};
    llm_arena arena = test_arena(1 << 21);
    llm_sam_config c = llm_sam_defaults();
    llm_rng_normal_fill(&rng, w, SA_P);
    llm_rng_normal_fill(&rng, x, 15);
    llm_rng_normal_fill(&rng, target, 10);
    c.rho = 0.0f;
    const double loss = llm_sam_gradient(g, w, &net, x, NULL, target, 5, &c, &arena);
    CHECK(loss == llm_mlp_gradient(want, &net, w, x, NULL, target, 5, &arena));
    CHECK_ALL_NEAR(g, want, SA_P, 0.0f);

    c.rho = 0.1f, c.micro = 3; /* each its own: the weighted sum of what they give apart */
    CHECK_NEAR(llm_sam_gradient(g, w, &net, x, NULL, target, 5, &c, &arena), loss, 1e-6);
    c.micro = 0;
    llm_sam_gradient(two, w, &net, x, NULL, target, 3, &c, &arena);
    llm_sam_gradient(three, w, &net, x + 9, NULL, target + 6, 2, &c, &arena);
    for (size_t i = 0; i < SA_P; i++) want[i] += 0.6f * two[i] + 0.4f * three[i];
    CHECK_ALL_NEAR(g, want, SA_P, 1e-6f);
    memset(g, 0, sizeof g), memset(two, 0, sizeof two), memset(three, 0, sizeof three);
    llm_sam_gradient(two, w, &net, x, NULL, target, 1, &c, &arena);
    llm_sam_gradient(three, w, &net, x + 3, NULL, target + 2, 1, &c, &arena);
    c.micro = 1;
    llm_sam_gradient(g, w, &net, x, NULL, target, 2, &c, &arena);
    for (size_t i = 0; i < SA_P; i++) want[i] = 0.5f * two[i] + 0.5f * three[i];
    CHECK_ALL_NEAR(g, want, SA_P, 1e-6f);
    CHECK(llm_sam_gradient(g, w, &net, x, NULL, target, 0, &c, &arena) == 0.0);
}

TEST(sam, "the perturbation is rho long, rises most of 1000 directions, and stays put without a "
          "gradient") {
    enum { N = 9 };
    llm_rng rng = llm_rng_seed(2);
    llm_sam_config c = llm_sam_defaults();
    float w[N], was[N], g[N], saved[N];
    llm_rng_normal_fill(&rng, w, N);
    llm_rng_normal_fill(&rng, g, N);
    for (int adaptive = 0; adaptive < 2; adaptive++) {
        double rise = 0.0, length = 0.0;
        c.adaptive = adaptive, c.rho = 0.25f;
        memcpy(was, w, sizeof w);
        CHECK(llm_sam_perturb(w, saved, g, N, &c) > 0.0);
        CHECK_ALL_NEAR(saved, was, N, 0.0f);
        for (size_t i = 0; i < N; i++) {
            const double e = (double)w[i] - (double)saved[i];
            const double t = adaptive ? fabs((double)saved[i]) + 0.01 : 1.0;
            rise += e * (double)g[i], length += e / t * (e / t);
        }
        CHECK_NEAR(sqrt(length), 0.25, 1e-5); /* of e / T: the stretched ball's radius */
        for (size_t trial = 0; trial < 1000; trial++) {
            float d[N];
            double other = 0.0, square = 0.0;
            llm_rng_normal_fill(&rng, d, N);
            for (size_t i = 0; i < N; i++) square += (double)d[i] * (double)d[i];
            for (size_t i = 0; i < N; i++) {
                const double t = adaptive ? fabs((double)saved[i]) + 0.01 : 1.0;
                other += 0.25 * t * (double)d[i] / sqrt(square) * (double)g[i];
            }
            CHECK(other < rise);
        }
        llm_sam_restore(w, saved, N);
        CHECK_ALL_NEAR(w, was, N, 0.0f);
    }
    float at[1] = {0.0f}; /* of a gradient as small as the 1e-12 that is added, half the length */
    const float tiny[1] = {1e-12f};
    c.adaptive = false;
    llm_sam_perturb(at, saved, tiny, 1, &c);
    CHECK_NEAR(at[0], 0.125, 1e-6);
    memset(g, 0, sizeof g);
    CHECK(llm_sam_perturb(w, saved, g, N, &c) == 0.0);
    CHECK_ALL_NEAR(w, was, N, 0.0f);
}

/* hv <- H v of the mean loss at w, by central differences. */
static void sa_hessian(float *hv, float *w, const llm_mlp *m, const float *v, const float *x,
                       const int *label, size_t N, float h, llm_arena *arena) {
    const size_t P = llm_mlp_param_count(m);
    float *at = floats(P), *ahead = zeros(P), *behind = zeros(P);
    for (size_t i = 0; i < P; i++) at[i] = w[i] + h * v[i];
    llm_mlp_gradient(ahead, m, at, x, label, NULL, N, arena);
    for (size_t i = 0; i < P; i++) at[i] = w[i] - h * v[i];
    llm_mlp_gradient(behind, m, at, x, label, NULL, N, arena);
    for (size_t i = 0; i < P; i++) hv[i] = (ahead[i] - behind[i]) / (2.0f * h);
}

TEST(sam, "SAM's gradient is g + rho H g / |g|; the trace is that of the Hessian") {
    const float *x = golden("net/x"), *w0 = golden("net/w0");
    const int *label = as_ints(golden("net/label"), SA_N);
    const float want = golden("hessian/trace")[0], spread = golden("hessian/spread")[0];
    float w[SA_P], g[SA_P] = {0.0f}, sam[SA_P] = {0.0f}, v[SA_P], hv[SA_P];
    llm_arena arena = test_arena(1 << 21);
    llm_sam_config c = llm_sam_defaults();
    memcpy(w, w0, sizeof w);
    llm_mlp_gradient(g, &sa_net, w, x, label, NULL, SA_N, &arena);
    const float size = sqrtf((float)dot(g, g, SA_P));
    for (size_t i = 0; i < SA_P; i++) v[i] = g[i] / size;
    sa_hessian(hv, w, &sa_net, v, x, label, SA_N, 0.01f, &arena);
    c.rho = 0.01f;
    llm_sam_gradient(sam, w, &sa_net, x, label, NULL, SA_N, &c, &arena);
    for (size_t i = 0; i < SA_P; i++) {
        sam[i] = (sam[i] - g[i]) / c.rho; /* left: H g / |g| + O(rho) */
        CHECK_NEAR(sam[i], hv[i], 0.01);
    }
    CHECK(dot(hv, hv, SA_P) > 0.1);

    llm_rng rng = llm_rng_seed(3);
    const double trace = llm_sam_trace(w, &sa_net, x, label, NULL, SA_N, 2000, &rng, &arena);
    CHECK_NEAR(trace, want, 4.0 * (double)spread / sqrt(2000.0));
    CHECK(memcmp(w, w0, sizeof w) == 0 && arena.used == 0);
    CHECK(llm_sam_trace(w, &sa_net, x, label, NULL, SA_N, 0, &rng, &arena) == 0.0);
}

TEST(sam, "the worst point within a radius beats 300 random ones and SAM's first step") {
    const float *x = golden("net/x"), *w0 = golden("net/w0");
    const int *label = as_ints(golden("net/label"), SA_N);
    float w[SA_P], at[SA_P];
    llm_arena arena = test_arena(1 << 21);
    llm_rng rng = llm_rng_seed(4);
    memcpy(w, w0, sizeof w);
    const double base = llm_mlp_gradient(NULL, &sa_net, w, x, label, NULL, SA_N, &arena);
    const double far = llm_sam_worst(w, &sa_net, x, label, NULL, SA_N, 1.0f, 20, &arena);
    const double near = llm_sam_worst(w, &sa_net, x, label, NULL, SA_N, 1.0f, 2, &arena);
    CHECK(memcmp(w, w0, sizeof w) == 0 && arena.used == 0);
    CHECK(far >= near && near > 0.0);
    CHECK(llm_sam_worst(w, &sa_net, x, label, NULL, SA_N, 1.0f, 0, &arena) == 0.0);
    double best = 0.0;
    for (size_t trial = 0; trial < 300; trial++) {
        double square = 0.0;
        llm_rng_normal_fill(&rng, at, SA_P);
        for (size_t i = 0; i < SA_P; i++) square += (double)at[i] * (double)at[i];
        for (size_t i = 0; i < SA_P; i++) at[i] = w[i] + at[i] / (float)sqrt(square);
        best = fmax(best, llm_mlp_gradient(NULL, &sa_net, at, x, label, NULL, SA_N, &arena) - base);
    }
    CHECK(far > best && far < 5.0 * best);
    const double half = llm_sam_worst(w, &sa_net, x, label, NULL, SA_N, 0.5f, 20, &arena);
    CHECK(half < far && half > 0.3 * far);
}

TEST(sam, "on a parabola the worst point and the trace are known") {
    const size_t size[2] = {1, 1};
    const llm_mlp net = {size, 1, LLM_ACTIVATION_TANH, LLM_OUTPUT_LAYER_MSE};
    llm_arena arena = test_arena(1 << 21);
    llm_rng rng = llm_rng_seed(6);
    const float x[2] = {1.0f, -1.0f}, target[2] = {0.0f, 0.0f}; /* the loss is k (w^2 + b^2) */
    float w[2] = {3.0f, 4.0f};
    const double k = llm_mlp_gradient(NULL, &net, w, x, NULL, target, 2, &arena) / 25.0;
    const double way[4] = {0.0, 0.05, 0.1, 0.1}; /* straight away from 0, at a distance of 5 */
    for (size_t steps = 0; steps < 4; steps++)
        CHECK_NEAR(llm_sam_worst(w, &net, x, NULL, target, 2, 0.1f, steps, &arena),
                   way[steps] * (10.0 + way[steps]) * k, 1e-5);
    arena = test_arena(1 << 21);
    CHECK_NEAR(llm_sam_trace(w, &net, x, NULL, target, 2, 1, &rng, &arena), 4.0 * k, 1e-2);
    CHECK(w[0] == 3.0f && w[1] == 4.0f);
}

TEST(sam, "ASAM's rise does not change when layers are rescaled, SAM's does") {
    llm_rng rng = llm_rng_seed(5);
    const llm_mlp net = {sa_size, 2, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_SOFTMAX};
    const float *x = golden("net/x");
    const int *label = as_ints(golden("net/label"), SA_N);
    llm_arena arena = test_arena(1 << 21);
    for (int adaptive = 0; adaptive < 2; adaptive++) {
        double rise[2];
        float w[SA_P], g[SA_P], saved[SA_P];
        llm_sam_config c = llm_sam_defaults();
        c.adaptive = adaptive, c.eta = 0.0f, c.rho = 0.1f;
        llm_rng_normal_fill(&rng, w, SA_P);
        for (size_t k = 0; k < 2; k++) {
            for (size_t i = 0; k == 1 && i < 16; i++) w[i] *= 8.0f; /* W_1, b_1 */
            for (size_t i = 16; k == 1 && i < 24; i++) w[i] /= 8.0f;
            memset(g, 0, sizeof g);
            rise[k] = -llm_mlp_gradient(g, &net, w, x, label, NULL, SA_N, &arena);
            llm_sam_perturb(w, saved, g, SA_P, &c);
            rise[k] += llm_mlp_gradient(NULL, &net, w, x, label, NULL, SA_N, &arena);
            llm_sam_restore(w, saved, SA_P);
        }
        if (adaptive) CHECK_NEAR(rise[1], rise[0], 1e-5 * rise[0]);
        if (!adaptive) CHECK(rise[1] > 2.0 * rise[0]);
    }
}

TEST(sam,
     "SAM walks out of a crevice as far as rho, and from there descent finds the wide valley") {
    for (int sharp = 0; sharp < 2; sharp++) {
        llm_sam_config c = llm_sam_defaults();
        float x[1] = {-1.0f}, saved[1], g[1];
        for (size_t t = 0; t < 8000; t++) { /* -e^(-(x+1)^2/0.02) - e^(-(x-1)^2/2) */
            c.rho = sharp && t < 2000 ? 0.5f : 0.0f;
            for (int side = 0; side < 2; side++) {
                const float a = x[0] + 1.0f, b = x[0] - 1.0f;
                g[0] = a / 0.01f * expf(-a * a / 0.02f) + b * expf(-b * b / 2.0f);
                if (side == 0) llm_sam_perturb(x, saved, g, 1, &c);
            }
            llm_sam_restore(x, saved, 1);
            x[0] -= 0.005f * g[0];
            /* it stops where the gradient at x + e is 0: half a unit beside the crevice */
            if (t == 1999) CHECK_NEAR(x[0], sharp ? -0.5f : -1.0f, 0.005f);
        }
        CHECK_NEAR(x[0], sharp ? 1.0f : -1.0f, 0.005f);
    }
}

enum { SG_N = 200, SG_P = 64 * 24 + 24 + 240 + 10 };
/* The largest eigenvalue of the Hessian where training ends: full batches of 200 glyphs, a net of
 * 64-24-10, momentum 0.9, until the loss is below 0.2. */
static double sa_top(float rho, uint64_t seed, double *worst) {
    static const size_t size[3] = {64, 24, 10};
    const llm_mlp net = {size, 2, LLM_ACTIVATION_TANH, LLM_OUTPUT_LAYER_SOFTMAX};
    float *w = floats(SG_P), *v = zeros(SG_P), *g = floats(SG_P), *x = floats(SG_N * 64);
    int label[SG_N];
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena = test_arena(1 << 21);
    llm_sam_config c = llm_sam_defaults();
    double top = 0.0;
    c.rho = rho;
    llm_mlp_init(w, &net, &rng);
    llm_glyphs(x, label, SG_N, 1.0f, 0.3f, &rng);
    for (size_t t = 0; t < 1000; t++) {
        memset(g, 0, SG_P * sizeof(float));
        if (llm_sam_gradient(g, w, &net, x, label, NULL, SG_N, &c, &arena) < 0.2) break;
        for (size_t i = 0; i < SG_P; i++) {
            v[i] = 0.9f * v[i] + g[i];
            w[i] -= 0.1f * v[i];
        }
    }
    llm_rng_normal_fill(&rng, v, SG_P);
    for (size_t round = 0; round < 20; round++) {
        const float size_v = sqrtf((float)dot(v, v, SG_P));
        for (size_t i = 0; i < SG_P; i++) v[i] /= size_v;
        sa_hessian(g, w, &net, v, x, label, SG_N, 0.02f, &arena);
        top = dot(v, g, SG_P);
        memcpy(v, g, SG_P * sizeof(float));
    }
    *worst = llm_sam_worst(w, &net, x, label, NULL, SG_N, 0.5f, 15, &arena);
    return top;
}

/* The mean over two seeds of the largest eigenvalue, and of the worst rise, with SAM over
 * without. */
static void sa_flatter(double ratio[2], uint64_t seed) {
    double sum[4] = {0.0, 0.0, 0.0, 0.0};
    for (size_t k = 0; k < 4; k++) {
        double worst = 0.0;
        sum[k % 2] += sa_top(k % 2 ? 1.0f : 0.0f, seed + k / 2, &worst);
        sum[2 + k % 2] += worst;
    }
    ratio[0] = sum[1] / sum[0], ratio[1] = sum[3] / sum[2];
}

TEST(sam,
     "glyphs: at the same training loss the curvature is lower, and so is the worst point nearby") {
    double ratio[2];
    sa_flatter(ratio, 1);
    /* eight further pairs of seeds: 0.52 to 0.63, and 0.55 to 0.69 */
    CHECK(ratio[0] < 0.81 && ratio[1] < 0.84);
}
