/* @bce */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* Targets 0, 1 and between; a few logits that saturate. Loss, gradient and sum against the
 * reference, which adds in double too. */
template <typename T>
static void check_bce(size_t N, size_t L, size_t offset, bool weighted, bool focal, float gamma) {
    const size_t n = N * L;
    float *z = floats(n + offset), *y = floats(n), *weight = floats(n), *pos_weight = floats(L);
    float *loss = floats(n), *want_loss = floats(n), *dz = floats(n + offset), *want = zeros(n);
    float *up = floats(n), alpha = weighted ? 0.25f : -1.0f, scale = 1.0f / (float)n;
    llm_rng rng = llm_rng_seed(n + L);
    for (size_t i = 0; i < n + offset; i++)
        z[i] = i % 13 == 5 ? 200.0f : i % 17 == 3 ? -200.0f : 4.0f * llm_rng_normal(&rng);
    for (size_t i = 0; i < n; i++) {
        const float u = llm_rng_uniform(&rng);
        y[i] = i % 5 == 4 ? u : u < 0.3f ? 1.0f : 0.0f;
        weight[i] = 0.5f + llm_rng_uniform(&rng);
        up[i] = scale;
    }
    for (size_t i = 0; i < L; i++) pos_weight[i] = 0.5f + 3.0f * llm_rng_uniform(&rng);
    const T *d_z = to_device_as<T>(z, n + offset) + offset;
    const float *d_y = to_device(y, n), *d_weight = weighted ? to_device(weight, n) : NULL;
    const float *d_pos = weighted ? to_device(pos_weight, L) : NULL;
    T *d_dz = to_device<T>(NULL, n + offset) + offset;
    float *d_loss = to_device<float>(NULL, n);
    double *d_total = to_device<double>(NULL, 1), total = 0.0, again = 0.0, sum = 0.0;
    double *d_part = to_device<double>(NULL, LLM_CUDA_BCE_BLOCKS);
    if (focal) {
        CHECK_CUDA(
            llm_cuda_bce_focal(d_total, d_part, d_loss, d_dz, d_z, d_y, n, alpha, gamma, scale, 0));
        llm_bce_focal_forward(want_loss, z + offset, y, n, alpha, gamma);
        llm_bce_focal_backward(want, up, z + offset, y, n, alpha, gamma);
    } else {
        CHECK_CUDA(llm_cuda_bce_logits(d_total, d_part, d_loss, d_dz, d_z, d_y, d_weight, d_pos, N,
                                       L, scale, 0));
        llm_bce_logits_forward(want_loss, z + offset, y, weighted ? weight : NULL,
                               weighted ? pos_weight : NULL, N, L);
        llm_bce_logits_backward(want, up, z + offset, y, weighted ? weight : NULL,
                                weighted ? pos_weight : NULL, N, L);
    }
    from_device(&total, d_total, 1);
    from_device(loss, d_loss, n);
    for (size_t i = 0; i < n; i++) {
        CHECK_NEAR(loss[i], want_loss[i], 2e-6 * (1.0 + fabs((double)want_loss[i])));
        sum += (double)want_loss[i];
    }
    CHECK_NEAR(total, sum, 2e-6 * (1.0 + sum));
    CHECK_STORED(T, from_device_as(dz, d_dz, n), want, n, 4e-6f * scale);
    /* the sum alone, and in place: the same bits */
    if (focal)
        CHECK_CUDA(llm_cuda_bce_focal(d_total, d_part, (float *)NULL, (T *)NULL, d_z, d_y, n, alpha,
                                      gamma, scale, 0));
    else
        CHECK_CUDA(llm_cuda_bce_logits(d_total, d_part, (float *)NULL, (T *)d_z, d_z, d_y, d_weight,
                                       d_pos, N, L, scale, 0));
    CHECK(memcmp(from_device(&again, d_total, 1), &total, sizeof total) == 0);
    if (!focal) {
        float *place = floats(n);
        CHECK(memcmp(from_device_as(place, d_z, n), dz, n * sizeof(float)) == 0);
    }
}

TEST(bce, "loss, gradient and sum from logits equal the reference, with weights and in place") {
    const size_t sizes[8][2] = {{1, 1},   {3, 1},   {5, 7},    {2, 64},
                                {31, 33}, {640, 3}, {1, 4099}, {1000, 8}};
    for (size_t s = 0; s < (TEST_SLOW ? 5 : 8); s++) {
        check_bce<float>(sizes[s][0], sizes[s][1], s % 2, true, false, 0.0f);
        check_bce<float>(sizes[s][0], sizes[s][1], 0, false, false, 0.0f);
        check_bce<llm_bf16>(sizes[s][0], sizes[s][1], s % 2, true, false, 0.0f);
        check_bce<llm_bf16>(sizes[s][0], sizes[s][1], 0, s % 2, false, 0.0f);
    }
    /* more than a pass of all blocks; 3 and 7 do not divide the step */
    if (!TEST_SLOW) check_bce<float>(90001, 3, 0, true, false, 0.0f);
    if (!TEST_SLOW) check_bce<float>(160000, 7, 0, true, false, 0.0f);
}

TEST(bce, "focal loss and its gradient equal the reference") {
    const size_t sizes[5] = {1, 3, 257, 1024, 5003};
    for (size_t s = 0; s < (TEST_SLOW ? 3 : 5); s++) {
        check_bce<float>(sizes[s], 1, 0, true, true, 2.0f);
        check_bce<float>(sizes[s], 1, 1, false, true, 0.0f);
        check_bce<float>(sizes[s], 1, 0, false, true, 0.5f);
        check_bce<llm_bf16>(sizes[s], 1, s % 2, true, true, 1.0f);
    }
}

TEST(bce, "infinite logits that are right cost nothing, a target that is none is NaN, 0 entries "
          "sum to 0") {
    const float z[5] = {INFINITY, -INFINITY, INFINITY, 1.0f, 1.0f}, y[5] = {1, 0, 0, 1.5f, -0.5f};
    float loss[5], dz[5];
    double total = 1.0, *d_total = to_device(&total, 1);
    double *d_part = to_device<double>(NULL, LLM_CUDA_BCE_BLOCKS);
    float *d_loss = to_device<float>(NULL, 5), *d_dz = to_device<float>(NULL, 5);
    CHECK_CUDA(llm_cuda_bce_logits(d_total, d_part, d_loss, d_dz, to_device(z, 5), to_device(y, 5),
                                   (float *)NULL, (float *)NULL, 5, 1, 1.0f, 0));
    from_device(loss, d_loss, 5);
    from_device(dz, d_dz, 5);
    CHECK(loss[0] == 0.0f && loss[1] == 0.0f && loss[2] == INFINITY);
    CHECK(dz[0] == 0.0f && dz[1] == 0.0f && dz[2] == 1.0f);
    CHECK(isnan(loss[3]) && isnan(loss[4]) && isnan(dz[3]) && isnan(dz[4]));
    CHECK(isnan(*from_device(&total, d_total, 1)));
    CHECK_CUDA(llm_cuda_bce_focal(d_total, d_part, d_loss, d_dz, (float *)NULL, (float *)NULL, 0,
                                  0.25f, 2.0f, 1.0f, 0));
    CHECK(*from_device(&total, d_total, 1) == 0.0);
}

TEST(bce, "traffic: logit and target in, gradient out") {
    enum { N = 4096 };
    const float *d_z = to_device(zeros(N), N), *d_y = to_device(zeros(N), N);
    float *d_dz = to_device<float>(NULL, N);
    double total, *d_total = to_device<double>(NULL, 1);
    double *d_part = to_device<double>(NULL, LLM_CUDA_BCE_BLOCKS);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_bce_logits(d_total, d_part, (float *)NULL, d_dz, d_z, d_y, (float *)NULL,
                                   (float *)NULL, N, 1, 1.0f, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == 2 * N * 4 && emulate_counted.written == N * 4);
#endif
    CHECK_NEAR(*from_device(&total, d_total, 1), N * log(2.0), 1e-3);
}
