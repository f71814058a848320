/* @supervised */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* Whole numbers: distances are exact, many are equal, and the order of the indices has to be that
 * of the reference. Else random ones, where float and double may order near ties in two ways. */
static void check_nearest(size_t m, size_t n, size_t d, size_t k, bool whole, bool by_distance) {
    float *x = floats(n * d), *q = floats(m * d), *got_weight = floats(m * k);
    size_t *index = (size_t *)test_memory(m * k, sizeof(size_t));
    size_t *want = (size_t *)test_memory(k, sizeof(size_t));
    double *weight = (double *)test_memory(k, sizeof(double));
    llm_rng rng = llm_rng_seed(m + n + d + k);
    for (size_t i = 0; i < n * d; i++)
        x[i] = whole ? (float)llm_rng_below(&rng, 5) : llm_rng_normal(&rng);
    for (size_t i = 0; i < m * d; i++)
        q[i] = whole ? (float)llm_rng_below(&rng, 5) : llm_rng_normal(&rng);
    size_t *d_index = to_device<size_t>(NULL, m * k);
    float *d_weight = to_device<float>(NULL, m * k);
    const size_t slices = llm_cuda_supervised_slices(m, n);
    CHECK_CUDA(llm_cuda_supervised_nearest(d_index, d_weight, to_device(q, m * d), m,
                                           to_device(x, n * d), n, d, k, by_distance,
                                           to_device<unsigned long long>(NULL, m * k * slices), 0));
    from_device(index, d_index, m * k);
    from_device(got_weight, d_weight, m * k);
    for (size_t i = 0; i < m; i++) {
        llm_supervised_nearest(want, weight, x, q + i * d, n, d, k, by_distance);
        for (size_t r = 0; r < k; r++) {
            const size_t got = index[i * k + r];
            double near = 0.0, far = 0.0;
            CHECK(got < n && (!whole || got == want[r]));
            for (size_t j = 0; j < d; j++) {
                const double a = (double)q[i * d + j] - (double)x[want[r] * d + j];
                const double b = (double)q[i * d + j] - (double)x[got * d + j];
                near += a * a, far += b * b;
            }
            CHECK_NEAR(far, near, 2e-6 * near); /* sums of d squares, in another order */
            CHECK_NEAR(got_weight[i * k + r], weight[r], 2e-6);
        }
    }
}

TEST(supervised,
     "the k nearest equal the reference, ties by index: tiles, lists of 32 and of 128") {
    check_nearest(1, 1, 1, 1, true, true);
    check_nearest(3, 5, 2, 5, true, false);
    check_nearest(64, 64, 3, 2, true, true);
    check_nearest(65, 67, 2, 32, true, false);
    check_nearest(9, 129, 16, 33, true, true);
    check_nearest(3, 300, 17, 100, false, true);
    check_nearest(66, 65, 33, 3, false, false);
    check_nearest(2, 128, 1, 128, true, true);
    if (TEST_SLOW) return;
    check_nearest(1, 700, 5, 128, false, true);
    check_nearest(2, 1000, 1, 64, true, false); /* hundreds of equal ones */
}

TEST(supervised, "few queries: the examples are cut into slices, whose lists are merged") {
    CHECK(llm_cuda_supervised_slices(1, 2500) == 2 && llm_cuda_supervised_slices(1, 1023) == 1);
    CHECK(llm_cuda_supervised_slices(64, 1 << 20) == 264);
    CHECK(llm_cuda_supervised_slices(100000, 1 << 20) == 1);
    check_nearest(2, 2049, 3, 40, true, true);
    check_nearest(1, 2049, 2, 3, false, false);
}

TEST(supervised, "NaN is farthest, no columns make all equal, and what is refused") {
    const float x[6] = {3, NAN, 1, INFINITY, 2, -1}, q[1] = {0};
    size_t *d_index = to_device<size_t>(NULL, 6), index[6], *no_index = NULL;
    float *d_weight = to_device<float>(NULL, 6), weight[6], *none = NULL;
    float *d_x = to_device(x, 6), *d_q = to_device(q, 1);
    unsigned long long *scratch = to_device<unsigned long long>(NULL, 6), *no_scratch = NULL;
    CHECK_CUDA(
        llm_cuda_supervised_nearest(d_index, d_weight, d_q, 1, d_x, 6, 1, 6, false, scratch, 0));
    from_device(index, d_index, 6);
    CHECK(index[0] == 2 && index[1] == 5 && index[2] == 4 && index[3] == 0);
    CHECK(index[4] == 3 && index[5] == 1);
    CHECK_NEAR(from_device(weight, d_weight, 6)[5], 1.0 / 6.0, 1e-7);
    CHECK_CUDA(
        llm_cuda_supervised_nearest(d_index, d_weight, d_q, 1, d_x, 6, 0, 3, true, scratch, 0));
    from_device(index, d_index, 3);
    CHECK(index[0] == 0 && index[1] == 1 && index[2] == 2);
    CHECK_NEAR(from_device(weight, d_weight, 3)[2], 1.0 / 3.0, 1e-7);
    CHECK_CUDA(
        llm_cuda_supervised_nearest(no_index, none, none, 0, d_x, 6, 1, 3, true, no_scratch, 0));
    const size_t bad[3] = {0, 7, 129};
    for (size_t t = 0; t < 3; t++)
        CHECK(llm_cuda_supervised_nearest(d_index, d_weight, d_q, 1, d_x, t < 2 ? 6 : 1000, 1,
                                          bad[t], true, scratch, 0) == cudaErrorInvalidValue);
}
