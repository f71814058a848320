/* The tests of kernels that step weight by weight (@gradient_descent): tensors of awkward sizes, in
 * three storages, against the reference. No include guard: nvcc compiles a chapter as one file,
 * each test in a namespace. */
enum { OPTIM_TENSORS = 51, OPTIM_FLOAT = 0, OPTIM_MASTER, OPTIM_RANDOM };

static inline size_t optim_size(size_t i) {
    const size_t sizes[6] = {67, 1, 0, 3, 64, 4099};
    return i < 6 ? sizes[i] : 1 + i % 4;
}

/* Three steps of `step(tensors, count, t, factor)`, count at most OPTIM_TENSORS, on the device, and
 * of `own(w, m, v, g, n, decay, t)` here. The gradients are halved by the factor. offset: entries
 * off the alignment. has_m, has_v: the states of the rule; tol: of w and of the states, relative to
 * 1 + |value|. */
template <typename T, typename M, typename S, typename O>
static void optim_check(size_t count, int kind, size_t offset, bool has_m, bool has_v, float tol,
                        S step, O own) {
    llm_cuda_gradient_descent_tensor<T, M> tensor[OPTIM_TENSORS];
    float *w[OPTIM_TENSORS], *m[OPTIM_TENSORS], *v[OPTIM_TENSORS], *g[OPTIM_TENSORS];
    llm_rng rng = llm_rng_seed(3);
    const float gain = 0.5f, *factor = to_device(&gain, 1);
    for (size_t i = 0; i < count; i++) {
        const size_t n = optim_size(i);
        w[i] = floats(n), m[i] = zeros(n), v[i] = zeros(n), g[i] = floats(n);
        llm_rng_normal_fill(&rng, w[i], n);
        llm_rng_normal_fill(&rng, g[i], n);
        tensor[i].w = to_device<T>(NULL, n + offset) + offset;
        T *stored = to_device_as<T>(w[i], n); /* the weights start as what T can hold */
        if (n) CHECK_CUDA(cudaMemcpy(tensor[i].w, stored, n * sizeof(T), cudaMemcpyDeviceToDevice));
        tensor[i].master = kind == OPTIM_MASTER ? to_device(w[i], n) : NULL;
        tensor[i].m = has_m ? to_device_as<M>(m[i], n) : NULL;
        tensor[i].v = has_v ? to_device(v[i], n) : NULL;
        tensor[i].g = to_device(g[i], n), tensor[i].n = n, tensor[i].decay = i % 3 != 1;
    }
    for (size_t t = 1; t <= 3; t++) {
        CHECK_CUDA(step(tensor, count, t, factor));
        for (size_t i = 0; i < count; i++) {
            const size_t n = optim_size(i);
            float *got = floats(n), *half = floats(n);
            for (size_t k = 0; k < n; k++) half[k] = gain * g[i][k];
            own(w[i], m[i], v[i], half, n, tensor[i].decay, t);
            if (has_m) {
                from_device_as(got, tensor[i].m, n);
                CHECK_STORED(M, got, m[i], n, tol);
                memcpy(m[i], got, n * sizeof(float));
            }
            if (has_v) CHECK_ALL_NEAR(from_device(got, tensor[i].v, n), v[i], n, tol);
            if (kind == OPTIM_MASTER)
                CHECK_ALL_NEAR(from_device(got, tensor[i].master, n), w[i], n, tol);
            from_device_as(got, tensor[i].w, n);
            if (kind != OPTIM_RANDOM) CHECK_STORED(T, got, w[i], n, tol);
            for (size_t k = 0; k < n && kind == OPTIM_RANDOM; k++) { /* a neighbour, and on */
                CHECK(fabsf(got[k] - w[i][k]) <= ldexpf(fabsf(w[i][k]), -7) + tol);
                w[i][k] = got[k];
            }
        }
    }
}

/* In every storage: with vectors, and off their alignment. 5 tensors try a rule, 51 the lists. */
template <typename M, typename S, typename O>
static void optim_check_all(size_t count, bool has_m, bool has_v, float tol, S step, O own) {
    optim_check<float, M>(count, OPTIM_FLOAT, 0, has_m, has_v, tol, step, own);
    if (TEST_SLOW) return;
    optim_check<llm_bf16, M>(count, OPTIM_MASTER, 0, has_m, has_v, tol, step, own);
    optim_check<llm_bf16, M>(count, OPTIM_RANDOM, 1, has_m, has_v, tol, step, own);
}

/* Bytes that a step of one float tensor moves, for each of its 8192 entries; 0 on a GPU. */
template <typename M, typename S> static size_t optim_bytes(bool has_m, bool has_v, S step) {
    enum { N = 8192 };
    llm_cuda_gradient_descent_tensor<float, M> t;
    float *x = zeros(N);
    for (size_t i = 0; i < N; i++) x[i] = 1.0f;
    t.w = to_device(x, N), t.master = NULL, t.m = has_m ? to_device_as<M>(x, N) : NULL;
    t.v = has_v ? to_device(x, N) : NULL, t.g = to_device(x, N), t.n = N, t.decay = true;
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(step(&t, (size_t)1, (size_t)1, (const float *)NULL));
#ifndef __CUDACC__
    return (emulate_counted.read + emulate_counted.written) / N;
#else
    CHECK_CUDA(cudaDeviceSynchronize());
    return 0;
#endif
}
#define CHECK_BYTES(bytes, want) CHECK((bytes) == (want) || (bytes) == 0)
