/* @curse_of_dim */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* self: query is x; offset 1 takes the rows off their alignment */
static void check_distances(size_t Q, size_t N, size_t d, bool self, size_t offset) {
    float *x = floats(N * d + offset), *query = self ? x + offset : floats(Q * d);
    float *dist = floats(Q * N + 1), *least = floats(Q + 1), *most = floats(Q + 1);
    llm_rng rng = llm_rng_seed(Q + N + d);
    llm_rng_normal_fill(&rng, x, N * d + offset);
    if (!self) llm_rng_normal_fill(&rng, query, Q * d);
    const float *d_x = to_device(x, N * d + offset) + offset;
    const float *d_query = self ? d_x : to_device(query, Q * d);
    float *d_dist = to_device<float>(NULL, Q * N + 1), *d_least = to_device<float>(NULL, Q + 1);
    float *d_most = to_device<float>(NULL, Q + 1);
    CHECK_CUDA(llm_cuda_curse_of_dim_distances(d_dist, d_least, d_most, d_query, d_x, Q, N, d, 0));
    from_device(dist, d_dist, Q * N + 1);
    from_device(least, d_least, Q + 1);
    from_device(most, d_most, Q + 1);
    for (size_t q = 0; q < Q; q++) {
        float low = INFINITY, high = 0.0f; /* of what the kernel wrote: the same bits */
        for (size_t p = 0; p < N; p++) {
            double want = 0.0;
            for (size_t k = 0; k < d; k++) {
                const double diff = (double)query[q * d + k] - (double)x[offset + p * d + k];
                want += diff * diff;
            }
            const float got = dist[q * N + p];
            if (self && q == p) {
                CHECK(got == INFINITY);
                continue;
            }
            CHECK_NEAR(got, want, 1e-6 * (1.0 + want));
            low = got < low ? got : low;
            high = got > high ? got : high;
        }
        CHECK(least[q] == low && most[q] == high);
    }
    CHECK(isnan(dist[Q * N]) && isnan(least[Q]) && isnan(most[Q])); /* nothing behind the end */
    CHECK_CUDA(llm_cuda_curse_of_dim_distances((float *)NULL, d_most, (float *)NULL, d_query, d_x,
                                               Q, N, d, 0)); /* no table: the same bits */
    float *again = floats(Q);
    CHECK(memcmp(from_device(again, d_most, Q), least, Q * sizeof(float)) == 0);
}

TEST(curse_of_dim, "squared distances equal the sums in double, and their extremes are exact") {
    check_distances(1, 1, 1, false, 0);
    check_distances(2, 3, 5, false, 1);
    check_distances(3, 3, 7, true, 0);
    check_distances(1, 1, 4, true, 0); /* no other point: infinity and 0 */
    check_distances(65, 63, 16, false, 0);
    check_distances(5, 700, 33, false, 1); /* several tiles a block, several blocks a row */
    check_distances(3, 100, 6, false, 0);
    check_distances(130, 130, 10, true, 0);
    check_distances(4, 5, 0, false, 0);
    CHECK_CUDA(llm_cuda_curse_of_dim_distances((float *)NULL, (float *)NULL, (float *)NULL,
                                               (float *)NULL, (float *)NULL, 0, 3, 2, 0));
}

TEST(curse_of_dim,
     "contrast of queries by the extremes equals llm_curse_of_dim_contrast, d = 2 and 200") {
    enum { Q = 3, N = 150 };
    const size_t dims[2] = {2, 200};
    double mean[2] = {0.0, 0.0};
    for (size_t s = 0; s < 2; s++) {
        const size_t d = dims[s];
        float *x = floats(N * d), *query = floats(Q * d), least[Q], most[Q];
        float *d_least = to_device<float>(NULL, Q), *d_most = to_device<float>(NULL, Q);
        llm_rng rng = llm_rng_seed(3);
        for (size_t i = 0; i < N * d; i++) x[i] = llm_rng_uniform(&rng);
        for (size_t i = 0; i < Q * d; i++) query[i] = llm_rng_uniform(&rng);
        CHECK_CUDA(llm_cuda_curse_of_dim_distances((float *)NULL, d_least, d_most,
                                                   to_device(query, Q * d), to_device(x, N * d), Q,
                                                   N, d, 0));
        from_device(least, d_least, Q);
        from_device(most, d_most, Q);
        for (size_t q = 0; q < Q; q++) {
            const double contrast = sqrt((double)most[q] / (double)least[q]) - 1.0;
            const double want = (double)llm_curse_of_dim_contrast(x, query + q * d, N, d);
            CHECK_NEAR(contrast, want, 2e-6 * (1.0 + want));
            mean[s] += contrast / Q;
        }
    }
    CHECK(mean[0] > 10.0 * mean[1]);
}

TEST(curse_of_dim, "points that coincide are at distance 0; a NaN is no neighbour") {
    const float x[6] = {1, 1, 1, 1, NAN, 0};
    float dist[9], least[3], most[3], *d_x = to_device(x, 6), *d_dist = to_device<float>(NULL, 9);
    float *d_least = to_device<float>(NULL, 3), *d_most = to_device<float>(NULL, 3);
    CHECK_CUDA(llm_cuda_curse_of_dim_distances(d_dist, d_least, d_most, d_x, d_x, 3, 3, 2, 0));
    from_device(dist, d_dist, 9);
    from_device(least, d_least, 3);
    from_device(most, d_most, 3);
    CHECK(least[0] == 0.0f && most[0] == 0.0f && dist[1] == 0.0f && isnan(dist[2]));
    CHECK(least[2] == INFINITY && most[2] == 0.0f && isnan(dist[7]));
}
