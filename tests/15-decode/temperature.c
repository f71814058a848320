/* @temperature */
#include "../test.h"

#include "../../llm.h"

TEST(temperature, "softmax of the scaled logits equals torch's, and p^(1/tau) normalised") {
    const size_t sizes[5] = {1, 2, 3, 7, 33};
    const char *names[3] = {"0.5", "1.0", "2.0"};
    const float temps[3] = {0.5f, 1.0f, 2.0f};
    for (size_t s = 0; s < 5; s++)
        for (size_t k = 0; k < 3; k++) {
            const size_t n = sizes[s];
            const float *z = golden("%zu/z", n);
            float *p = floats(n), *power = floats(n);
            memcpy(p, z, n * sizeof(float));
            llm_temperature_apply(p, n, temps[k]);
            llm_softmax_forward(p, p, 1, n, 1.0f);
            CHECK_GOLDEN(p, n, 1e-6f, "%zu/%s/p", n, names[k]);

            double sum = 0.0;
            llm_softmax_forward(power, z, 1, n, 1.0f);
            for (size_t i = 0; i < n; i++) sum += pow((double)power[i], 1.0 / (double)temps[k]);
            for (size_t i = 0; i < n; i++)
                power[i] = (float)(pow((double)power[i], 1.0 / (double)temps[k]) / sum);
            CHECK_ALL_NEAR(p, power, n, 1e-6f);
            const float h[1] = {(float)llm_temperature_entropy(NULL, z, n, (double)temps[k])};
            CHECK_GOLDEN(h, 1, 1e-6f, "%zu/%s/h", n, names[k]);
        }
}

TEST(temperature,
     "zero leaves the first of the largest; nothing overflows; below zero is refused") {
    float z[5] = {1.0f, 3.0f, -INFINITY, 3.0f, 2.0f}, p[5];
    llm_temperature_apply(z, 5, 0.0f);
    for (size_t i = 0; i < 5; i++) CHECK(z[i] == (i == 1 ? 3.0f : -INFINITY));
    float w[3] = {1e4f, 0.0f, 1e4f}, huge[3] = {1.0f, 2.0f, 3.0f};
    llm_temperature_apply(w, 3, 1e-30f);
    llm_softmax_forward(p, w, 1, 3, 1.0f);
    CHECK(!isnan(p[1]) && p[1] == 0.0f);
    llm_temperature_apply(huge, 3, 1e30f);
    llm_softmax_forward(p, huge, 1, 3, 1.0f);
    for (size_t i = 0; i < 3; i++) CHECK_NEAR(p[i], 1.0 / 3.0, 1e-7);
    CHECK_ASSERTS(llm_temperature_apply(huge, 3, -0.5f));
    CHECK_ASSERTS(llm_temperature_apply(huge, 3, NAN));
}

TEST(temperature, "entropy: strictly rising, slope by differences, limits 0 and log n") {
    llm_rng rng = llm_rng_seed(2);
    for (size_t round = 0; round < 30; round++) {
        float z[20];
        const size_t n = 2 + llm_rng_below(&rng, 19);
        llm_rng_normal_fill(&rng, z, n);
        if (n > 3) z[1] = -INFINITY;
        double before = 0.0;
        for (double temp = 0.1; temp < 50.0; temp *= 1.7) {
            double slope = NAN;
            const double h = llm_temperature_entropy(&slope, z, n, temp), d = 1e-4 * temp;
            const double up = llm_temperature_entropy(NULL, z, n, temp + d);
            const double down = llm_temperature_entropy(NULL, z, n, temp - d);
            CHECK(h > before && slope > 0.0);
            CHECK_NEAR(slope, (up - down) / (2.0 * d), 1e-6 * (1.0 + slope));
            before = h;
        }
        const double most = log((double)(n > 3 ? n - 1 : n));
        CHECK(before < most);
        CHECK_NEAR(llm_temperature_entropy(NULL, z, n, 1e5), most, 1e-8);
        CHECK_NEAR(llm_temperature_entropy(NULL, z, n, 1e-3), 0.0, 1e-2);
    }
    const float nan[2] = {NAN, 0.0f}, none[2] = {-INFINITY, -INFINITY};
    CHECK_ASSERTS(llm_temperature_entropy(NULL, nan, 2, 1.0));
    CHECK_ASSERTS(llm_temperature_entropy(NULL, none, 2, 1.0));
    const float one_logit[1] = {1.0f};
    CHECK_ASSERTS(llm_temperature_entropy(NULL, one_logit, 1, 0.0));
}

TEST(temperature, "the temperature of a given entropy equals SciPy's root; dynamic its formula") {
    const size_t sizes[4] = {2, 3, 7, 33};
    for (size_t s = 0; s < 4; s++) {
        const size_t n = sizes[s];
        const float *z = golden("%zu/z", n), *want = golden("%zu/match", n);
        CHECK_NEAR(llm_temperature_match(z, n, (double)want[0]), want[1], 2e-6 * (double)want[1]);
        const float dynamic[1] = {llm_temperature_dynamic(z, n, 0.4f, 1.6f, 0.7f)};
        CHECK_GOLDEN(dynamic, 1, 1e-6f, "%zu/dynamic", n);
        for (double h = 0.01; h < log((double)n); h += 0.1) { /* and back again */
            const double temp = llm_temperature_match(z, n, h);
            CHECK_NEAR(llm_temperature_entropy(NULL, z, n, temp), h, 1e-9);
        }
        CHECK_NEAR(llm_temperature_match(z, n, -0.1), 1e-6, 1e-12); /* out of reach: the ends */
        CHECK_NEAR(llm_temperature_match(z, n, 9.0), 1e6, 1.0);
    }
    const float one[3] = {-INFINITY, 2.0f, -INFINITY}, even[3] = {1.0f, 1.0f, -INFINITY};
    CHECK(llm_temperature_dynamic(one, 3, 0.3f, 2.0f, 1.0f) == 0.3f);
    CHECK_NEAR(llm_temperature_dynamic(even, 3, 0.3f, 2.0f, 1.0f), 2.0, 1e-6);
}

TEST(temperature, "Gumbel noise draws from softmax(z / tau): chi-square at three temperatures") {
    const float z[6] = {1.0f, -0.5f, 0.3f, 2.0f, -INFINITY, -2.0f}, temps[3] = {0.5f, 1.0f, 2.0f};
    for (size_t k = 0; k < 3; k++) {
        enum { N = 100000 };
        size_t count[6] = {0};
        float p[6];
        double chi = 0.0;
        llm_rng rng = llm_rng_seed(5 + k);
        llm_softmax_forward(p, z, 1, 6, temps[k]);
        for (size_t i = 0; i < N; i++) count[llm_temperature_gumbel(z, 6, temps[k], &rng)]++;
        CHECK(count[4] == 0);
        for (size_t i = 0; i < 6; i++) {
            const double want = N * (double)p[i];
            if (i != 4) chi += ((double)count[i] - want) * ((double)count[i] - want) / want;
        }
        CHECK(chi < 18.5); /* 4 degrees of freedom: 1 seed in 1000 is above */
    }
    llm_rng rng = llm_rng_seed(1);
    CHECK_ASSERTS(llm_temperature_gumbel(z, 6, 0.0f, &rng));
    CHECK_ASSERTS(llm_temperature_gumbel(z, 0, 1.0f, &rng));
    CHECK(llm_temperature_gumbel(z, 1, 1.0f, &rng) == 0);
    float none[3] = {-INFINITY, -INFINITY, -INFINITY};
    CHECK(llm_temperature_gumbel(none, 3, 1.0f, &rng) == -1);
    none[1] = -1e30f; /* nothing but this one can be drawn */
    CHECK(llm_temperature_gumbel(none, 3, 1.0f, &rng) == 1);
    none[2] = NAN;
    CHECK(llm_temperature_gumbel(none, 3, 1.0f, &rng) == -1);
}

TEST(temperature, "the noise is that of the middle of each step of the grid") {
    size_t found = 0;
    for (uint64_t seed = 0; found < 3; seed++) { /* small u: where a step changes the noise most */
        llm_rng rng = llm_rng_seed(seed);
        double g[2], u[2];
        for (size_t i = 0; i < 2; i++) {
            u[i] = ((double)(llm_rng_u32(&rng) >> 9) + 0.5) / 8388608.0;
            g[i] = -log(-log(u[i]));
        }
        if (u[0] > 1e-3) continue;
        found++;
        const double step = 1.0 / 8388608.0 / (u[0] * -log(u[0])); /* of the noise */
        for (int side = -1; side <= 1; side += 2) {
            const float z[2] = {0.0f, 2.0f * (float)(g[0] - g[1] + 0.25 * side * step)};
            rng = llm_rng_seed(seed);
            CHECK(llm_temperature_gumbel(z, 2, 2.0f, &rng) == (side > 0));
        }
    }
}
