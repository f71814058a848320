/* @decoder_only_graph */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* A step of `micro` batches: queued on the emulator; on a GPU add and update are captured once and
 * replayed, which fails if anything in them allocates or waits. */
struct replay {
    cudaStream_t stream;
#ifdef __CUDACC__
    cudaGraphExec_t add, update;
#endif
};
template <typename T> static replay replay_of(const llm_cuda_decoder_only_graph<T> &g) {
    replay r;
    CHECK_CUDA(cudaStreamCreate(&r.stream));
#ifdef __CUDACC__
    cudaGraph_t graph;
    CHECK_CUDA(cudaStreamBeginCapture(r.stream, cudaStreamCaptureModeGlobal));
    CHECK_CUDA(llm_cuda_decoder_only_graph_add(g, r.stream));
    CHECK_CUDA(cudaStreamEndCapture(r.stream, &graph));
    CHECK_CUDA(cudaGraphInstantiateWithFlags(&r.add, graph, 0));
    CHECK_CUDA(cudaStreamBeginCapture(r.stream, cudaStreamCaptureModeGlobal));
    CHECK_CUDA(llm_cuda_decoder_only_graph_update(g, r.stream));
    CHECK_CUDA(cudaStreamEndCapture(r.stream, &graph));
    CHECK_CUDA(cudaGraphInstantiateWithFlags(&r.update, graph, 0));
#else
    (void)g;
#endif
    return r;
}
template <typename T>
static void add(const replay &r, const llm_cuda_decoder_only_graph<T> &g, const int *batch) {
    CHECK_CUDA(llm_cuda_decoder_only_graph_feed(g, batch, r.stream));
#ifdef __CUDACC__
    CHECK_CUDA(cudaGraphLaunch(r.add, r.stream));
#else
    CHECK_CUDA(llm_cuda_decoder_only_graph_add(g, r.stream));
#endif
}
template <typename T> static void update(const replay &r, const llm_cuda_decoder_only_graph<T> &g) {
#ifdef __CUDACC__
    CHECK_CUDA(cudaGraphLaunch(r.update, r.stream));
#else
    CHECK_CUDA(llm_cuda_decoder_only_graph_update(g, r.stream));
#endif
}

static void finish(const replay &r) {
#ifdef __CUDACC__
    CHECK_CUDA(cudaGraphExecDestroy(r.add));
    CHECK_CUDA(cudaGraphExecDestroy(r.update));
#endif
    CHECK_CUDA(cudaStreamDestroy(r.stream));
}

static llm_gpt2_config gpt2(size_t vocab, size_t context, size_t width, size_t hidden) {
    llm_gpt2_config c = llm_gpt2_defaults();
    c.vocab = vocab, c.context = context, c.layers = 1, c.heads = 2;
    c.width = width, c.hidden = hidden;
    return c;
}
static llm_cuda_decoder_only_graph_config settings(size_t steps) {
    llm_cuda_decoder_only_graph_config c;
    c.adamw = llm_adamw_defaults();
    c.adamw.lr = 1e-2f, c.adamw.beta1 = 0.9f, c.adamw.beta2 = 0.95f, c.adamw.eps = 1e-6f;
    c.adamw.weight_decay = 0.1f;
    c.max_norm = 0.5f, c.least = 1e-3f, c.warmup = 2, c.steps = steps;
    return c;
}
template <typename T>
static llm_cuda_decoder_only_graph<T>
on_device(const llm_cuda_decoder_only_config &model, const llm_cuda_decoder_only_graph_config &c,
          const float *w, size_t count, size_t B, size_t length) {
    llm_cuda_decoder_only_graph<T> g;
    g.model.config = model;
    g.config = c;
    const size_t size = llm_cuda_decoder_only_graph_bind(g, NULL, B, length);
    unsigned char *memory = to_device<unsigned char>(NULL, size);
    CHECK(llm_cuda_decoder_only_graph_bind(g, memory, B, length) == size);
    CHECK(g.model.count == count && (sizeof(T) == 4) == (g.model.master == NULL));
    CHECK_CUDA(llm_cuda_decoder_only_graph_begin(g, w, 0));
    return g;
}
/* The rate of step t by the functions of @warmup and @lr_schedule. */
static float rate(const llm_cuda_decoder_only_graph_config &c, size_t t) {
    if (t <= c.warmup)
        return c.adamw.lr * (float)llm_warmup_factor(LLM_WARMUP_LINEAR, t, c.warmup, 0.0);
    const double s = (double)(t - c.warmup) / (double)(c.steps - c.warmup);
    return (float)llm_lr_schedule_cosine((double)c.adamw.lr, (double)c.least, s < 1.0 ? s : 1.0);
}

/* Steps beside the same model on the CPU, the first of `micro` batches of B rows, which are one of
 * micro B rows there, the others of one: losses, gradients, norms, rates, weights. */
template <typename T, typename M, typename F, typename G, typename S>
static void check_steps(M &cpu, const llm_cuda_decoder_only_config &model, size_t B, size_t length,
                        size_t micro, size_t steps, F forward, G backward, S step) {
    /* of the loss, of the largest gradient, of the norm; bfloat16: as in tiny_decoder_cuda.h */
    const bool exact = sizeof(T) == 4;
    const float tol = exact ? 2e-5f : 0.06f, loss_tol = exact ? 2e-5f : 0.03f;
    const size_t N = B * length, all = micro * N, V = model.vocab;
    for (size_t i = 0; i < cpu.matrices; i++) cpu.w[i] *= 5.0f; /* or all logits are near 0 */
    const llm_cuda_decoder_only_graph_config c = settings(2);
    const llm_cuda_decoder_only_graph<T> g = on_device<T>(model, c, cpu.w, cpu.count, B, length);
    const replay r = replay_of(g);
    int *ids = (int *)test_memory(all, sizeof(int)),
        *targets = (int *)test_memory(all, sizeof(int));
    int *batch = (int *)test_memory(llm_cuda_decoder_only_graph_ints(g), sizeof(int));
    int *scratch = (int *)test_memory(V + 1, sizeof(int));
    float *got = floats(cpu.count), *want = floats(steps), *log = floats(c.steps);
    for (size_t t = 1; t <= steps; t++) {
        llm_rng rng = llm_rng_seed(t);
        const size_t parts = t == 1 ? micro : 1;
        for (size_t n = 0; n < all; n++) { /* few ids: fewer segments than there is room for */
            ids[n] = (int)llm_rng_below(&rng, V / 2) * 2;
            targets[n] = (n + t) % 5 == 0 ? LLM_CROSS_ENTROPY_IGNORE : (int)llm_rng_below(&rng, V);
        }
        for (size_t b = 0; b < parts; b++) {
            llm_cuda_decoder_only_graph_batch(batch, g, ids + b * N, targets + b * N, scratch);
            add(r, g, batch);
            CHECK_CUDA(cudaStreamSynchronize(r.stream)); /* before batch is written again */
        }
        want[t - 1] = forward(ids, targets, parts * B);
        backward();
        from_device(got, g.model.g, cpu.count);
        float large = 0.0f;
        for (size_t i = 0; i < cpu.count; i++) {
            got[i] /= (float)cpu.kept;
            large = fmaxf(large, fabsf(cpu.g[i]));
        }
        CHECK_ALL_NEAR(got, cpu.g, cpu.count, tol * large);

        update(r, g);
        llm_adamw_config adamw = c.adamw;
        adamw.lr = rate(c, t);
        const float norm = llm_grad_clip_norm(cpu.g, cpu.count, c.max_norm);
        step(&adamw, t);
        llm_cuda_decoder_only_graph_state s;
        from_device(&s, g.state, 1);
        CHECK(s.step == t && s.skipped == 0 && s.nats == 0.0 && s.targets == 0.0);
        CHECK_NEAR(s.loss, want[t - 1], loss_tol);
        CHECK_NEAR(s.norm, norm, tol * norm);
        CHECK_NEAR(s.rate, adamw.lr, 1e-8f);
        from_device(got, g.model.g, cpu.count);
        for (size_t i = 0; i < cpu.count; i++) CHECK(got[i] == 0.0f);
        /* Adam's first steps have the size of the rate whatever the gradient: a small one may
         * differ in sign, where rounding is coarse */
        const float apart = exact ? 1e-4f : 2.1f * c.adamw.lr * (float)t;
        CHECK_STORED(T, from_device_as(got, g.model.w, cpu.count), cpu.w, cpu.count, apart);
        if (!exact) { /* the weights are the rounding of their master */
            float *master = floats(cpu.count);
            from_device(master, g.model.master, cpu.count);
            for (size_t i = 0; i < cpu.count; i++)
                CHECK(llm_to_float(llm_to_bf16(master[i])) == got[i]);
        }
    }
    finish(r);
    from_device(log, g.log, c.steps);
    for (size_t t = 0; t < steps && t < c.steps; t++) CHECK_NEAR(log[t], want[t], loss_tol);
}

template <typename T>
static void check_gpt2(const llm_gpt2_config &c, size_t B, size_t length, size_t micro,
                       size_t steps) {
    llm_gpt2 cpu;
    llm_error e;
    llm_rng rng = llm_rng_seed(1);
    CHECK(llm_gpt2_create(&cpu, &c, micro * B, length, &e));
    llm_gpt2_init(&cpu, &rng);
    check_steps<T>(
        cpu, llm_cuda_gpt2_config(c), B, length, micro, steps,
        [&](const int *ids, const int *targets, size_t rows) {
            return llm_gpt2_forward(&cpu, ids, targets, rows, length);
        },
        [&]() { llm_gpt2_backward(&cpu); },
        [&](const llm_adamw_config *adamw, size_t t) { llm_gpt2_step(&cpu, adamw, t); });
    llm_gpt2_destroy(&cpu);
}

TEST(decoder_only_graph, "GPT-2, in micro-batches and without, clipped, equals llm_gpt2") {
    check_gpt2<float>(gpt2(7, 5, 4, 6), 1, TEST_SLOW ? 3 : 5, TEST_SLOW ? 1 : 2, TEST_SLOW ? 1 : 2);
}
TEST(decoder_only_graph, "bfloat16 on tensor cores with a float master follows in its rounding") {
    if (!TEST_SLOW) check_gpt2<llm_bf16>(gpt2(11, 8, 16, 32), 2, 6, 1, 1);
}
TEST(decoder_only_graph, "steps of a Llama equal llm_decoder_only") {
    if (TEST_SLOW) return;
    llm_decoder_only_config c;
    c.vocab = 7, c.context = 5, c.layers = 1, c.tied = false, c.theta = 100.0f;
    c.block.width = 4, c.block.heads = 4, c.block.kv_heads = 2, c.block.head_size = 2;
    c.block.hidden = 5, c.block.eps = 1e-5f, c.block.pairing = LLM_ROPE_HALVES;
    const size_t B = 2, length = 5, n = length;
    float inv_freq[1], *cosine = floats(n), *sine = floats(n);
    llm_rope_inv_freq(inv_freq, 2, c.theta);
    llm_rope_table(cosine, sine, NULL, inv_freq, length, 2);
    const llm_cuda_decoder_only_config d = {
        c.vocab, 0, c.layers, c.tied,
        llm_cuda_llama_block_config(c.block, to_device(cosine, n), to_device(sine, n))};
    llm_decoder_only cpu;
    llm_error e;
    llm_rng rng = llm_rng_seed(2);
    memset(&cpu, 0, sizeof cpu);
    CHECK(llm_decoder_only_create(&cpu, &c, B, length, &e));
    llm_decoder_only_init(&cpu, &rng);
    check_steps<float>(
        cpu, d, B, length, 1, 1,
        [&](const int *ids, const int *targets, size_t rows) {
            return llm_decoder_only_forward(&cpu, ids, targets, rows, length);
        },
        [&]() { llm_decoder_only_backward(&cpu); },
        [&](const llm_adamw_config *adamw, size_t t) { llm_decoder_only_step(&cpu, adamw, t); });
    llm_decoder_only_destroy(&cpu);
}

TEST(decoder_only_graph,
     "the turn of six steps: rates, loss, clipping, what AdamW reads, the log") {
    const llm_cuda_decoder_only_graph_config c = settings(5);
    llm_cuda_decoder_only_graph_state s;
    memset(&s, 0, sizeof s);
    llm_cuda_decoder_only_graph_state *d = to_device(&s, 1);
    double squares[40] = {0.0}, *d_squares = to_device(squares, 40);
    float *d_log = to_device<float>(NULL, 6), log[6];
    for (size_t t = 1; t <= 6; t++) {
        from_device(&s, d, 1);
        s.nats = 3.0 * (double)t, s.targets = 4.0;
        const float norm = t % 2 ? 8.0f : 1.0f; /* 2 after the division: clipped; 1/4: not */
        squares[3] = 0.25 * (double)(norm * norm), squares[39] = 3.0 * squares[3];
        CHECK_CUDA(cudaMemcpy(d, &s, sizeof s, cudaMemcpyHostToDevice));
        CHECK_CUDA(cudaMemcpy(d_squares, squares, sizeof squares, cudaMemcpyHostToDevice));
        LLM_LAUNCH(llm_decoder_only_graph_turn_kernel, 1, 64, 0, 0, d, d_log, d_squares, 40, c);
        from_device(&s, d, 1);
        CHECK(s.step == t && s.skipped == 0 && s.nats == 0.0 && s.targets == 0.0);
        CHECK_NEAR(s.loss, 0.75f * (float)t, 1e-6f);
        CHECK_NEAR(s.norm, norm / 4.0f, 1e-6f);
        CHECK_NEAR(s.rate, rate(c, t), 1e-8f);
        CHECK_NEAR(s.factor, t % 2 ? 0.25f * (0.5f / (2.0f + 1e-6f)) : 0.25f, 1e-7f);
        CHECK_NEAR(s.keep, 1.0f - 0.1f * s.rate, 1e-7f);
        CHECK_NEAR(s.gain, s.rate / (1.0 - pow((double)0.9f, (double)t)), 1e-7f);
        CHECK_NEAR(s.v_scale, 1.0 / sqrt(1.0 - pow((double)0.95f, (double)t)), 2e-6f);
    }
    from_device(log, d_log, 6);
    for (size_t t = 1; t <= 5; t++) CHECK_NEAR(log[t - 1], 0.75f * (float)t, 1e-6f);
    CHECK(log[5] != log[5]); /* behind the last step nothing is written */
}

TEST(decoder_only_graph, "a loss or gradient that is not finite, or no targets, change nothing") {
    /* what add may have left: the NaN of a target outside the table, no targets, an overflow */
    const double nats[4] = {(double)NAN, 0.0, 3.0, 3.0}, targets[4] = {3.0, 0.0, 3.0, 3.0};
    const double squares[4] = {1.0, 0.0, (double)INFINITY, 1.0};
    llm_cuda_decoder_only_graph_state s;
    memset(&s, 0, sizeof s);
    llm_cuda_decoder_only_graph_state *d = to_device(&s, 1);
    float *log = to_device<float>(NULL, 2);
    for (size_t turn = 0; turn < 4; turn++) {
        from_device(&s, d, 1);
        s.nats = nats[turn], s.targets = targets[turn];
        CHECK_CUDA(cudaMemcpy(d, &s, sizeof s, cudaMemcpyHostToDevice));
        LLM_LAUNCH(llm_decoder_only_graph_turn_kernel, 1, 32, 0, 0, d, log,
                   to_device(squares + turn, 1), 1, settings(2));
        from_device(&s, d, 1);
        CHECK(s.step == turn + 1 && s.skipped == (turn < 3 ? turn + 1 : 3));
        CHECK(turn < 3 ? s.factor != s.factor : s.factor > 0.0f);
        CHECK(turn >= 2 ? s.loss == 1.0f : s.loss != s.loss);
    }
    if (TEST_SLOW) return;
    const llm_gpt2_config c = gpt2(5, 3, 4, 4);
    const size_t count = llm_gpt2_count(&c);
    float *w = floats(count), *got = floats(count);
    llm_rng rng = llm_rng_seed(4);
    llm_rng_normal_fill(&rng, w, count);
    const llm_cuda_decoder_only_graph<float> g =
        on_device<float>(llm_cuda_gpt2_config(c), settings(2), w, count, 1, 3);
    const float large = INFINITY;
    from_device(&s, g.state, 1);
    s.nats = s.targets = 3.0;
    CHECK_CUDA(cudaMemcpy(g.state, &s, sizeof s, cudaMemcpyHostToDevice));
    CHECK_CUDA(cudaMemcpy(g.model.g + 1, &large, sizeof large, cudaMemcpyHostToDevice));
    CHECK_CUDA(llm_cuda_decoder_only_graph_update(g, 0));
    from_device(&s, g.state, 1);
    CHECK(s.step == 1 && s.skipped == 1 && s.norm == INFINITY);
    from_device(got, g.model.w, count);
    for (size_t i = 0; i < count; i++) CHECK(got[i] == w[i]);
    from_device(got, g.model.g, count);
    for (size_t i = 0; i < count; i++) CHECK(got[i] == 0.0f);
}

TEST(decoder_only_graph, "a target outside the table makes the sum of the losses NaN") {
    if (TEST_SLOW) return;
    const llm_gpt2_config c = gpt2(5, 3, 4, 4);
    const size_t count = llm_gpt2_count(&c);
    const llm_cuda_decoder_only_graph<float> g =
        on_device<float>(llm_cuda_gpt2_config(c), settings(2), zeros(count), count, 1, 3);
    const replay r = replay_of(g);
    const int ids[3] = {1, 4, 1}, wrong[3] = {0, 99, LLM_CROSS_ENTROPY_IGNORE};
    int batch[13], scratch[6];
    CHECK(llm_cuda_decoder_only_graph_ints(g) == 13);
    llm_cuda_decoder_only_graph_batch(batch, g, ids, wrong, scratch);
    add(r, g, batch);
    llm_cuda_decoder_only_graph_state s;
    from_device(&s, g.state, 1);
    CHECK(s.nats != s.nats && s.targets == 2.0);
    finish(r);
}

TEST(decoder_only_graph, "the places of a batch: ids in order, then places without an id") {
    llm_cuda_decoder_only_graph<float> g;
    g.model.config.vocab = 6, g.B = 2, g.length = 2, g.segments = 4;
    const int ids[4] = {3, 9, 3, 0}, targets[4] = {1, 2, 3, 4};
    const int want[17] = {3, 9, 3, 0, 1, 2, 3, 4, 3, 0, 2, 0, 0, 1, 3, 3, 3};
    int batch[17], scratch[7];
    CHECK(llm_cuda_decoder_only_graph_ints(g) == 17);
    llm_cuda_decoder_only_graph_batch(batch, g, ids, targets, scratch);
    for (size_t i = 0; i < 17; i++) CHECK(batch[i] == want[i]);
}
