/* @chain_rule */
#include "../test.h"

#include "../../llm.h"

static llm_dual cr_const(double v) {
    const llm_dual c = {v, 0.0};
    return c;
}

/* The twelve functions of the golden file. */
static llm_dual cr_function(size_t k, llm_dual x) {
    const llm_dual one = cr_const(1.0), x2 = llm_chain_rule_mul(x, x);
    switch (k) {
    case 0:
        return llm_chain_rule_exp(llm_chain_rule_sin(x));
    case 1:
        return llm_chain_rule_log(llm_chain_rule_add(one, x2));
    case 2:
        return llm_chain_rule_div(llm_chain_rule_sin(x), x);
    case 3:
        return llm_chain_rule_tanh(llm_chain_rule_sub(llm_chain_rule_mul(x2, x), x));
    case 4:
        return llm_chain_rule_pow(x, 2.5);
    case 5:
        return llm_chain_rule_mul(llm_chain_rule_exp(llm_chain_rule_sub(cr_const(0.0), x2)),
                                  llm_chain_rule_cos(llm_chain_rule_mul(cr_const(3.0), x)));
    case 6:
        return llm_chain_rule_div(
            one, llm_chain_rule_add(one, llm_chain_rule_exp(llm_chain_rule_sub(cr_const(0.0), x))));
    case 7:
        return llm_chain_rule_pow(
            llm_chain_rule_add(x, llm_chain_rule_log(llm_chain_rule_add(x, one))), 0.5);
    case 8:
        return llm_chain_rule_sin(llm_chain_rule_cos(llm_chain_rule_sin(x)));
    case 9:
        return llm_chain_rule_exp(llm_chain_rule_mul(x, llm_chain_rule_log(x)));
    case 10:
        return llm_chain_rule_pow(llm_chain_rule_add(x2, one), -3.0);
    default:
        return llm_chain_rule_tanh(
            llm_chain_rule_div(llm_chain_rule_exp(x), llm_chain_rule_add(one, x)));
    }
}

static const double cr_at[4] = {0.3, 0.7, 1.1, 1.9};

TEST(chain_rule,
     "twelve compositions: SymPy's slopes to seven digits, differences in float to three") {
    double worst = 0.0;
    for (size_t k = 0; k < 12; k++) {
        float v[4], d[4];
        for (size_t i = 0; i < 4; i++) {
            const llm_dual x = {cr_at[i], 1.0}, y = cr_function(k, x);
            const llm_dual twice = {cr_at[i], -2.0};
            v[i] = (float)y.v, d[i] = (float)y.d;
            CHECK_NEAR(cr_function(k, twice).d, -2.0 * y.d, 1e-12 * (1.0 + fabs(y.d)));
            const float h = 1e-3f, up = (float)cr_function(k, cr_const(cr_at[i] + 1e-3)).v;
            const float down = (float)cr_function(k, cr_const(cr_at[i] - 1e-3)).v;
            worst = fmax(worst, fabs((double)((up - down) / (2.0f * h)) - y.d));
        }
        CHECK_GOLDEN(v, 4, 1e-7f, "%zu/v", k); /* nine digits, read as float */
        CHECK_GOLDEN(d, 4, 1e-7f, "%zu/d", k);
    }
    CHECK(worst > 5e-5 && worst < 5e-2); /* the comparison: float differences, at best */
}

TEST(chain_rule,
     "constants have derivative 0 even where the slope is infinite; NaN is not hidden") {
    const llm_dual zero = cr_const(0.0), x = {0.0, 1.0}, nan = {(double)NAN, 0.0};
    CHECK(llm_chain_rule_pow(zero, 0.5).d == 0.0 && llm_chain_rule_log(zero).d == 0.0);
    CHECK(isinf(llm_chain_rule_pow(x, 0.5).d) && isinf(llm_chain_rule_log(x).d));
    CHECK(llm_chain_rule_pow(x, 0.0).v == 1.0 && llm_chain_rule_pow(x, 0.0).d == 0.0);
    CHECK(llm_chain_rule_pow(x, 1.0).v == 0.0 && llm_chain_rule_pow(x, 1.0).d == 1.0);
    CHECK(isnan(llm_chain_rule_max(nan, x).v) && isnan(llm_chain_rule_max(x, nan).v));
    CHECK(isnan(llm_chain_rule_exp(nan).v) && isnan(llm_chain_rule_div(x, zero).v));
}

TEST(chain_rule, "max takes the larger slope, and half of each at a tie, as torch.maximum") {
    float a[3], b[3];
    for (size_t i = 0; i < 3; i++) {
        const llm_dual x = {1.0 + (double)i, 1.0}, y = {2.0, 1.0}, fixed = cr_const(2.0);
        a[i] = (float)llm_chain_rule_max(x, fixed).d;
        b[i] = (float)llm_chain_rule_max(cr_const(x.v), y).d;
        CHECK(llm_chain_rule_max(x, y).v == fmax(x.v, y.v));
    }
    CHECK_GOLDEN(a, 3, 0.0f, "max/a");
    CHECK_GOLDEN(b, 3, 0.0f, "max/b");
    const llm_dual zero = {0.0, 1.0};
    CHECK(llm_chain_rule_max(zero, cr_const(0.0)).d == 0.5); /* relu at 0 */
    const llm_dual three = {2.0, 3.0}, one = {2.0, 1.0};
    CHECK(llm_chain_rule_max(three, one).d == 2.0);
}

/* exp(x y) sin(x + y^2) + log(x) y^3 */
static llm_hyperdual cr_second(llm_hyperdual x, llm_hyperdual y) {
    const llm_hyperdual y2 = llm_chain_rule_pow2(y, 2.0);
    return llm_chain_rule_add2(
        llm_chain_rule_mul2(llm_chain_rule_exp2(llm_chain_rule_mul2(x, y)),
                            llm_chain_rule_sin2(llm_chain_rule_add2(x, y2))),
        llm_chain_rule_mul2(llm_chain_rule_log2(x), llm_chain_rule_mul2(y2, y)));
}

TEST(chain_rule,
     "hyper-dual numbers give SymPy's second derivatives, and the first ones with them") {
    float got[3][4];
    for (size_t i = 0; i < 4; i++) {
        const double p = cr_at[i], q = 0.5 * p + 0.1;
        for (size_t k = 0; k < 3; k++) {
            const llm_hyperdual x = {p, k < 2 ? 1.0 : 0.0, k < 1 ? 1.0 : 0.0, 0.0};
            const llm_hyperdual y = {q, k == 2 ? 1.0 : 0.0, k > 0 ? 1.0 : 0.0, 0.0};
            const llm_hyperdual z = cr_second(x, y);
            got[k][i] = (float)z.ab;
            const llm_hyperdual px = {p + 1e-5 * x.a, 0, 0, 0}, py = {q + 1e-5 * y.a, 0, 0, 0};
            const llm_hyperdual mx = {p - 1e-5 * x.a, 0, 0, 0}, my = {q - 1e-5 * y.a, 0, 0, 0};
            CHECK_NEAR(z.a, (cr_second(px, py).v - cr_second(mx, my).v) / 2e-5,
                       1e-7 * (1.0 + fabs(z.a)));
        }
    }
    for (size_t k = 0; k < 3; k++) CHECK_GOLDEN(got[k], 4, 2e-7f, "second%zu/f", k);
    const llm_hyperdual x = {0.0, 3.0, 5.0, 7.0};
    CHECK(llm_chain_rule_pow2(x, 1.0).ab == 7.0 && llm_chain_rule_pow2(x, 0.0).ab == 0.0);
    CHECK(llm_chain_rule_pow2(x, 1.0).a == 3.0 && llm_chain_rule_pow2(x, 0.0).b == 0.0);
    CHECK(llm_chain_rule_pow2(x, 2.0).ab == 30.0);
    CHECK(llm_chain_rule_pow2(x, 3.0).ab ==
          6.0 * x.v * x.a * x.b + 3.0 * x.v * x.v * x.ab); /* f'' x_a x_b + f' x_ab */
    const llm_hyperdual at_two = {2.0, 3.0, 5.0, 7.0};
    CHECK(llm_chain_rule_pow2(at_two, 3.0).ab == 12.0 * 15.0 + 12.0 * 7.0);
    /* the input is the widest, the output too; extents that end where their array does */
    llm_arena tight = {(unsigned char *)test_memory(1 << 10, 1), 1 << 10, 0, 1 << 10};
    memset(tight.memory, 255, tight.size); /* NaN */
    size_t *extent = (size_t *)test_memory(3, sizeof(size_t));
    for (int turn = 0; turn < 2; turn++) {
        const float wide[40] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14,
                                15, 16, 17, 18, 19, 20, 1,  2,  3,  4,  5,  6,  7,  8,
                                9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20};
        const float *const jac[2] = {wide, wide + 20};
        float in[20], out[20], want[20], h[1];
        extent[0] = turn ? 1 : 20, extent[1] = 1, extent[2] = turn ? 20 : 1;
        for (size_t i = 0; i < 20; i++) in[i] = (float)(i % 3);
        h[0] = turn ? wide[0] * in[0] : (float)dot(wide, in, 20);
        for (size_t i = 0; i < extent[2]; i++) want[i] = wide[20 + i] * h[0];
        llm_chain_rule_jvp(out, jac, extent, 2, in, 1, &tight);
        CHECK_ALL_NEAR(out, want, extent[2], 1e-3f);
        h[0] = turn ? (float)dot(wide, in, 20) : wide[20] * in[0];
        for (size_t i = 0; i < extent[0]; i++) want[i] = wide[i] * h[0];
        llm_chain_rule_vjp(out, jac, extent, 2, in, 1, &tight);
        CHECK_ALL_NEAR(out, want, extent[0], 1e-3f);
    }
}

TEST(chain_rule, "a chain of Jacobians from both ends: the same product, <u, J v> = <J' u, v>") {
    const size_t size[4] = {3, 5, 2, 4}, n = 3, m = 4;
    const float *jac[3] = {golden("stages/j0"), golden("stages/j1"), golden("stages/j2")};
    float basis_n[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1}, basis_m[16] = {0}, columns[12], rows[12],
          full[12];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1024));
    for (size_t i = 0; i < m; i++) basis_m[i * 5] = 1.0f;

    /* 15 + 10 + 8 multiplications a vector, whichever way */
    CHECK(llm_chain_rule_jvp(columns, jac, size, 3, basis_n, n, &arena) == 33 * n);
    CHECK(llm_chain_rule_vjp(rows, jac, size, 3, basis_m, m, &arena) == 33 * m);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) full[i * n + j] = columns[j * m + i];
    CHECK_GOLDEN(full, 12, 1e-6f, "stages/full");
    CHECK_GOLDEN(rows, 12, 1e-6f, "stages/full");

    float v[3], u[4], jv[4], ju[3];
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, v, 3);
    llm_rng_normal_fill(&rng, u, 4);
    llm_chain_rule_jvp(jv, jac, size, 3, v, 1, &arena);
    llm_chain_rule_vjp(ju, jac, size, 3, u, 1, &arena);
    CHECK_NEAR(dot(u, jv, 4), dot(ju, v, 3), 1e-5);

    /* one output: n passes from the front cost n times the one from the back */
    const size_t scalar[4] = {3, 5, 2, 1};
    CHECK(llm_chain_rule_jvp(columns, jac, scalar, 3, basis_n, n, &arena) ==
          n * llm_chain_rule_vjp(rows, jac, scalar, 3, basis_m, 1, &arena));
    CHECK_ALL_NEAR(columns, rows, 3, 1e-6f);
    const size_t wide[2] = {1, 1};
    const float three[1] = {3.0f}, two[1] = {2.0f}, *one_jac[1] = {three};
    CHECK(llm_chain_rule_jvp(jv, one_jac, wide, 1, two, 1, &arena) == 1 && jv[0] == 6.0f);
    CHECK(arena.used == 0);
    llm_arena_destroy(&arena);
}
