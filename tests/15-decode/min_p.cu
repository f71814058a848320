/* @min_p */
#include "../test.h"

#include "../../llm_cuda.cuh"

static void reference(float *z, size_t V, llm_sampling_kind kind, float value, llm_arena *arena) {
    if (kind == LLM_SAMPLING_MIN_P) llm_min_p_filter(z, V, value, 1, arena);
    if (kind == LLM_SAMPLING_EPSILON) llm_min_p_epsilon(z, V, value, 1, arena);
    if (kind == LLM_SAMPLING_ETA) llm_min_p_eta(z, V, value, 1, arena);
    if (kind == LLM_SAMPLING_TOP_N_SIGMA) llm_min_p_top_n_sigma(z, V, value);
}

/* Rows whose kept set does not change when the rule's value moves by a millionth: there are no
 * entries on the threshold. Returns how many rows were compared. */
template <typename T>
static size_t check_filter(size_t rows, size_t V, llm_sampling_kind kind, float value,
                           size_t offset) {
    const size_t all = rows * V;
    float *x = floats(all + offset), *got = floats(all), *want = floats(V), *near = floats(V);
    llm_arena arena = {(unsigned char *)test_memory(8 * V + 256, 1), 8 * V + 256, 0, 0};
    llm_rng rng = llm_rng_seed(V + rows);
    size_t compared = 0;
    for (size_t i = 0; i < all + offset; i++) {
        const size_t row = i < offset ? 0 : (i - offset) / V;
        x[i] = 2.0f * llm_rng_normal(&rng) + (row == 3 ? 1e3f : 0.0f);
        if (row == 1) x[i] = (float)llm_rng_below(&rng, 4) - 7.0f;
        if (llm_rng_below(&rng, 7) == 0 && row != 2) x[i] = -INFINITY;
        if (row == 2) x[i] = -0.5f;
    }
    T *d_x = to_device_as<T>(x, all + offset) + offset;
    CHECK_CUDA(llm_cuda_min_p_filter(d_x, rows, V, kind, value, 0));
    from_device_as(got, d_x, all);
    for (size_t row = 0; row < rows; row++) {
        const float *z = x + offset + row * V;
        memcpy(want, z, V * sizeof(float));
        reference(want, V, kind, value, &arena);
        bool clear = true;
        for (int up = 0; up < 2; up++) {
            memcpy(near, z, V * sizeof(float));
            reference(near, V, kind, value * (up ? 1.00001f : 0.99999f), &arena);
            for (size_t i = 0; i < V; i++) clear = clear && near[i] == want[i];
        }
        if (!clear) continue;
        compared++;
        CHECK_ALL_NEAR(got + row * V, want, V, 0.0f);
    }
    return compared;
}

TEST(min_p, "kept sets of four rules equal the reference's where no entry is on the threshold") {
    const llm_sampling_kind kinds[4] = {LLM_SAMPLING_MIN_P, LLM_SAMPLING_EPSILON, LLM_SAMPLING_ETA,
                                        LLM_SAMPLING_TOP_N_SIGMA};
    const float values[4][3] = {
        {0.1f, 0.5123f, 0.003f}, {0.01f, 0.3f, 2e-4f}, {0.02f, 0.3f, 3e-4f}, {1.0f, 0.3f, 2.5f}};
    const size_t sizes[6] = {1, 2, 31, 40, 1025, 2100};
    for (size_t rule = 0; rule < 4; rule++)
        for (size_t s = 0; s < (TEST_SLOW ? 5 : 6); s++)
            for (size_t k = 0; k < (s > 3 ? 1 : 3); k++) {
                const size_t n = sizes[s];
                CHECK(check_filter<float>(5, n, kinds[rule], values[rule][k], 0) >= 2);
                check_filter<float>(2, n, kinds[rule], values[rule][k], 1);
                check_filter<llm_bf16>(3, n, kinds[rule], values[rule][k], s % 2);
            }
}

TEST(min_p, "0 keeps everything, a value too large the largest and its equals; NaN stays") {
    const float z[6] = {1.0f, 2.0f, -INFINITY, 2.0f, -30.0f, 0.0f};
    float got[6], *d_z = to_device(z, 6);
    CHECK_CUDA(llm_cuda_min_p_filter(d_z, 1, 6, LLM_SAMPLING_MIN_P, 0.0f, 0));
    CHECK_ALL_NEAR(from_device(got, d_z, 6), z, 6, 0.0f);
    CHECK_CUDA(llm_cuda_min_p_filter(d_z, 1, 6, LLM_SAMPLING_EPSILON, 0.9f, 0));
    from_device(got, d_z, 6);
    for (size_t i = 0; i < 6; i++) CHECK(got[i] == (i == 1 || i == 3 ? 2.0f : -INFINITY));
    float nan[3] = {NAN, 1.0f, -9.0f}, *d_nan = to_device(nan, 3);
    CHECK_CUDA(llm_cuda_min_p_filter(d_nan, 1, 3, LLM_SAMPLING_MIN_P, 0.9f, 0));
    from_device(got, d_nan, 3);
    CHECK(isnan(got[0]) && got[1] == 1.0f && got[2] == -9.0f);
    CHECK(llm_cuda_min_p_filter(d_z, 1, 6, LLM_SAMPLING_TYPICAL, 0.9f, 0) != cudaSuccess);
    CHECK(llm_cuda_min_p_filter(d_z, 1, 6, LLM_SAMPLING_MIN_P, NAN, 0) != cudaSuccess);
}
