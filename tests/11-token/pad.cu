/* @pad */
#include "../test.h"

#include "../../llm_cuda.cuh"

static void check_varlen(size_t B, size_t T, uint64_t seed) {
    int *cu = (int *)test_memory(B + 1, sizeof *cu), *index = (int *)test_memory(B * T, sizeof *cu);
    int *place = (int *)test_memory(B * T, sizeof *cu), *got = (int *)test_memory(B * T + B + 1, 4);
    bool *mask = (bool *)test_memory(B * T, sizeof *mask);
    llm_rng rng = llm_rng_seed(seed);
    for (size_t b = 0; b < B; b++) { /* left, right, holes, none, all */
        const size_t kind = llm_rng_below(&rng, 5), n = llm_rng_below(&rng, T + 1);
        for (size_t t = 0; t < T; t++)
            mask[b * T + t] = kind == 0   ? t < n
                              : kind == 1 ? t >= n
                              : kind == 2 ? llm_rng_below(&rng, 2) == 1
                                          : kind == 4;
    }
    const size_t N = llm_pad_varlen(cu, index, place, mask, B, T);
    int *d_cu = to_device<int>(NULL, B + 1), *d_index = to_device<int>(NULL, B * T);
    int *d_place = to_device<int>(NULL, B * T);
    CHECK_CUDA(llm_cuda_pad_varlen(d_cu, d_index, d_place, to_device(mask, B * T), B, T, 0));
    CHECK(memcmp(from_device(got, d_cu, B + 1), cu, (B + 1) * sizeof *cu) == 0);
    from_device(got, d_index, B * T);
    for (size_t n = 0; n < B * T; n++) CHECK(got[n] == (n < N ? index[n] : -1)); /* 0xff before */
    from_device(got, d_place, B * T);
    for (size_t n = 0; n < B * T; n++) CHECK(got[n] == place[n]);
}

TEST(pad, "cu_seqlens, index and place are those of the host, whatever the mask") {
    const size_t rows[6] = {1, 2, 5, 33, 64, 71}, columns[7] = {1, 3, 31, 32, 33, 64, 100};
    for (size_t b = 0; b < (TEST_SLOW ? 4 : 6); b++)
        for (size_t t = 0; t < (TEST_SLOW ? 5 : 7); t++)
            check_varlen(rows[b], columns[t], 7 * b + t);
    check_varlen(3, 0, 1);
    check_varlen(0, 5, 1);
}

template <typename T>
static void check_move(size_t B, size_t L, size_t C, size_t offset, bool add) {
    int *cu = (int *)test_memory(B + 1, sizeof *cu), *index = (int *)test_memory(B * L, sizeof *cu);
    int *place = (int *)test_memory(B * L, sizeof *cu);
    bool *mask = (bool *)test_memory(B * L, sizeof *mask);
    llm_rng rng = llm_rng_seed(B + C + 2 * offset);
    for (size_t i = 0; i < B * L; i++) mask[i] = llm_rng_below(&rng, 3) > 0;
    const size_t R = B * L, N = llm_pad_varlen(cu, index, place, mask, B, L);
    float *x = floats(R * C), *packed = floats(N * C), *y = floats(R * C), *got = floats(R * C);
    llm_rng_normal_fill(&rng, x, R * C);
    llm_rng_normal_fill(&rng, packed, N * C);
    llm_rng_normal_fill(&rng, y, R * C);
    const T *d_x = to_device_as<T>(x, R * C);
    T *d_packed = to_device<T>(NULL, N * C + offset), *d_y = to_device<T>(NULL, R * C + offset);
    if (add) {
        CHECK(offset == 0);
        d_packed = to_device_as<T>(packed, N * C), d_y = to_device_as<T>(y, R * C);
    }
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_pad_move(d_packed + offset, d_x, to_device(index, N), N, C, add, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == (add ? 2 : 1) * N * C * sizeof(T));
    CHECK(emulate_counted.written == N * C * sizeof(T));
#endif
    llm_pad_move(packed, x, index, N, C, add);
    CHECK_STORED(T, from_device_as(got, d_packed + offset, N * C), packed, N * C, 0.0f);
    memcpy(packed, got, N * C * sizeof *got); /* as it was rounded */
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(
        llm_cuda_pad_move(d_y + offset, d_packed + offset, to_device(place, R), R, C, add, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == (add ? 2 : 1) * N * C * sizeof(T));
    CHECK(emulate_counted.written == (add ? N : R) * C * sizeof(T));
#endif
    llm_pad_move(y, packed, place, R, C, add);
    CHECK_STORED(T, from_device_as(got, d_y + offset, R * C), y, R * C, 0.0f);
}

TEST(pad, "rows leave and come back, zeros or unchanged at the pads, with the least traffic") {
    const size_t widths[5] = {1, 3, 32, 132, 520};
    for (size_t s = 0; s < (TEST_SLOW ? 4 : 5); s++)
        for (int add = 0; add < 2; add++) {
            check_move<float>(3, 7, widths[s], 0, add);
            check_move<llm_bf16>(2, 5 + s, widths[s], 0, add);
            check_move<llm_bf16>(1, 1, widths[s] * 8, 0, add);
            if (!add) check_move<float>(2, 9, widths[s], 1, false);
        }
    CHECK_CUDA(llm_cuda_pad_move((float *)NULL, (float *)NULL, (int *)NULL, 0, 3, false, 0));
    CHECK_CUDA(llm_cuda_pad_move((float *)NULL, (float *)NULL, (int *)NULL, 3, 0, false, 0));
}
