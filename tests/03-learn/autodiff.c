/* @autodiff */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

static void ad_floats(float *out, const llm_dual *bar, size_t n, bool second) {
    for (size_t i = 0; i < n; i++) out[i] = (float)(second ? bar[i].d : bar[i].v);
}

/* Inputs x (n) with tangents v (n), nodes 0 .. n-1. */
static void ad_inputs(llm_autodiff *t, const float *x, const float *v, size_t n) {
    for (size_t i = 0; i < n; i++)
        CHECK(llm_autodiff_input(t, (double)x[i], v ? (double)v[i] : 0.0) == i);
}

/* Sum of 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2, its terms from the front or from the back. */
static size_t ad_rosenbrock(llm_autodiff *t, size_t n, bool backwards) {
    const size_t one = llm_autodiff_input(t, 1.0, 0.0), hundred = llm_autodiff_input(t, 100.0, 0.0);
    size_t sum = llm_autodiff_input(t, 0.0, 0.0);
    for (size_t k = 0; k + 1 < n; k++) {
        const size_t i = backwards ? n - 2 - k : k;
        const size_t gap = llm_autodiff_sub(t, i + 1, llm_autodiff_mul(t, i, i));
        const size_t off = llm_autodiff_sub(t, one, i);
        sum = llm_autodiff_add(t, sum, llm_autodiff_mul(t, hundred, llm_autodiff_mul(t, gap, gap)));
        sum = llm_autodiff_add(t, sum, llm_autodiff_pow(t, off, 2.0));
    }
    return sum;
}

TEST(autodiff, "Rosenbrock: value, gradient, direction and Hessian times vector equal jax") {
    const float *x = golden("rosenbrock/x"), *v = golden("rosenbrock/v");
    llm_arena arena = test_arena(1 << 18);
    llm_dual bar[64], other[64];
    float got[4];
    llm_autodiff t;
    llm_autodiff_create(&t, 64, &arena);
    ad_inputs(&t, x, v, 4);
    const size_t y = ad_rosenbrock(&t, 4, false);
    got[0] = (float)t.node[y].value.v;
    CHECK_GOLDEN(got, 1, 2e-7f, "rosenbrock/f");
    got[0] = (float)t.node[y].value.d;
    CHECK_GOLDEN(got, 1, 2e-7f, "rosenbrock/jvp");
    llm_autodiff_grad(bar, &t, y);
    ad_floats(got, bar, 4, false);
    CHECK_GOLDEN(got, 4, 2e-7f, "rosenbrock/grad");
    ad_floats(got, bar, 4, true);
    CHECK_GOLDEN(got, 4, 2e-7f, "rosenbrock/hvp");

    double dot_[64] = {0.0};
    for (size_t i = 0; i < 4; i++) dot_[i] = (double)v[i];
    llm_autodiff_jvp(dot_, &t);
    CHECK_NEAR(dot_[y], t.node[y].value.d, 1e-12 * fabs(dot_[y]));

    /* another order of recording: the same numbers to rounding; rewound and recorded again:
     * exactly */
    t.count = 4;
    const size_t z = ad_rosenbrock(&t, 4, true);
    llm_autodiff_grad(other, &t, z);
    for (size_t i = 0; i < 4; i++) {
        CHECK_NEAR(other[i].v, bar[i].v, 1e-13 * (1.0 + fabs(bar[i].v)));
        CHECK_NEAR(other[i].d, bar[i].d, 1e-13 * (1.0 + fabs(bar[i].d)));
    }
    t.count = 4;
    CHECK(ad_rosenbrock(&t, 4, false) == y);
    llm_autodiff_grad(other, &t, y);
    CHECK(!memcmp(other, bar, 4 * sizeof *bar));
}

/* log(1 + exp(u tanh(W x + b))) of the golden file; nodes 0..11 are W, b, u. */
static size_t ad_mlp(llm_autodiff *t) {
    const size_t in[2] = {llm_autodiff_input(t, 0.5, 0.0), llm_autodiff_input(t, -1.25, 0.0)};
    size_t out = llm_autodiff_input(t, 0.0, 0.0);
    for (size_t h = 0; h < 3; h++) {
        size_t z = 6 + h;
        for (size_t k = 0; k < 2; k++)
            z = llm_autodiff_add(t, z, llm_autodiff_mul(t, 2 * h + k, in[k]));
        out = llm_autodiff_add(t, out, llm_autodiff_mul(t, 9 + h, llm_autodiff_tanh(t, z)));
    }
    return llm_autodiff_log(
        t, llm_autodiff_add(t, llm_autodiff_input(t, 1.0, 0.0), llm_autodiff_exp(t, out)));
}

TEST(autodiff,
     "a small network equals jax; the Hessian is symmetric and is the slope of the gradient") {
    const float *x = golden("mlp/x"), *v = golden("mlp/v");
    llm_arena arena = test_arena(1 << 18);
    llm_dual bar[64], up[64], down[64];
    float got[12], u[12], xu[12], xd[12];
    llm_autodiff t;
    llm_autodiff_create(&t, 64, &arena);
    ad_inputs(&t, x, v, 12);
    size_t y = ad_mlp(&t);
    got[0] = (float)t.node[y].value.v;
    CHECK_GOLDEN(got, 1, 2e-7f, "mlp/f");
    llm_autodiff_grad(bar, &t, y);
    ad_floats(got, bar, 12, false);
    CHECK_GOLDEN(got, 12, 2e-7f, "mlp/grad");
    ad_floats(got, bar, 12, true);
    CHECK_GOLDEN(got, 12, 2e-7f, "mlp/hvp");

    llm_rng rng = llm_rng_seed(4);
    llm_rng_normal_fill(&rng, u, 12);
    double uhv = 0.0, vhu = 0.0;
    for (size_t i = 0; i < 12; i++) uhv += (double)u[i] * bar[i].d;
    t.count = 0;
    ad_inputs(&t, x, u, 12);
    y = ad_mlp(&t);
    llm_autodiff_grad(up, &t, y);
    for (size_t i = 0; i < 12; i++) vhu += (double)v[i] * up[i].d;
    CHECK_NEAR(uhv, vhu, 1e-13);

    for (size_t i = 0; i < 12; i++) xu[i] = x[i] + 0.001f * v[i], xd[i] = x[i] - 0.001f * v[i];
    t.count = 0;
    ad_inputs(&t, xu, NULL, 12);
    y = ad_mlp(&t);
    llm_autodiff_grad(up, &t, y);
    CHECK(up[3].d == 0.0); /* no tangent, no second derivative */
    t.count = 0;
    ad_inputs(&t, xd, NULL, 12);
    y = ad_mlp(&t);
    llm_autodiff_grad(down, &t, y);
    for (size_t i = 0; i < 12; i++) /* the points are rounded to float: 1e-7 / 1e-3 */
        CHECK_NEAR((up[i].v - down[i].v) / 0.002, bar[i].d, 3e-4);
}

TEST(autodiff, "a loop whose length depends on the data is differentiated as it ran") {
    for (size_t k = 0; k < 4; k++) {
        llm_arena arena = test_arena(1 << 18);
        llm_autodiff t;
        llm_dual bar[64];
        llm_autodiff_create(&t, 64, &arena);
        const size_t a = llm_autodiff_input(&t, (double)golden("loop%zu/a", k)[0], 0.0);
        const size_t c = llm_autodiff_input(&t, 0.3, 0.0);
        size_t z = a, runs = 0;
        for (; t.node[z].value.v < 10.0; runs++)
            z = llm_autodiff_add(
                &t, llm_autodiff_add(&t, llm_autodiff_mul(&t, z, z), llm_autodiff_sin(&t, z)), c);
        CHECK(runs == (size_t)golden("loop%zu/n", k)[0]);
        llm_autodiff_grad(bar, &t, z);
        const float got[2] = {(float)t.node[z].value.v, (float)bar[a].v};
        CHECK_GOLDEN(got, 1, 2e-7f, "loop%zu/z", k);
        CHECK_GOLDEN(got + 1, 1, 2e-7f, "loop%zu/dz", k);
    }
}

TEST(autodiff, "Jacobians take the cheaper side and equal jax and each other") {
    const float *x = golden("many/x");
    llm_arena arena = test_arena(1 << 18);
    llm_autodiff t;
    llm_autodiff_create(&t, 16, &arena);
    ad_inputs(&t, x, NULL, 2);
    const size_t in[2] = {0, 1};
    const size_t y[3] = {llm_autodiff_mul(&t, llm_autodiff_cos(&t, 0), 1),
                         llm_autodiff_div(&t, 0, 1),
                         llm_autodiff_pow(&t, llm_autodiff_max(&t, 0, 1), 1.5)};
    double jac[6], row[2];
    float got[6];
    const size_t mark = arena.used;
    CHECK(llm_autodiff_jacobian(jac, &t, y, 3, in, 2, &arena) == 2 && arena.used == mark);
    for (size_t i = 0; i < 6; i++) got[i] = (float)jac[i];
    CHECK_GOLDEN(got, 6, 2e-7f, "many/jac");
    for (size_t i = 0; i < 3; i++) {
        CHECK(llm_autodiff_jacobian(row, &t, y + i, 1, in, 2, &arena) == 1);
        for (size_t j = 0; j < 2; j++) CHECK_NEAR(row[j], jac[2 * i + j], 1e-15);
    }
    double tie[4];
    CHECK(llm_autodiff_jacobian(tie, &t, y, 2, in, 2, &arena) == 2); /* a tie */
    for (size_t i = 0; i < 4; i++) CHECK_NEAR(tie[i], jac[i], 1e-15);
}

TEST(autodiff, "ties, infinite slopes that nothing depends on, own functions, limits") {
    llm_arena arena = test_arena(1 << 18);
    llm_autodiff t;
    llm_dual bar[16];
    llm_autodiff_create(&t, 12, &arena);
    const size_t x = llm_autodiff_input(&t, 0.0, 0.0), zero = llm_autodiff_input(&t, 0.0, 0.0);
    llm_autodiff_grad(bar, &t, llm_autodiff_max(&t, x, zero));
    CHECK(bar[x].v == 0.5 && bar[zero].v == 0.5);
    const size_t root = llm_autodiff_pow(&t, x, 0.5), none = llm_autodiff_mul(&t, root, zero);
    llm_autodiff_grad(bar, &t,
                      none); /* 0 sqrt(x) at x = 0: the slope of the root is not asked for */
    CHECK(bar[x].v == 0.0 && bar[root].v == 0.0);
    double dot_[12] = {0.0};
    llm_autodiff_jvp(dot_, &t);
    CHECK(dot_[root] == 0.0);
    llm_autodiff_grad(bar, &t, root);
    CHECK(bar[x].v == (double)INFINITY);
    CHECK(t.node[llm_autodiff_pow(&t, x, 0.0)].slope[0].v == 0.0);

    /* straight-through rounding: value round(z), slope 1 */
    const size_t z = llm_autodiff_input(&t, 2.6, 0.0);
    const llm_dual value = {3.0, 0.0}, slope = {1.0, 0.0};
    const size_t rounded = llm_autodiff_unary(&t, z, value, slope);
    const size_t square = llm_autodiff_mul(&t, rounded, rounded);
    llm_autodiff_grad(bar, &t, square);
    CHECK(bar[z].v == 6.0 && bar[square].v == 1.0);
    llm_autodiff_grad(bar, &t, z); /* of an input: itself */
    CHECK(bar[z].v == 1.0 && bar[square].v == 0.0);
    while (t.count < t.room) llm_autodiff_input(&t, 0.0, 0.0);
    CHECK_ASSERTS(llm_autodiff_input(&t, 0.0, 0.0));
    CHECK_ASSERTS(llm_autodiff_grad(bar, &t, t.count));
}

TEST(autodiff, "second derivatives of every function, alone, against their formulas") {
    llm_arena arena = test_arena(1 << 18);
    llm_autodiff t;
    llm_dual bar[16];
    llm_autodiff_create(&t, 16, &arena);
    for (double v = 0.0; v < 2.0; v += 0.25) {
        const double h = tanh(v), w = v + 1.0;
        const double want[9] = {exp(v),
                                -1.0 / (w * w),
                                -sin(v),
                                -cos(v),
                                -2.0 * h * (1.0 - h * h),
                                2.5 * 1.5 * sqrt(v),
                                2.0 / (w * w * w),
                                2.0 * cos(2.0 * v),
                                2.0};
        for (size_t f = 0; f < 9; f++) {
            t.count = 0;
            const size_t x = llm_autodiff_input(&t, v, 1.0), one = llm_autodiff_input(&t, 1.0, 0.0);
            const size_t x1 = llm_autodiff_add(&t, x, one), s = llm_autodiff_sin(&t, x);
            const size_t zero = llm_autodiff_input(&t, -1.0, 0.0);
            const size_t y =
                f == 0   ? llm_autodiff_exp(&t, x)
                : f == 1 ? llm_autodiff_log(&t, x1)
                : f == 2 ? s
                : f == 3 ? llm_autodiff_cos(&t, x)
                : f == 4 ? llm_autodiff_tanh(&t, x)
                : f == 5 ? llm_autodiff_pow(&t, x, 2.5)
                : f == 6 ? llm_autodiff_div(&t, one, x1)
                : f == 7 ? llm_autodiff_mul(&t, s, s) /* at 0 the slope is 0, the bend not */
                         : llm_autodiff_max(&t, zero, llm_autodiff_mul(&t, x, x));
            llm_autodiff_grad(bar, &t, y);
            CHECK_NEAR(bar[x].d, want[f], 1e-14 * (1.0 + fabs(want[f])));
        }
    }
}

TEST(autodiff, "the larger of two: its slope has no slope; nothing is written behind the tape") {
    llm_arena arena = test_arena(1 << 18);
    llm_autodiff t;
    llm_autodiff_create(&t, 3, &arena);
    const size_t a = llm_autodiff_input(&t, 1.0, 1.0), b = llm_autodiff_input(&t, 3.0, 1.0);
    const size_t y = llm_autodiff_max(&t, a, b);
    llm_dual *bar = (llm_dual *)test_memory(3, sizeof(llm_dual));
    double *along = doubles(3);
    llm_autodiff_grad(bar, &t, y);
    CHECK(bar[a].v == 0.0 && bar[b].v == 1.0 && bar[a].d == 0.0 && bar[b].d == 0.0);
    along[a] = 5.0, along[b] = 7.0;
    llm_autodiff_jvp(along, &t);
    CHECK(along[y] == 7.0);
    llm_autodiff_create(&t, 2, &arena);
    const size_t x = llm_autodiff_input(&t, 3.0, 1.0), one = llm_autodiff_pow(&t, x, 0.0);
    llm_autodiff_grad(bar, &t, one); /* x^0 has no slope, and that has none */
    CHECK(bar[x].v == 0.0 && bar[x].d == 0.0 && t.node[one].value.v == 1.0);
}
