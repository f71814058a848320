/* A batch and a model on the device, and a check of the training steps of @decoder_only and @gpt2.
 * Included after test.h and llm_cuda.cuh, once in each suite: nvcc compiles a chapter as one file,
 * a namespace a suite, so there is no guard. */

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

/* Loss, all gradients and the weights of `steps` steps on the device beside those of cpu, a fresh
 * model: forward(ids, targets) returns the loss, backward() leaves gradients, step(adamw, t). */
template <typename T, typename M, typename F, typename G, typename S>
static void decoder_check_steps(M &cpu, const llm_cuda_decoder_only_config &c, size_t B,
                                size_t length, size_t steps, F forward, G backward, S step) {
    /* of the largest gradient, of the loss, of the norm: bfloat16 rounds 30 times on each way */
    const bool exact = sizeof(T) == 4;
    const float tol = exact ? 2e-5f : 0.06f, loss_tol = exact ? 2e-5f : 0.03f;
    const size_t N = B * length;
    for (size_t i = 0; i < cpu.matrices; i++) cpu.w[i] *= 5.0f; /* or all logits are near 0 */
    const llm_cuda_decoder_only<T> g = on_device<T>(cpu.w, cpu.count, c, B, length);
    CHECK(g.matrices == cpu.matrices);
    llm_adamw_config adamw = llm_adamw_defaults();
    adamw.lr = 1e-2f, adamw.beta1 = 0.9f, adamw.beta2 = 0.95f, adamw.eps = 1e-6f;
    adamw.weight_decay = 0.1f;
    int *ids = (int *)test_memory(N, sizeof(int)), *targets = (int *)test_memory(N, sizeof(int));
    float *got = floats(cpu.count), norm[2];
    double total[2];
    for (size_t t = 1; t <= steps; t++) {
        const llm_cuda_decoder_only_batch b = batch(ids, targets, B, length, c.vocab, t);
        CHECK_CUDA(llm_cuda_decoder_only_forward(g, b, 0));
        CHECK_CUDA(llm_cuda_decoder_only_backward(g, b, 0));
        const float loss = forward(ids, targets);
        backward();
        from_device(total, g.total, 2);
        CHECK(total[1] == (double)cpu.kept);
        CHECK_NEAR(total[0] / total[1], loss, loss_tol);
        float large = 0.0f;
        for (size_t i = 0; i < cpu.count; i++) large = fmaxf(large, fabsf(cpu.g[i]));
        CHECK_ALL_NEAR(from_device(got, g.g, cpu.count), cpu.g, cpu.count, tol * large);

        const float max_norm = t == 1 ? 1e3f : 0.1f; /* the second step is clipped */
        CHECK_CUDA(llm_cuda_decoder_only_step(g, &adamw, t, max_norm, 7, 0));
        const float want = llm_grad_clip_norm(cpu.g, cpu.count, max_norm);
        CHECK_NEAR(from_device(norm, g.norm_factor, 2)[0], want, tol * want);
        CHECK(t == 1 ? norm[1] == 1.0f : norm[1] < 1.0f);
        step(&adamw, t);
        from_device(got, g.g, cpu.count);
        for (size_t i = 0; i < cpu.count; i++) CHECK(got[i] == 0.0f);
        /* Adam's first steps have the size of lr whatever the gradient: a small one may differ in
         * sign, where rounding is coarse */
        const float apart = exact ? 1e-4f : 2.1f * adamw.lr * (float)t;
        CHECK_STORED(T, from_device_as(got, g.w, cpu.count), cpu.w, cpu.count, apart);
        if (exact) memcpy(cpu.w, got, cpu.count * sizeof(float)); /* walk together */
    }
}
