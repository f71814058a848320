/* @softmax_head */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *normals(uint64_t seed, size_t n, float size) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    for (size_t i = 0; i < n; i++) x[i] *= size;
    return x;
}
static int *targets(size_t N, size_t V) { /* the third is ignored */
    int *y = (int *)test_memory(N, sizeof(int));
    llm_rng rng = llm_rng_seed(V);
    for (size_t n = 0; n < N; n++)
        y[n] = n == 2 ? LLM_CROSS_ENTROPY_IGNORE : (int)llm_rng_below(&rng, V);
    if (N > 0) y[0] = (int)V - 1;
    return y;
}
static const float options[5][3] = {/* smoothing, z_loss, soft_cap */
                                    {0.0f, 0.0f, 0.0f},
                                    {0.1f, 0.0f, 0.0f},
                                    {0.0f, 0.01f, 0.0f},
                                    {0.0f, 0.0f, 0.75f},
                                    {0.2f, 0.005f, 3.0f}};

/* The same problem for both. padding: rows of w behind the vocabulary. */
static void problem(llm_softmax_head *p, llm_cuda_softmax_head *d, const int *target, size_t N,
                    size_t C, size_t V, size_t padding, size_t option) {
    *p = llm_softmax_head_defaults(NULL, NULL, target, N, C, V);
    *d = llm_cuda_softmax_head_defaults(to_device(target, N), N, C, V);
    p->rows = d->rows = V + padding;
    p->smoothing = d->smoothing = options[option][0];
    p->z_loss = d->z_loss = options[option][1];
    p->soft_cap = d->soft_cap = options[option][2];
}

/* With h = the rows of the identity, logits are the columns of w: the row kernel alone. */
template <typename T>
static void check_in_place(size_t N, size_t V, size_t padding, size_t offset, size_t option) {
    const size_t rows = V + padding, n = N * rows;
    llm_softmax_head p;
    llm_cuda_softmax_head d;
    problem(&p, &d, targets(N, V), N, N, V, padding, option);
    float *logits = normals(V, n, 3.0f), *h = zeros(N * N), *w = floats(n), *got = floats(n);
    float *loss = floats(N), *lse = floats(N);
    for (size_t i = 0; i < N; i++) h[i * N + i] = 1.0f;
    for (size_t i = 0; i < V && N > 1; i++) logits[rows + i] += 1e3f; /* large, and not alike */
    T *d_from = to_device_as<T>(logits, n), *d_z = to_device<T>(NULL, n + offset);
    for (size_t i = 0; i < n; i++) w[i % rows * N + i / rows] = logits[i];
    if (N > 2) /* not read */
        for (size_t i = 0; i < rows; i++) logits[2 * rows + i] = NAN;
    const T *d_with_nan = to_device_as<T>(logits, n);
    p.h = h, p.w = w;
    float *d_loss = to_device<float>(NULL, N), *d_lse = to_device<float>(NULL, N);
    CHECK_CUDA(cudaMemcpy(d_z + offset, d_from, n * sizeof(T), cudaMemcpyDeviceToDevice));
    CHECK_CUDA(llm_cuda_softmax_head_in_place(d_loss, d_lse, d_z + offset, d, 0.5f, false, 0));
    CHECK(memcmp(from_device_as(got, d_z + offset, n), from_device_as(floats(n), d_from, n),
                 n * sizeof(float)) == 0); /* only looked at */
    llm_softmax_head_forward(loss, lse, logits, &p);
    if (N > 2) lse[2] = 0.0f;
    from_device(got, d_loss, N);
    for (size_t i = 0; i < N; i++)
        CHECK_NEAR(got[i], loss[i], 2e-6 * (1 + fabs(loss[i]) + 1e3 * (i == 1)));
    CHECK_ALL_CLOSE(from_device(got, d_lse, N), lse, N, 1e-5f);

    CHECK_CUDA(cudaMemcpy(d_z + offset, d_with_nan, n * sizeof(T), cudaMemcpyDeviceToDevice));
    CHECK_CUDA(
        llm_cuda_softmax_head_in_place(d_loss, (float *)NULL, d_z + offset, d, 0.5f, true, 0));
    llm_softmax_head_backward(NULL, NULL, logits, lse, &p, 0.5f);
    /* a gradient is off by what its logit's last digit is worth: 1e3 has steps of 6e-5 */
    CHECK_STORED(T, from_device_as(got, d_z + offset, n), logits, n, N > 1 ? 1e-4f : 1e-6f);
    from_device(got, d_loss, N);
    CHECK(N < 3 || got[2] == 0.0f);
}

TEST(softmax_head, "loss and gradient in place equal llm_softmax_head, every option, padded") {
    const size_t sizes[6] = {1, 2, 31, 100, 1024, 3001};
    for (size_t s = 0; s < (TEST_SLOW ? 4 : 6); s++) {
        for (size_t option = 0; option < 5; option++) {
            check_in_place<float>(option == 0 ? 1 : 4, sizes[s], (s + option) % 3, option % 2,
                                  option);
            check_in_place<llm_bf16>(3, sizes[s], 8 - sizes[s] % 8, 0, option);
        }
    }
}

/* The whole head, dense and in chunks, against llm.h. Values near 1; bfloat16 rounds the logits and
 * their gradients to 1 part in 256. */
template <typename T>
static void check_head(size_t N, size_t C, size_t V, size_t padding, size_t block, size_t option) {
    const size_t rows = V + padding;
    const float tol = sizeof(T) == 4 ? 1e-5f : 8.0f / 256, scale = 1.0f / (float)N;
    llm_softmax_head p;
    llm_cuda_softmax_head d;
    problem(&p, &d, targets(N, V), N, C, V, padding, option);
    float *h = normals(1, N * C, 1.0f), *w = normals(2, rows * C, 1.0f / sqrtf((float)C));
    float *loss = floats(N), *lse = floats(N), *logits = floats(N * rows);
    float *got = floats(N * C + rows * C + N), *start_h = normals(3, N * C, 0.1f);
    float *start_w = normals(4, rows * C, 0.1f), *dh = floats(N * C), *dw = floats(rows * C);
    const T *d_h = to_device_as<T>(h, N * C), *d_w = to_device_as<T>(w, rows * C);
    T *d_z = to_device<T>(NULL, N * rows);
    p.h = h, p.w = w;
    to_device_as<T>(start_h, N * C); /* rounds it */
    memcpy(dh, start_h, N * C * sizeof(float)), memcpy(dw, start_w, rows * C * sizeof(float));
    llm_softmax_head_forward(loss, lse, logits, &p);
    llm_softmax_head_backward(dh, dw, logits, lse, &p, scale);
    lse[2] = 0.0f;
    for (int chunks = 0; chunks < 2; chunks++) {
        T *d_dh = to_device_as<T>(start_h, N * C);
        float *d_dw = to_device(start_w, rows * C), *d_loss = to_device<float>(NULL, N);
        float *d_lse = to_device<float>(NULL, N);
        const size_t slices = llm_cuda_dense_slices(N, C, chunks ? block : rows);
        float *scratch = slices > 1 ? to_device<float>(NULL, slices * C * rows) : NULL;
        llm_cuda_softmax_head_state *state = to_device<llm_cuda_softmax_head_state>(NULL, N);
        if (chunks) {
            CHECK_CUDA(llm_cuda_softmax_head_chunked(d_loss, d_lse, d_dh, d_dw,
                                                     to_device<T>(NULL, N * block), state, d_h, d_w,
                                                     d, scale, block, scratch, 0));
        } else {
            CHECK_CUDA(llm_cuda_softmax_head_train(d_loss, d_lse, d_dh, d_dw, d_z, d_h, d_w, d,
                                                   scale, scratch, 0));
        }
        CHECK_ALL_NEAR(from_device(got, d_loss, N), loss, N, 2 * tol);
        CHECK_ALL_NEAR(from_device(got, d_lse, N), lse, N, 2 * tol);
        CHECK_STORED(T, from_device_as(got, d_dh, N * C), dh, N * C, 2 * tol * scale);
        CHECK_ALL_NEAR(from_device(got, d_dw, rows * C), dw, rows * C, 2 * tol * scale + 1e-6f);
        if (!chunks) continue;
        T *none = NULL; /* the loss alone is the same */
        CHECK_CUDA(cudaMemset(d_loss, 0xff, N * sizeof(float)));
        CHECK_CUDA(llm_cuda_softmax_head_chunked(d_loss, (float *)NULL, none, (float *)NULL, d_z,
                                                 state, d_h, d_w, d, scale, block, scratch, 0));
        CHECK_ALL_NEAR(from_device(got, d_loss, N), loss, N, 2 * tol);
    }
}

TEST(softmax_head, "dense and in chunks of any size, the head equals llm.h's") {
    for (size_t option = 0; option < 5; option++) {
        check_head<float>(5, 3, 11, option % 2, option + 1, option);
        check_head<float>(4, 8, 11, 0, 11 + option % 2, option);
    }
    check_head<llm_bf16>(6, 16, 37, 3, 16, 4);
    check_head<llm_bf16>(3, 8, 40, 0, 24, 0);
    check_head<float>(3, 4, 130, 2, 64, 1);
    if (!TEST_SLOW) check_head<float>(513, 2, 5, 0, 3, 0); /* sums in slices */
}

TEST(softmax_head, "targets that do not exist cost NaN, and nothing at all costs nothing") {
    enum { N = 3, V = 4 };
    int y[N] = {4, -1, 3};
    float got[N], *d_loss = to_device<float>(NULL, N), *d_z = to_device(zeros(N * V), N * V);
    llm_cuda_softmax_head p = llm_cuda_softmax_head_defaults(to_device(y, N), N, 1, V), none = p;
    CHECK_CUDA(llm_cuda_softmax_head_in_place(d_loss, (float *)NULL, d_z, p, 1.0f, true, 0));
    from_device(got, d_loss, N);
    CHECK(isnan(got[0]) && isnan(got[1]));
    CHECK_NEAR(got[2], log(4.0), 1e-6);
    none.N = 0;
    CHECK_CUDA(llm_cuda_softmax_head_in_place(d_loss, d_loss, d_z, none, 1.0f, true, 0));
    CHECK(llm_cuda_softmax_head_chunked(d_loss, d_loss, d_z, d_z, d_z,
                                        (llm_cuda_softmax_head_state *)NULL, d_z, d_z, p, 1.0f, 0,
                                        d_z, 0) != cudaSuccess);
}
