/* @augmentation */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float draw_between(llm_rng *rng) { return 2.0f * llm_rng_uniform(rng) - 1.0f; }

/* Draws and pictures against a loop of the reference, each picture with its own generator. */
template <typename T>
static void check_augmentation(size_t N, size_t C, size_t H, size_t W, bool cut, bool normal) {
    const size_t n = C * H * W;
    const llm_cuda_augmentation_config c = {0.7f, 0.3f, 0.2f, H < 5 ? 1u : 5u};
    const float fill = 0.5f, outside = -0.25f;
    llm_rng draws = llm_rng_seed(N);
    float *x = floats(N * n), *y = floats(n), *got = floats(N * n), *mean = floats(C),
          *deviation = floats(C);
    for (size_t i = 0; i < N * n; i++) x[i] = llm_rng_uniform(&draws);
    for (size_t i = 0; i < C; i++) mean[i] = 0.1f * (float)i, deviation[i] = 0.5f + (float)i;
    const T *d_x = to_device_as<T>(x, N * n);
    T *d_y = to_device<T>(NULL, N * n);
    llm_augmentation_map *d_map = to_device<llm_augmentation_map>(NULL, N);
    int *d_square = to_device<int>(NULL, 2 * N);
    CHECK_CUDA(llm_cuda_augmentation_draw(d_map, d_square, 77, N, H, W, &c, 0));
    const llm_cuda_augmentation_warp warp = {cut ? d_square : NULL,
                                             (int)c.side,
                                             fill,
                                             outside,
                                             normal ? to_device(mean, C) : NULL,
                                             normal ? to_device(deviation, C) : NULL};
    CHECK_CUDA(llm_cuda_augmentation_apply(d_y, d_x, d_map, &warp, N, C, H, W, 0));
    from_device_as(got, d_y, N * n);
    for (size_t k = 0; k < N; k++) {
        llm_rng rng = llm_rng_seed(77 + k);
        const float angle = c.angle * draw_between(&rng), zoom = 1.0f + c.zoom * draw_between(&rng);
        const float dy = c.shift * (float)H * draw_between(&rng);
        const float dx = c.shift * (float)W * draw_between(&rng);
        const llm_augmentation_map map = llm_augmentation_similarity(angle, zoom, dy, dx, H, W);
        llm_augmentation_warp(y, x + k * n, C, H, W, &map, outside);
        if (cut) llm_augmentation_cutout(y, C, H, W, c.side, fill, &rng);
        for (size_t i = 0; normal && i < n; i++)
            y[i] = (y[i] - mean[i / (H * W)]) / deviation[i / (H * W)];
        CHECK_STORED(T, got + k * n, y, n, 2e-5f); /* a cosine in the last bit, 20 pixels away */
    }
}

TEST(augmentation, "drawn, warped, cut and normalised as a loop of the reference does it") {
    check_augmentation<float>(3, 2, 9, 7, true, true);
    check_augmentation<llm_bf16>(2, 1, 8, 8, true, true);
    if (TEST_SLOW) return;
    check_augmentation<float>(9, 3, 17, 19, true, false); /* more pixels than a block */
    check_augmentation<float>(2, 1, 1, 1, false, true);
    check_augmentation<float>(5, 1, 2, 30, false, false);
    check_augmentation<llm_bf16>(2, 4, 32, 8, true, true); /* exactly a block */
}

TEST(augmentation, "given maps: the identity is exact and reads no neighbour, a turn is a turn") {
    enum { S = 5, N = S * S };
    float x[N], got[2 * N], turned[N];
    for (size_t i = 0; i < N; i++) x[i] = (float)i;
    float both[2 * N];
    memcpy(both, x, sizeof x), memcpy(both + N, x, sizeof x);
    const llm_augmentation_map maps[2] = {
        {{1, 0, 0, 0, 1, 0}}, /* row <- column, column <- 4 - row */
        {{0, 1, 0, -1, 0, S - 1}}};
    const llm_cuda_augmentation_warp plain = {NULL, 0, 0.0f, 1e30f, NULL, NULL};
    float *d_y = to_device<float>(NULL, 2 * N);
    CHECK_CUDA(llm_cuda_augmentation_apply(d_y, (const float *)to_device(both, 2 * N),
                                           to_device(maps, 2), &plain, 2, 1, S, S, 0));
    from_device(got, d_y, 2 * N);
    llm_augmentation_square(turned, x, 1, S, 1);
    CHECK_ALL_NEAR(got, x, N, 0.0f);
    CHECK_ALL_NEAR(got + N, turned, N, 0.0f);
}

TEST(augmentation, "the square's place is the reference's draw, over many pictures; no pictures") {
    enum { N = 300, H = 3, W = 11 };
    const llm_cuda_augmentation_config c = {0.0f, 0.0f, 0.0f, 4};
    llm_augmentation_map *d_map = to_device<llm_augmentation_map>(NULL, N), map[N];
    int *d_square = to_device<int>(NULL, 2 * N), square[2 * N];
    CHECK_CUDA(llm_cuda_augmentation_draw(d_map, d_square, (uint64_t)5 << 32, N, H, W, &c, 0));
    from_device(square, d_square, 2 * N);
    from_device(map, d_map, N);
    for (size_t n = 0; n < N; n++) {
        llm_rng rng = llm_rng_seed(((uint64_t)5 << 32) + n);
        for (int i = 0; i < 4; i++) llm_rng_u32(&rng);
        CHECK(square[2 * n] == (int)llm_rng_below(&rng, H) - 2);
        CHECK(square[2 * n + 1] == (int)llm_rng_below(&rng, W) - 2);
        const float want[6] = {1.0f, 0.0f, 0.0f, 0.0f, 1.0f, 0.0f};
        CHECK_ALL_NEAR(map[n].m, want, 6, 1e-6f);
    }
    const size_t huge = (size_t)3 << 29; /* a quarter of the words is drawn again */
    CHECK_CUDA(llm_cuda_augmentation_draw(d_map, d_square, 9, N, huge, huge - 1, &c, 0));
    from_device(square, d_square, 2 * N);
    for (size_t n = 0; n < N; n++) {
        llm_rng rng = llm_rng_seed(9 + n);
        for (int i = 0; i < 4; i++) llm_rng_u32(&rng);
        CHECK(square[2 * n] == (int)llm_rng_below(&rng, huge) - 2);
        CHECK(square[2 * n + 1] == (int)llm_rng_below(&rng, huge - 1) - 2);
    }
    const llm_cuda_augmentation_warp plain = {NULL, 0, 0.0f, 0.0f, NULL, NULL};
    float *none = NULL;
    CHECK_CUDA(llm_cuda_augmentation_draw(d_map, d_square, 1, 0, H, W, &c, 0));
    CHECK_CUDA(llm_cuda_augmentation_apply(none, none, d_map, &plain, 0, 1, H, W, 0));
    CHECK_CUDA(llm_cuda_augmentation_apply(none, none, d_map, &plain, 1, 0, H, W, 0));
}
