/* @conv2d_bf16 */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *conv2d_bf16_normals(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    return x;
}

/* The tests' own way to channels last: x (N,C,P) to (N,P,C) as bfloat16 on the device. */
static llm_bf16 *conv2d_bf16_last(float *x, size_t N, size_t C, size_t P) {
    float *y = floats(N * C * P);
    for (size_t i = 0; i < N * C * P; i++) y[(i / (C * P) * P + i % P) * C + i / P % C] = x[i];
    llm_bf16 *d = to_device_as<llm_bf16>(y, N * C * P);
    for (size_t i = 0; i < N * C * P; i++) x[i] = y[(i / (C * P) * P + i % P) * C + i / P % C];
    return d;
}
static void conv2d_bf16_first(float *x, size_t N, size_t C, size_t P) {
    float *y = floats(N * C * P);
    memcpy(y, x, N * C * P * sizeof(float));
    for (size_t i = 0; i < N * C * P; i++) x[i] = y[(i / (C * P) * P + i % P) * C + i / P % C];
}

static void check_conv2d_bf16(const llm_conv2d *c, size_t N, bool bias, int kind) {
    const size_t P = llm_conv2d_size(c, 0) * llm_conv2d_size(c, 1), weights = llm_conv2d_weights(c);
    const size_t HW = c->H * c->W, area = c->kernel[0] * c->kernel[1], n = N * c->C * HW;
    const size_t out = N * c->O * P, slices = llm_cuda_conv2d_slices(N, c);
    float *x = conv2d_bf16_normals(1, n), *w = conv2d_bf16_normals(2, weights);
    float *b = conv2d_bf16_normals(3, c->O), *dy = conv2d_bf16_normals(4, out);
    float *dx = conv2d_bf16_normals(5, n), *dw = conv2d_bf16_normals(6, weights);
    float *db = conv2d_bf16_normals(7, c->O), *want = floats(out);
    float *got = floats(n + out + weights + c->O);
    const llm_bf16 *d_x = conv2d_bf16_last(x, N, c->C, HW),
                   *d_w = conv2d_bf16_last(w, c->O, c->C, area);
    const llm_bf16 *d_b = to_device_as<llm_bf16>(b, c->O), *d_dy = conv2d_bf16_last(dy, N, c->O, P);
    llm_bf16 *d_y = to_device<llm_bf16>(NULL, out), *d_z = to_device<llm_bf16>(NULL, out);
    llm_bf16 *d_dx = conv2d_bf16_last(dx, N, c->C, HW), *none = NULL;
    float *d_dw = to_device<float>(NULL, weights), *d_db = to_device(db, c->O);
    /* float sums of exact products; the longest of dw has N P terms */
    const float tol = 4e-6f * sqrtf((float)(llm_conv2d_sum(c) + c->O * area + 10));
    const float long_tol = 1e-5f * sqrtf((float)(N * P + 10));
    CHECK(llm_cuda_conv2d_bf16_fits(c, N));
    CHECK_CUDA(llm_cuda_conv2d_bf16_forward(d_y, kind ? d_z : none, d_x, d_w, bias ? d_b : none, N,
                                            c, kind, 0));
    llm_conv2d_naive(want, x, w, bias ? b : NULL, N, c);
    if (kind) {
        from_device_as(got, d_z, out);
        conv2d_bf16_first(got, N, c->O, P);
        CHECK_STORED(llm_bf16, got, want, out, tol);
        for (size_t i = 0; i < out; i++) want[i] = llm_activation_value(want[i], kind);
    }
    from_device_as(got, d_y, out);
    conv2d_bf16_first(got, N, c->O, P);
    CHECK_STORED(llm_bf16, got, want, out, tol);

    float *scratch = slices > 1 ? to_device<float>(NULL, slices * weights) : NULL;
    float *first = to_device(dw, weights), *back = to_device<float>(NULL, weights);
    CHECK_CUDA(llm_cuda_conv2d_bf16_turn(d_dw, (const float *)first, c->O, c->C, area, 0));
    CHECK_CUDA(llm_cuda_conv2d_bf16_backward(d_dx, d_dw, d_db, d_dy, d_x, d_w, N, c, scratch, 0));
    CHECK_CUDA(llm_cuda_conv2d_bf16_turn(back, (const float *)d_dw, c->O, area, c->C, 0));
    llm_conv2d_naive_backward(dx, dw, db, dy, x, w, N, c);
    from_device_as(got, d_dx, n);
    conv2d_bf16_first(got, N, c->C, HW);
    CHECK_STORED(llm_bf16, got, dx, n, tol);
    CHECK_ALL_NEAR(from_device(got, back, weights), dw, weights, long_tol);
    CHECK_ALL_NEAR(from_device(got, d_db, c->O), db, c->O, long_tol);
}

TEST(conv2d_bf16, "forward and all gradients equal the definition, by stride, padding, dilation") {
    const size_t shapes[7][8] = {/* N C H W O kernel stride pad */
                                 {1, 8, 1, 1, 8, 1, 1, 0},    {2, 8, 5, 4, 16, 3, 1, 1},
                                 {1, 16, 7, 6, 8, 3, 2, 1},   {1, 24, 6, 5, 8, 2, 3, 0},
                                 {1, 8, 9, 17, 136, 3, 1, 1}, {3, 8, 8, 8, 8, 5, 2, 2},
                                 {1, 136, 3, 3, 8, 3, 1, 1}};
    for (size_t s = 0; s < (TEST_SLOW ? 3 : 7); s++) {
        llm_conv2d c = llm_conv2d_make(shapes[s][1], shapes[s][2], shapes[s][3], shapes[s][4],
                                       shapes[s][5], shapes[s][6], shapes[s][7]);
        if (s == 2) c.dilation[1] = 2, c.pad_end[0] = 2;
        if (s == 3) c.stride[1] = 1, c.kernel[1] = 3;
        check_conv2d_bf16(&c, shapes[s][0], s % 2 == 0,
                          s == 1 ? LLM_ACTIVATION_RELU : LLM_ACTIVATION_IDENTITY);
    }
}

TEST(conv2d_bf16, "many pixels are cut into slices for dw; any of the gradients may be left out") {
    const llm_conv2d c = llm_conv2d_make(8, 18, 20, 8, 3, 1, 1);
    CHECK(llm_cuda_conv2d_slices(1, &c) == 1 && llm_cuda_conv2d_slices(2, &c) == 2);
    check_conv2d_bf16(&c, 2, true, LLM_ACTIVATION_IDENTITY);
    llm_bf16 *none = NULL;
    float *no_float = NULL;
    CHECK_CUDA(llm_cuda_conv2d_bf16_backward(none, no_float, no_float, none, none, none, 2, &c,
                                             no_float, 0));
    CHECK_CUDA(llm_cuda_conv2d_bf16_forward(none, none, none, none, none, 0, &c, 0, 0));
    CHECK_CUDA(llm_cuda_conv2d_bf16_backward(none, no_float, no_float, none, none, none, 0, &c,
                                             no_float, 0));
}

TEST(conv2d_bf16, "what the tensor cores cannot take is refused, and nothing is launched") {
    llm_conv2d c = llm_conv2d_make(8, 4, 4, 8, 3, 1, 1);
    llm_bf16 *none = NULL;
    float *no_float = NULL;
    CHECK(llm_cuda_conv2d_bf16_fits(&c, 1));
    CHECK(!llm_cuda_conv2d_bf16_fits(&c, (size_t)1 << 30));
    for (int which = 0; which < 3; which++) {
        llm_conv2d other = c;
        if (which == 0) other.C = 12;
        if (which == 1) other.O = 4;
        if (which == 2) other.groups = 8;
        CHECK(llm_cuda_conv2d_bf16_forward(none, none, none, none, none, 1, &other, 0, 0) ==
              cudaErrorInvalidValue);
        CHECK(llm_cuda_conv2d_bf16_backward(none, no_float, no_float, none, none, none, 1, &other,
                                            no_float, 0) == cudaErrorInvalidValue);
    }
}

TEST(conv2d_bf16, "division by multiplication is exact, layouts are exchanged by tiles") {
    llm_rng rng = llm_rng_seed(1);
    for (size_t by = 1; by < 3000; by += by < 70 ? 1 : 61) {
        const llm_cuda_conv2d_bf16_divisor d = llm_cuda_conv2d_bf16_divide_by(by);
        for (size_t i = 0; i < 200; i++) {
            size_t n = llm_rng_below(&rng, (size_t)1 << (1 + i % 31));
            if (i % 3 == 0) n = n / by * by;
            if (i % 3 == 1 && n / by > 0) n = n / by * by - 1;
            if (i == 199) n = 0x7fffffff;
            unsigned rest = (unsigned)n;
            CHECK(llm_cuda_conv2d_bf16_divide(rest, d) == n / by && rest == n % by);
        }
    }
    const size_t sizes[4][3] = {{1, 1, 1}, {3, 5, 33}, {2, 64, 31}, {1, 37, 70}};
    for (size_t s = 0; s < 4; s++) {
        const size_t N = sizes[s][0], R = sizes[s][1], C = sizes[s][2], n = N * R * C;
        float *x = conv2d_bf16_normals(s, n), *got = floats(n);
        const llm_bf16 *d_x = to_device_as<llm_bf16>(x, n);
        float *d_y = to_device<float>(NULL, n);
        CHECK_CUDA(llm_cuda_conv2d_bf16_turn(d_y, d_x, N, R, C, 0));
        from_device(got, d_y, n);
        for (size_t i = 0; i < n; i++)
            CHECK(got[(i / (R * C) * C + i % C) * R + i / C % R] == x[i]);
        CHECK_CUDA(llm_cuda_conv2d_bf16_turn(d_y, d_x, 0, R, C, 0));
    }
}
