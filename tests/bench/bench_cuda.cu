/* How fast the kernels are on this card, beside what the card does at best: GB/s against a measured
 * copy, TFLOP/s against cuBLAS. Medians of device events after a warm-up. make bench-cuda. */
#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>

#include "../../llm_cuda.cuh"

enum { WARM_UP = 5, RUNS = 25 };

static void check(cudaError_t error, const char *what) {
    if (error == cudaSuccess) return;
    fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
    exit(1);
}
#define CHECK(call) check(call, #call)

/* Median milliseconds of one call. */
template <typename F> static double milliseconds(F call) {
    cudaEvent_t start, stop;
    float ms[RUNS];
    CHECK(cudaEventCreate(&start));
    CHECK(cudaEventCreate(&stop));
    for (int i = 0; i < WARM_UP; i++) call();
    for (int i = 0; i < RUNS; i++) {
        CHECK(cudaEventRecord(start, 0));
        call();
        CHECK(cudaEventRecord(stop, 0));
        CHECK(cudaEventSynchronize(stop));
        CHECK(cudaEventElapsedTime(&ms[i], start, stop));
    }
    CHECK(cudaGetLastError());
    CHECK(cudaEventDestroy(start));
    CHECK(cudaEventDestroy(stop));
    std::sort(ms, ms + RUNS);
    return (double)ms[RUNS / 2];
}

static void put(char *p, float value) { *p = (char)value; }
static void put(float *p, float value) { *p = value; }
static void put(double *p, float value) { *p = value; }
static void put(llm_bf16 *p, float value) { *p = llm_to_bf16(value); }

template <typename T> static T *device(size_t n, float value) {
    T *p = NULL, one;
    T *host = (T *)malloc(n * sizeof(T));
    if (!host) exit(1);
    put(&one, value);
    for (size_t i = 0; i < n; i++) host[i] = one;
    CHECK(cudaMalloc(&p, n * sizeof(T)));
    CHECK(cudaMemcpy(p, host, n * sizeof(T), cudaMemcpyHostToDevice));
    free(host);
    return p;
}

static double copy_speed; /* GB/s, read and written */

static void say_bytes(const char *name, const char *type, double bytes, double ms) {
    const double speed = 1e-6 * bytes / ms;
    printf("%-24s %-5s %9.3f ms %8.0f GB/s  %5.1f%% of copy\n", name, type, ms, speed,
           100.0 * speed / copy_speed);
}

/* The kernels that move memory, on N rows of C; classes columns for those over a vocabulary. */
template <typename T>
static void memory_bound(const char *type, size_t N, size_t C, size_t rows, size_t classes) {
    const size_t n = N * C, size = sizeof(T), z = rows * classes;
    T *x = device<T>(n, 0.5f), *y = device<T>(n, 0.25f), *r = device<T>(n, 0.125f);
    T *w = device<T>(C, 1.0f), *logits = device<T>(z, 0.5f), *packed = device<T>(2 * n, 0.5f);
    float *mean = device<float>(N, 0.0f), *rstd = device<float>(N, 1.0f),
          *dw = device<float>(C, 0.0f);
    float *db = device<float>(C, 0.0f), *loss = device<float>(rows, 0.0f);
    const size_t blocks = llm_cuda_layernorm_blocks<T>(N, C);
    float *scratch = device<float>(2 * blocks * C, 0.0f), *sum = device<float>(n, 0.0f);
    double *total = device<double>(2, 0.0f);
    int *target = NULL;
    const double e = (double)n * (double)size, v = (double)z * (double)size;
    CHECK(cudaMalloc(&target, rows * sizeof(int)));
    CHECK(cudaMemset(target, 0, rows * sizeof(int)));

    say_bytes("rmsnorm_residual", type, 4 * e,
              milliseconds([&] { llm_cuda_rmsnorm_residual(y, r, rstd, x, w, N, C, 1e-5f, 0); }));
    say_bytes("rmsnorm_backward", type, 4 * e, milliseconds([&] {
                  llm_cuda_rmsnorm_backward(r, dw, y, x, w, rstd, N, C, scratch, 0);
              }));
    say_bytes("layernorm_residual", type, 4 * e, milliseconds([&] {
                  llm_cuda_layernorm_residual(y, r, mean, rstd, x, w, w, N, C, 1e-5f, 0);
              }));
    say_bytes("layernorm_backward", type, 4 * e, milliseconds([&] {
                  llm_cuda_layernorm_backward(r, dw, db, y, x, w, mean, rstd, N, C, scratch, 0);
              }));
    say_bytes("softmax_forward", type, 2 * e,
              milliseconds([&] { llm_cuda_softmax_forward(y, x, N, C, 1.0f, 0); }));
    say_bytes("softmax_backward", type, 4 * e,
              milliseconds([&] { llm_cuda_softmax_backward(r, y, x, N, C, 1.0f, 0); }));
    say_bytes("activation_forward", type, 2 * e, milliseconds([&] {
                  llm_cuda_activation_forward(y, x, w, N, C, LLM_ACTIVATION_GELU_TANH, 0);
              }));
    say_bytes("swiglu_packed_forward", type, 3 * e,
              milliseconds([&] { llm_cuda_swiglu_packed_forward(y, packed, N, C, 0); }));
    say_bytes("dropout_residual", type, 3 * e,
              milliseconds([&] { llm_cuda_dropout_residual(y, x, w, r, N, C, 0.1f, 1, 0, 0); }));
    say_bytes("grad_accum_add", type, (8.0 + (double)size) * (double)n,
              milliseconds([&] { llm_cuda_grad_accum_add(sum, x, 1.0f, n, 0); }));
    say_bytes("logsumexp", type, v,
              milliseconds([&] { llm_cuda_logsumexp(loss, logits, rows, classes, 0); }));
    say_bytes("perplexity_nll", type, v, milliseconds([&] {
                  llm_cuda_perplexity_nll(total, loss, logits, target, rows, classes, 0);
              }));
    say_bytes("cross_entropy_in_place", type, 2 * v, milliseconds([&] {
                  llm_cuda_cross_entropy_in_place(loss, logits, target, (float *)NULL, rows,
                                                  classes, 1.0f, 0.0f, 0);
              }));
    for (void *p : {(void *)x, (void *)y, (void *)r, (void *)w, (void *)logits, (void *)packed,
                    (void *)mean, (void *)rstd, (void *)dw, (void *)db, (void *)loss,
                    (void *)scratch, (void *)sum, (void *)total, (void *)target})
        CHECK(cudaFree(p));
}

static void optimizer(size_t n) {
    llm_cuda_adamw_tensor<float> t;
    float *g = device<float>(n, 1e-3f), *norm = device<float>(2, 1.0f);
    const float *list = g;
    double *scratch = device<double>(LLM_CUDA_GRAD_CLIP_BLOCKS, 0.0f);
    const llm_adamw_config c = llm_adamw_defaults();
    t.w = device<float>(n, 1.0f), t.m = device<float>(n, 0.0f), t.v = device<float>(n, 0.0f);
    t.master = NULL, t.g = g, t.n = n, t.decay = true;
    say_bytes("grad_clip_norm", "float", 4.0 * (double)n,
              milliseconds([&] { llm_cuda_grad_clip_norm(norm, &list, &n, 1, 1.0f, scratch, 0); }));
    say_bytes("adamw_step", "float", 28.0 * (double)n,
              milliseconds([&] { llm_cuda_adamw_step(&t, (size_t)1, &c, 1, norm + 1, 0, 0); }));
    for (void *p :
         {(void *)g, (void *)norm, (void *)scratch, (void *)t.w, (void *)t.m, (void *)t.v})
        CHECK(cudaFree(p));
}

/* What a decoding step does beside its products: one query a text against S keys, a token a
 * text. */
template <typename T>
static void decoding(const char *type, size_t B, size_t S, size_t H, size_t Hkv, size_t D,
                     size_t V) {
    const llm_cuda_gqa_config c = llm_cuda_gqa_defaults(B, H, Hkv, S, D);
    T *q = device<T>(B * H * D, 0.5f), *out = device<T>(B * H * D, 0.0f);
    T *k = device<T>(B * Hkv * S * D, 0.25f), *v = device<T>(B * Hkv * S * D, 0.125f);
    T *logits = device<T>(B * V, 0.5f);
    float *scratch = device<float>(llm_cuda_gqa_scratch(&c) + 1, 0.0f);
    const size_t parts = B * LLM_CUDA_GREEDY_PIECES;
    const double size = (double)sizeof(T);
    unsigned long long *keys = NULL;
    llm_cuda_temperature_part *pairs = NULL;
    uint64_t *seed = NULL;
    int *token = NULL;
    CHECK(cudaMalloc(&keys, parts * sizeof *keys));
    CHECK(cudaMalloc(&pairs, parts * sizeof *pairs));
    CHECK(cudaMalloc(&seed, B * sizeof *seed));
    CHECK(cudaMalloc(&token, B * sizeof *token));
    CHECK(cudaMemset(seed, 1, B * sizeof *seed));
    say_bytes("gqa_decode", type, 2 * size * (double)(B * Hkv * S * D),
              milliseconds([&] { llm_cuda_gqa_decode(out, q, k, v, &c, scratch, 0); }));
    say_bytes("greedy_pick", type, size * (double)(B * V),
              milliseconds([&] { llm_cuda_greedy_pick(token, keys, logits, B, V, 0); }));
    say_bytes("temperature_gumbel", type, size * (double)(B * V), milliseconds([&] {
                  llm_cuda_temperature_gumbel(token, (float *)NULL, pairs, logits, seed, B, V, 1.0f,
                                              0);
              }));
    for (void *p : {(void *)q, (void *)out, (void *)k, (void *)v, (void *)logits, (void *)scratch,
                    (void *)keys, (void *)pairs, (void *)seed, (void *)token})
        CHECK(cudaFree(p));
}

/* Causal attention of T tokens: half of 4 T^2 D operations a head forwards, of 10 backwards. */
template <typename T>
static void attention(const char *type, size_t B, size_t H, size_t tokens, size_t D) {
    const llm_flash_config c = llm_flash_defaults(B, H, H, tokens, D);
    const size_t n = B * H * tokens * D;
    T *x[8];
    for (int i = 0; i < 8; i++) x[i] = device<T>(n, 0.1f); /* q, k, v, out, dout, dq, dk, dv */
    float *lse = device<float>(B * H * tokens, 0.0f),
          *scratch = device<float>(B * H * tokens, 0.0f);
    const double work = 2e-9 * (double)n * (double)tokens; /* TFLOP for a millisecond */
    const double forward =
        milliseconds([&] { llm_cuda_flash_forward(x[3], lse, x[0], x[1], x[2], &c, 0); });
    const double backward = milliseconds([&] {
        llm_cuda_flash_backward(x[5], x[6], x[7], x[4], x[3], lse, x[0], x[1], x[2], &c, scratch,
                                0);
    });
    printf("flash_forward            %-5s %9.3f ms %8.1f TFLOP/s  (%zu x %zu x %zu x %zu)\n", type,
           forward, work / forward, B, H, tokens, D);
    printf("flash_backward           %-5s %9.3f ms %8.1f TFLOP/s\n", type, backward,
           2.5 * work / backward);
    for (int i = 0; i < 8; i++) CHECK(cudaFree(x[i]));
    CHECK(cudaFree(lse));
    CHECK(cudaFree(scratch));
}

/* Work queued once as a graph and replayed: median milliseconds. */
template <typename F> static double replayed(F queue) {
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    CHECK(queue(stream));
    CHECK(cudaStreamEndCapture(stream, &graph));
    CHECK(cudaGraphInstantiateWithFlags(&exec, graph, 0));
    const double ms = milliseconds([&] { cudaGraphLaunch(exec, 0); });
    CHECK(cudaDeviceSynchronize());
    CHECK(cudaGraphExecDestroy(exec));
    CHECK(cudaGraphDestroy(graph));
    CHECK(cudaStreamDestroy(stream));
    return ms;
}

/* A training step of GPT-2 124M as a graph, B rows of 1024 tokens, bfloat16 with a float master. 6
 * operations for each weight and token, 6 T C a token and layer for the triangles of attention. */
static void training(size_t B) {
    const llm_gpt2_config c = llm_gpt2_defaults();
    const size_t tokens = 1024, N = B * tokens;
    llm_cuda_decoder_only_graph<llm_bf16> g;
    g.model.config = llm_cuda_gpt2_config(c);
    g.config.adamw = llm_adamw_defaults();
    g.config.max_norm = 1.0f, g.config.least = 0.0f, g.config.warmup = 100;
    g.config.steps = 1000;
    const size_t bytes = llm_cuda_decoder_only_graph_bind(g, NULL, B, tokens);
    unsigned char *memory = NULL;
    CHECK(cudaMalloc(&memory, bytes));
    llm_cuda_decoder_only_graph_bind(g, memory, B, tokens);
    float *w = (float *)malloc(g.model.count * sizeof(float));
    int *batch = (int *)malloc(llm_cuda_decoder_only_graph_ints(g) * sizeof(int));
    int *ids = (int *)malloc(N * sizeof(int)),
        *scratch = (int *)malloc((c.vocab + 1) * sizeof(int));
    if (!w || !batch || !ids || !scratch) exit(1);
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, w, g.model.count);
    for (size_t i = 0; i < g.model.count; i++) w[i] *= 0.02f;
    for (size_t i = 0; i < N; i++) ids[i] = (int)llm_rng_below(&rng, c.vocab);
    llm_cuda_decoder_only_graph_batch(batch, g, ids, ids, scratch);
    CHECK(llm_cuda_decoder_only_graph_begin(g, w, 0));
    CHECK(llm_cuda_decoder_only_graph_feed(g, batch, 0));
    CHECK(cudaDeviceSynchronize());
    const double ms = replayed([&](cudaStream_t stream) {
        const cudaError_t error = llm_cuda_decoder_only_graph_add(g, stream);
        return error == cudaSuccess ? llm_cuda_decoder_only_graph_update(g, stream) : error;
    });
    const double work =
        (double)N * (6.0 * (double)g.model.count + 6.0 * (double)(c.layers * tokens * c.width));
    printf("gpt2_124M_step           bf16  %9.3f ms %8.0f tokens/s %8.1f TFLOP/s  (%zu x %zu, %.1f "
           "GB)\n",
           ms, 1e3 * (double)N / ms, 1e-9 * work / ms, B, tokens, 1e-9 * (double)bytes);
    free(w), free(batch), free(ids), free(scratch);
    CHECK(cudaFree(memory));
}

static void *cleared(size_t bytes) {
    void *p = NULL;
    CHECK(cudaMalloc(&p, bytes));
    CHECK(cudaMemset(p, 0, bytes));
    return p;
}
/* A token for each of B rows behind 1024 others, as a graph: the shape of Llama 3.2 1B. Weights are
 * all 0, which moves as many bytes as any others. */
static void one_token(const char *name, llm_gguf_blocks_type type, size_t B) {
    enum { L = 16, C = 2048, H = 32, HKV = 8, D = 64, F = 8192, V = 128256, ROOM = 2048 };
    llm_cuda_decoding_step_layer layer[L];
    llm_cuda_decoding_step<llm_bf16> s;
    const llm_sampling_step greedy = {LLM_SAMPLING_TEMPERATURE, 0.0f};
    double bytes = 0.0;
    void *all[5 * L + 1];
    size_t count = 0;
    memset(&s, 0, sizeof s);
    const auto matrix = [&](size_t rows, size_t columns) {
        llm_stored_matrix m = {NULL, type, rows, columns};
        const size_t size = rows * llm_stored_matrix_stride(&m);
        m.data = (const unsigned char *)(all[count++] = cleared(size));
        bytes += (double)size;
        return m;
    };
    float *gain = device<float>(C, 1.0f);
    for (size_t l = 0; l < L; l++) {
        layer[l].qkv = matrix((H + 2 * HKV) * D, C), layer[l].out = matrix(C, H * D);
        layer[l].gate = matrix(F, C), layer[l].up = matrix(F, C), layer[l].down = matrix(C, F);
        layer[l].norm1 = layer[l].norm2 = gain, layer[l].bias = NULL;
    }
    s.width = C, s.heads = H, s.head_size = D, s.hidden = F, s.layers = L, s.eps = 1e-5f;
    s.cosine = s.sine = (const float *)cleared(ROOM * D / 2 * sizeof(float));
    s.layer = layer, s.norm = gain, s.embed = s.head = matrix(V, C);
    s.cache.L = L, s.cache.B = B, s.cache.H = HKV, s.cache.room = ROOM, s.cache.D = D;
    s.cache.memory = (llm_bf16 *)cleared(2 * L * B * HKV * ROOM * D * sizeof(llm_bf16));
    const size_t text = 1024, seen = 1023;
    size_t *length = (size_t *)cleared(4 * B * sizeof(size_t));
    for (size_t b = 0; b < B; b++) {
        CHECK(cudaMemcpy(length + b, &seen, sizeof seen, cudaMemcpyHostToDevice));
        CHECK(cudaMemcpy(length + B + b, &text, sizeof text, cudaMemcpyHostToDevice));
        CHECK(cudaMemcpy(length + 2 * B + b, &text, sizeof text, cudaMemcpyHostToDevice));
    }
    s.cache.length = length, s.rows.length = length + B, s.rows.prompt = length + 2 * B;
    s.rows.count = length + 3 * B;
    int *ids = (int *)cleared((B * ROOM + 2 * B + 1) * sizeof(int));
    s.rows.ids = ids, s.rows.end = ids + B * ROOM, s.rows.next = s.rows.end + B;
    s.rows.open = s.rows.next + B, s.rows.seed = (uint64_t *)cleared(B * sizeof(uint64_t));
    s.rows.B = B, s.rows.capacity = ROOM, s.rows.max_new = ROOM;
    s.sampling = llm_cuda_sampling_defaults(&greedy, 1);
    unsigned char *memory = (unsigned char *)cleared(llm_cuda_decoding_step_bind(s, NULL));
    llm_cuda_decoding_step_bind(s, memory);
    CHECK(llm_cuda_decoding_begin(&s.rows, 0));
    CHECK(cudaDeviceSynchronize());
    const double ms =
        replayed([&](cudaStream_t stream) { return llm_cuda_decoding_step_token(s, stream); });
    bytes += 2.0 * 2.0 * (double)(L * B * HKV * D) * 1040.0; /* keys and values, on the mean */
    printf("llama_1B_token           %-5s %9.3f ms %8.0f tokens/s %8.0f GB/s  %5.1f%% of copy  "
           "(%zu rows)\n",
           name, ms, 1e3 * (double)B / ms, 1e-6 * bytes / ms,
           100.0 * 1e-6 * bytes / ms / copy_speed, B);
    for (size_t i = 0; i < count; i++) CHECK(cudaFree(all[i]));
    for (void *p : {(void *)gain, (void *)s.cosine, (void *)s.cache.memory, (void *)length,
                    (void *)ids, (void *)s.rows.seed, (void *)memory})
        CHECK(cudaFree(p));
}

/* y (N,O) = x (N,C) w (O,C)^T with cuBLAS, which counts columns first. */
static void cublas(cublasHandle_t handle, void *y, const void *x, const void *w, size_t N, size_t C,
                   size_t O, cudaDataType_t type) {
    const float one = 1.0f, zero = 0.0f;
    cublasGemmEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, (int)O, (int)N, (int)C, &one, w, type, (int)C, x,
                 type, (int)C, &zero, y, type, (int)O, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}
template <typename T>
static void product(cublasHandle_t handle, const char *type, cudaDataType_t code, size_t N,
                    size_t C, size_t O) {
    T *x = device<T>(N * C, 0.5f), *w = device<T>(O * C, 0.5f), *y = device<T>(N * O, 0.0f);
    const double work = 2e-9 * (double)N * (double)C * (double)O; /* TFLOP for a millisecond */
    const double ours = milliseconds([&] {
        llm_cuda_dense_forward(y, (T *)NULL, x, w, (const T *)NULL, N, C, O,
                               LLM_ACTIVATION_IDENTITY, 0);
    });
    const double theirs = milliseconds([&] { cublas(handle, y, x, w, N, C, O, code); });
    printf("dense_forward            %-5s %9.3f ms %8.1f TFLOP/s  %5.1f%% of cuBLAS  (%zu x %zu x "
           "%zu)\n",
           type, ours, work / ours, 100.0 * theirs / ours, N, C, O);
    CHECK(cudaFree(x));
    CHECK(cudaFree(w));
    CHECK(cudaFree(y));
}

int main(void) {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
        printf("skipped: kernels on a GPU (there is none)\n");
        return 0;
    }
    cudaDeviceProp card;
    CHECK(cudaGetDeviceProperties(&card, 0));
    const size_t bytes = (size_t)1 << 30;
    char *from = device<char>(1, 0.0f), *to = NULL;
    CHECK(cudaFree(from));
    CHECK(cudaMalloc(&from, bytes));
    CHECK(cudaMalloc(&to, bytes));
    CHECK(cudaMemset(from, 0, bytes));
    copy_speed = 2e-6 * (double)bytes / milliseconds([&] {
                     cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, 0);
                 });
    CHECK(cudaFree(from));
    CHECK(cudaFree(to));
    printf("%s: a copy moves %.0f GB/s\n", card.name, copy_speed);

    memory_bound<float>("float", 16384, 4096, 4096, 50304);
    memory_bound<llm_bf16>("bf16", 16384, 4096, 4096, 50304);
    optimizer((size_t)124 << 20);
    decoding<llm_bf16>("bf16", 32, 8192, 32, 8, 128, 128256);
    attention<float>("float", 4, 16, 1024, 64);
    attention<llm_bf16>("bf16", 4, 16, 4096, 64);
    attention<llm_bf16>("bf16", 4, 16, 4096, 128);

    training(16);
    for (size_t B = 1; B <= 8; B += 7) {
        one_token("bf16", LLM_GGUF_BLOCKS_BF16, B);
        one_token("Q8_0", LLM_GGUF_BLOCKS_Q8_0, B);
        one_token("Q4_0", LLM_GGUF_BLOCKS_Q4_0, B);
    }

    cublasHandle_t handle;
    if (cublasCreate(&handle) != CUBLAS_STATUS_SUCCESS) return 1;
    product<float>(handle, "float", CUDA_R_32F, 4096, 4096, 4096);
    product<llm_bf16>(handle, "bf16", CUDA_R_16BF, 4096, 4096, 4096);
    product<llm_bf16>(handle, "bf16", CUDA_R_16BF, 16384, 768, 3072);
    product<llm_bf16>(handle, "bf16", CUDA_R_16BF, 8192, 8192, 8192);
    cublasDestroy(handle);
    return 0;
}
