/* A batch and a model on the device, for the training steps of @decoder_only and @gpt2. Included
 * after test.h and llm_cuda.cuh, once in each suite: nvcc compiles a chapter as one file, a
 * namespace a suite, so there is no guard. */

/* A batch of B rows of T tokens, the fourth target ignored. */
static llm_cuda_decoder_only_batch batch(int *ids, int *targets, size_t B, size_t T, size_t V,
                                         uint64_t seed) {
    const size_t N = B * T;
    llm_rng rng = llm_rng_seed(seed);
    for (size_t n = 0; n < N; n++) {
        ids[n] = (int)llm_rng_below(&rng, V);
        targets[n] = n == 3 ? LLM_CROSS_ENTROPY_IGNORE : (int)llm_rng_below(&rng, V);
    }
    int *order = (int *)test_memory(N, sizeof(int));
    int *segment = (int *)test_memory(V + 1, sizeof(int));
    int *scratch = (int *)test_memory(V + 1, sizeof(int));
    const size_t segments = llm_cuda_embedding_sort(order, segment, ids, N, V, scratch);
    const llm_cuda_decoder_only_batch b = {to_device(ids, N),
                                           to_device(targets, N),
                                           to_device(order, N),
                                           to_device(segment, segments + 1),
                                           B,
                                           T,
                                           segments,
                                           1.0f / (float)(N > 3 ? N - 1 : N)};
    return b;
}

/* The model on the device: w rounded to T, moments and gradients cleared. */
template <typename T>
static llm_cuda_decoder_only<T>
on_device(float *w, size_t count, const llm_cuda_decoder_only_config &c, size_t B, size_t length) {
    llm_cuda_decoder_only<T> g;
    g.config = c;
    g.w = to_device_as<T>(w, count);
    g.master = sizeof(T) == 4 ? NULL : to_device(w, count);
    g.g = to_device(zeros(count), count);
    g.m = to_device(zeros(count), count);
    g.v = to_device(zeros(count), count);
    const size_t size = llm_cuda_decoder_only_bind(g, NULL, B, length);
    CHECK(llm_cuda_decoder_only_bind(g, to_device<unsigned char>(NULL, size), B, length) == size);
    CHECK(g.count == count);
    return g;
}
