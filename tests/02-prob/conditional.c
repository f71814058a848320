/* @conditional */
#include "../test.h"

#include "../../llm.h"

/* Random joint tables, some entries 0. */
static llm_conditional_table conditional_random(size_t axes, const size_t *size, llm_rng *rng) {
    llm_conditional_table t;
    double sum = 0.0;
    t.axes = axes;
    memcpy(t.size, size, axes * sizeof *size);
    const size_t n = llm_conditional_count(&t);
    t.p = doubles(n);
    for (size_t i = 0; i < n; i++) {
        t.p[i] = llm_rng_below(rng, 5) == 0 ? 0.0 : (double)llm_rng_uniform(rng);
        sum += t.p[i];
    }
    for (size_t i = 0; i < n; i++) t.p[i] /= sum;
    return t;
}

TEST(conditional, "the chain rule rebuilds the joint in all 24 orders of 4 axes") {
    const size_t size[4] = {2, 3, 1, 4};
    llm_rng rng = llm_rng_seed(1);
    const llm_conditional_table t = conditional_random(4, size, &rng);
    double f[24], sum[24], joint[24], product[24];
    size_t orders = 0;
    for (size_t code = 0; code < 256; code++) {
        const size_t order[4] = {code & 3, code >> 2 & 3, code >> 4 & 3, code >> 6};
        unsigned known = 0;
        for (size_t k = 0; k < 4; k++) known |= 1u << order[k];
        if (known != 15u) continue; /* not a permutation */
        orders++;
        known = 0;
        for (size_t i = 0; i < 24; i++) product[i] = 1.0;
        for (size_t k = 0; k < 4; k++) {
            llm_conditional_factor(f, &t, order[k], known, sum, joint);
            for (size_t i = 0; i < 24; i++) product[i] *= f[i];
            known |= 1u << order[k];
        }
        for (size_t i = 0; i < 24; i++) CHECK_NEAR(product[i], t.p[i], 1e-15);
    }
    CHECK(orders == 24);
}

TEST(conditional, "marginals and conditionals of a 3-axis table equal their sums, every axis") {
    const size_t size[3] = {2, 3, 5};
    llm_rng rng = llm_rng_seed(2);
    const llm_conditional_table t = conditional_random(3, size, &rng);
    double p[30];
    llm_conditional_table out;
    out.p = p;
#define AT(x, y, z) t.p[((x)*3 + (y)) * 5 + (z)]
    llm_conditional_marginal(&out, &t, 5u); /* axes 0 and 2 */
    CHECK(out.axes == 2 && out.size[0] == 2 && out.size[1] == 5);
    for (size_t x = 0; x < 2; x++)
        for (size_t z = 0; z < 5; z++)
            CHECK_NEAR(p[x * 5 + z], AT(x, 0, z) + AT(x, 1, z) + AT(x, 2, z), 1e-15);
    llm_conditional_marginal(&out, &t, ~0u); /* all, whatever stands beyond the last axis */
    CHECK(out.axes == 3);
    llm_conditional_marginal(&out, &t, 0u);
    CHECK(out.axes == 0);
    CHECK_NEAR(p[0], 1.0, 1e-15);
    double back[30] = {0.0}; /* total probability: sum_y p(y) p(x,z|y) */
    for (size_t y = 0; y < 3; y++) {
        double mass = 0.0;
        for (size_t i = 0; i < 10; i++) mass += AT(i / 5, y, i % 5);
        CHECK(llm_conditional_given(&out, &t, 1, y));
        CHECK(out.axes == 2 && out.size[0] == 2 && out.size[1] == 5);
        for (size_t i = 0; i < 10; i++) {
            CHECK_NEAR(p[i], AT(i / 5, y, i % 5) / mass, 1e-15);
            back[i] += mass * p[i];
        }
    }
    for (size_t i = 0; i < 10; i++)
        CHECK_NEAR(back[i], AT(i / 5, 0, i % 5) + AT(i / 5, 1, i % 5) + AT(i / 5, 2, i % 5), 1e-15);
    for (size_t z = 0; z < 5; z++) AT(0, 1, z) = AT(1, 1, z) = 0.0;
    p[0] = 7.0;
    CHECK(!llm_conditional_given(&out, &t, 1, 1)); /* probability 0 */
    CHECK(p[0] == 7.0);
    CHECK_ASSERTS(llm_conditional_given(&out, &t, 1, 3));
    CHECK_ASSERTS(llm_conditional_given(&out, &t, 3, 0));
    llm_conditional_table most = {p, LLM_CONDITIONAL_AXES, {2, 1, 1, 1, 1, 1, 1, 3}};
    CHECK(llm_conditional_count(&most) == 6);
    most.axes++;
    CHECK_ASSERTS(llm_conditional_count(&most));
    double f[30], sum[30], joint[30]; /* a factor whose condition cannot be is 0 */
    llm_conditional_factor(f, &t, 0, 2u, sum, joint);
    for (size_t i = 0; i < 30; i++) CHECK(i / 5 % 3 == 1 ? f[i] == 0.0 : f[i] >= 0.0);
}

TEST(conditional, "Bayes: the rare disease, log space, and no hypothesis left") {
    const double prior[2] = {log(0.01), log(0.99)}, positive[2] = {log(0.99), log(0.05)};
    double post[3] = {0.0, 0.0, 0.0};
    const double evidence = llm_conditional_bayes(post, prior, positive, 2);
    CHECK_NEAR(exp(post[0]), 0.0099 / (0.0099 + 0.0495), 1e-15); /* 1/6, not 99% */
    CHECK_NEAR(exp(post[0]), 0.1667, 1e-4);
    CHECK_NEAR(evidence, log(0.0594), 1e-14);
    /* likelihoods of 1e-1000, and a hypothesis of prior 0 */
    double far_prior[3] = {log(0.5), log(0.5), -(double)INFINITY};
    const double far_like[3] = {-2300.0, -2301.0, 0.0};
    CHECK_NEAR(llm_conditional_bayes(far_prior, far_prior, far_like, 3),
               -2300.0 + log(0.5 + 0.5 * exp(-1.0)), 1e-12);
    CHECK_NEAR(far_prior[0], -log1p(exp(-1.0)), 1e-12);
    CHECK(far_prior[2] == -(double)INFINITY);
    const double first[2] = {0.0, -1000.0}; /* e^1000 above the second */
    CHECK_NEAR(llm_conditional_bayes(post, prior, first, 2), log(0.01), 1e-14);
    const double never[2] = {-(double)INFINITY, -(double)INFINITY};
    post[0] = 3.0;
    CHECK(llm_conditional_bayes(post, prior, never, 2) == -(double)INFINITY && post[0] == 3.0);
}

/* UC Berkeley 1973, six departments: admitted, rejected of men, then of women. */
static const double conditional_berkeley[6][4] = {{512, 313, 89, 19},   {353, 207, 17, 8},
                                                  {120, 205, 202, 391}, {138, 279, 131, 244},
                                                  {53, 138, 94, 299},   {22, 351, 24, 317}};

TEST(conditional, "Simpson's reversal in the Berkeley admissions") {
    double count[24], p[24];
    for (size_t d = 0; d < 6; d++)
        for (size_t i = 0; i < 4; i++) count[i * 6 + d] = conditional_berkeley[d][i];
    llm_conditional_table t, out, part; /* sex, rejected, department */
    t.p = count, t.axes = 3, t.size[0] = 2, t.size[1] = 2, t.size[2] = 6;
    double q[24];
    out.p = p, part.p = q;
    llm_conditional_marginal(&out, &t, 3u);
    CHECK(llm_conditional_given(&part, &out, 0, 0));
    const double men = part.p[0];
    CHECK(llm_conditional_given(&part, &out, 0, 1));
    CHECK_NEAR(men, 1198.0 / 2691.0, 1e-12);
    CHECK_NEAR(part.p[0], 557.0 / 1835.0, 1e-12);
    size_t women_ahead = 0;
    for (size_t d = 0; d < 6; d++) {
        double admitted[2];
        CHECK(llm_conditional_given(&out, &t, 2, d));
        for (size_t s = 0; s < 2; s++) {
            CHECK(llm_conditional_given(&part, &out, 0, s));
            admitted[s] = part.p[0];
        }
        women_ahead += admitted[1] > admitted[0];
    }
    CHECK(women_ahead == 4); /* of 6 departments, though far behind together */
    double G, all[4];
    for (size_t i = 0; i < 4; i++) {
        all[i] = 0.0;
        for (size_t d = 0; d < 6; d++) all[i] += count[i * 6 + d];
    }
    CHECK_NEAR(llm_conditional_gtest(&G, all, 2, 2, 1) / (double)golden("all/p")[0], 1.0, 1e-5);
    CHECK_NEAR(G, golden("all/G")[0], 1e-4);
    CHECK_NEAR(llm_conditional_gtest(&G, count, 2, 2, 6), golden("department/p")[0], 1e-6);
    CHECK_NEAR(G, golden("department/G")[0], 1e-5);
    CHECK_NEAR(llm_conditional_cmi(count, 2, 2, 6), golden("department/G")[0] / 2.0f / 4526.0f,
               1e-8);
}

TEST(conditional,
     "conditional mutual information: 0 for independence, log 2 for a copy and an xor") {
    double p[8] = {0.0}, q[24];
    for (size_t i = 0; i < 8; i++) p[(i & 6) | ((i >> 2 ^ i >> 1) & 1)] = 0.25; /* z = x xor y */
    CHECK_NEAR(llm_conditional_cmi(p, 2, 2, 2), log(2.0), 1e-15);
    double xy[4] = {0.25, 0.25, 0.25, 0.25}, G;
    CHECK_NEAR(llm_conditional_cmi(xy, 2, 2, 1), 0.0, 1e-15);
    CHECK(llm_conditional_gtest(&G, xy, 2, 2, 1) == 1.0 && G == 0.0);
    for (size_t i = 0; i < 24; i++) /* p(x|z) p(y|z) p(z), sizes 2, 3, 4 */
        q[i] = (1.0 + (double)(i / 12) * (double)(i % 4)) * (1.0 + (double)(i / 4 % 3));
    CHECK_NEAR(llm_conditional_cmi(q, 2, 3, 4), 0.0, 1e-14);
    const double zero[4] = {0.0, 0.0, 0.0, 0.0};
    CHECK(llm_conditional_cmi(zero, 2, 2, 1) == 0.0);
    const double six[6] = {3.0, 5.0, 7.0, 4.0, 2.0, 9.0}; /* chi-squared of 2 degrees: e^(-G/2) */
    const double value = llm_conditional_gtest(&G, six, 2, 3, 1);
    CHECK_NEAR(value, exp(-0.5 * G), 1e-12);
    CHECK_ASSERTS(llm_conditional_gtest(&G, zero, 1, 2, 2));
    CHECK_ASSERTS(llm_conditional_gtest(&G, zero, 2, 1, 2));
    CHECK_ASSERTS(llm_conditional_gtest(&G, zero, 2, 2, 0));
}

TEST(conditional, "bigrams with add-alpha: counted by hand, unseen rows, bad ids") {
    const int tokens[7] = {0, 1, 0, 1, 1, 2, 0}, bad[3] = {0, 3, 0}, negative[2] = {-1, 0};
    float p[9], q[16];
    const float want[9] = {0.0f, 1.0f, 0.0f, 1 / 3.0f, 1 / 3.0f, 1 / 3.0f, 1.0f, 0.0f, 0.0f};
    llm_conditional_counts(p, tokens, 7, 3, 0.0f);
    CHECK_ALL_NEAR(p, want, 9, 1e-7f);
    llm_conditional_counts(q, tokens, 7, 4, 0.5f);
    CHECK_NEAR(q[1], 2.5 / 4.0, 1e-7);
    CHECK_NEAR(q[15], 0.25, 1e-7);
    llm_conditional_counts(q, tokens, 1, 4, 0.0f);
    for (size_t i = 0; i < 16; i++) CHECK(q[i] == 0.0f);
    llm_conditional_counts(q, tokens, 0, 4, 0.0f);
    llm_conditional_counts(p, tokens, 0, 3, 0.1f);
    for (size_t i = 0; i < 9; i++) CHECK_NEAR(p[i], 1.0 / 3.0, 1e-7);
    CHECK_ASSERTS(llm_conditional_counts(p, bad, 2, 3, 0.0f));
    CHECK_ASSERTS(llm_conditional_counts(p, bad + 1, 2, 3, 0.0f));
    CHECK_ASSERTS(llm_conditional_counts(p, negative, 2, 3, 0.0f));
}
