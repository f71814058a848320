/* The speed of the hot sections beside what the machine can do, measured in the same run: fused
 * multiply-adds, reading, copying. OpenBLAS stands beside the products where it is installed.
 * usage: bench [word]: only rows whose name has the word. Each time is the best of several. On a
 * busy machine BENCH_CPU=1 counts the processor's time instead of the clock's, with one thread. */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <time.h>

#include "../../llm.h"

static bool by_processor;
static double seconds_of(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static double now(void) {
    return seconds_of(by_processor ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC);
}

static void use_threads(size_t n) {
#if defined(_OPENMP)
    omp_set_num_threads((int)n);
#endif
    (void)n;
}

/* Runs the statement for about `seconds`, at least three times; best gets its shortest time. */
#define BEST(best, seconds, statement)                                                             \
    do {                                                                                           \
        double start_ = now();                                                                     \
        best = 1e9;                                                                                \
        for (int turn_ = 0; turn_ < 3 || now() - start_ < (seconds); turn_++) {                    \
            const double from_ = now();                                                            \
            statement;                                                                             \
            const double took_ = now() - from_;                                                    \
            best = took_ < best ? took_ : best;                                                    \
        }                                                                                          \
    } while (0)

static volatile float bench_sink;
static const char *bench_word = "";
static bool wanted(const char *name) { return strstr(name, bench_word) != NULL; }

static float *numbers(size_t n) {
    float *x = (float *)malloc((n + 16) * sizeof(float));
    if (!x) exit(2);
    LLM_PARALLEL_FOR /* so that each thread touches its own part first */
        for (size_t i = 0; i < n + 16; i++) x[i] = (float)(i * 2654435761u % 2001) * 1e-3f - 1.0f;
    return x;
}

/* ---- what the machine can do, by number of threads - 1 ---- */

enum { MOST_THREADS = 64, BIG = 1 << 26 }; /* 256 MiB of floats: beyond every cache */
static size_t threads[2], ways;
static double peak_fma[2], peak_read[2], peak_copy[2], peak_scale[2];

static float fma_work(size_t turns) {
    float start[12 * LLM_LANES],
        total = 0.0f; /* all different, or the compiler computes one of them */
    for (size_t i = 0; i < 12 * LLM_LANES; i++) start[i] = 1e-3f * (float)(i + turns % 7);
    llm_lanes low[6], high[6], a = llm_lanes_load(start), b = llm_lanes_load(start + LLM_LANES);
    LLM_LANES_UNROLL
    for (size_t i = 0; i < 6; i++) {
        low[i] = llm_lanes_load(start + i * LLM_LANES);
        high[i] = llm_lanes_load(start + (i + 6) * LLM_LANES);
    }
    for (size_t t = 0; t < turns; t++) {
        LLM_LANES_UNROLL
        for (size_t i = 0; i < 6; i++) {
            low[i] = low[i] * a + b;
            high[i] = high[i] * a + b;
        }
    }
    for (size_t i = 0; i < 6; i++) total += llm_lanes_sum(low[i] + high[i]);
    return total;
}

/* Reads x (n) as one stream of addresses, or as four that lie 32 KiB apart, as rows do. */
static float read_work(const float *x, size_t n, bool four) {
    enum { ROW = 8192 };
    const size_t step = four ? 4 * ROW : 8 * LLM_LANES, apart = four ? ROW : 2 * LLM_LANES;
    const size_t inner = four ? ROW : 2 * LLM_LANES;
    llm_lanes sum[8];
    LLM_LANES_UNROLL
    for (size_t i = 0; i < 8; i++) sum[i] = llm_lanes_load(x);
    for (size_t i = 0; i + step <= n; i += step) {
        for (size_t j = i; j < i + inner; j += 2 * LLM_LANES) {
            LLM_LANES_UNROLL
            for (size_t k = 0; k < 4; k++) {
                sum[2 * k] += llm_lanes_load(x + j + k * apart);
                sum[2 * k + 1] += llm_lanes_load(x + j + k * apart + LLM_LANES);
            }
        }
    }
    float total = 0.0f;
    for (size_t i = 0; i < 8; i++) total += llm_lanes_sum(sum[i]);
    return total;
}

static void measure_machine(float *x, float *y) {
    float part[MOST_THREADS];
    const double clock = seconds_of(CLOCK_MONOTONIC), cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    double share_of_one = 1.0;
    for (size_t w = 0; w < ways; w++) {
        const size_t T = threads[w], turns = 2000000, share = BIG / T;
        double t;
        use_threads(T);
        BEST(t, 0.4, {
            LLM_PARALLEL_FOR
            for (size_t i = 0; i < T; i++) part[i] = fma_work(turns);
            bench_sink = part[0];
        });
        peak_fma[w] = (double)(T * turns) * 24.0 * LLM_LANES / t * 1e-9;
        if (w == 0)
            share_of_one = (seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu) /
                           (seconds_of(CLOCK_MONOTONIC) - clock);
        double streams[2];
        for (int four = 0; four < 2; four++) {
            BEST(t, 0.5, {
                LLM_PARALLEL_FOR
                for (size_t i = 0; i < T; i++) part[i] = read_work(x + i * share, share, four);
                bench_sink = part[0];
            });
            streams[four] = 4.0 * (double)(share * T) / t * 1e-9;
        }
        peak_read[w] = streams[0] > streams[1] ? streams[0] : streams[1];
        BEST(t, 0.5, {
            LLM_PARALLEL_FOR
            for (size_t i = 0; i < T; i++) memcpy(y + i * share, x + i * share, share * sizeof *y);
        });
        peak_copy[w] = 8.0 * (double)(share * T) / t * 1e-9;
        BEST(t, 0.5, {
            LLM_PARALLEL_FOR
            for (size_t i = 0; i < BIG; i++) y[i] *= 0.999f;
        });
        peak_scale[w] = 8.0 * (double)BIG / t * 1e-9;
        printf("%zu thread%s  multiply-add %.1f GFLOP/s   read %.1f (one stream) %.1f (four)   "
               "copy %.1f   "
               "read+write in place %.1f GB/s\n",
               T, T > 1 ? "s:" : ": ", peak_fma[w], streams[0], streams[1], peak_copy[w],
               peak_scale[w]);
    }
    if (share_of_one < 0.9)
        printf("this program got %.0f%% of a processor: others are busy here%s\n",
               100.0 * share_of_one,
               by_processor ? "" : ", and the times below are too long (BENCH_CPU=1 helps)");
}

static void print_row(const char *name, const char *shape, size_t T, double seconds, double rate,
                      const char *unit, double peak) {
    printf("%-22s %-18s %2zu %10.3f ms %8.1f %-8s %4.0f%%", name, shape, T, 1e3 * seconds, rate,
           unit, 100.0 * rate / peak);
}

/* ---- products ---- */

typedef void (*sgemm_function)(int order, int ta, int tb, int M, int N, int K, float alpha,
                               const float *a, int lda, const float *b, int ldb, float beta,
                               float *c, int ldc);
static sgemm_function sgemm;
static void (*sgemm_threads)(int);

static void find_blas(void) {
    void *blas = dlopen("libopenblas.so.0", RTLD_NOW);
    if (!blas) {
        printf("OpenBLAS is not installed: no column for it\n");
        return;
    }
    void *f = dlsym(blas, "cblas_sgemm"), *g = dlsym(blas, "openblas_set_num_threads");
    memcpy(&sgemm, &f, sizeof f); /* ISO C has no cast from void * to a function */
    memcpy(&sgemm_threads, &g, sizeof g);
}

/* c (M,N) += a b as each of forward, dx, dw calls it. */
static void row_gemm(const char *name, size_t M, size_t N, size_t K, bool a_t, bool b_t) {
    if (!wanted(name)) return;
    float *a = numbers(M * K), *b = numbers(K * N), *c = numbers(M * N);
    char shape[64];
    snprintf(shape, sizeof shape, "%zu x %zu x %zu", M, N, K);
    for (size_t w = 0; w < ways; w++) {
        const double work = 2e-9 * (double)M * (double)N * (double)K;
        double t, other;
        use_threads(threads[w]);
        BEST(t, 0.5, llm_gemm(c, a, a_t, b, b_t, M, N, K));
        print_row(name, shape, threads[w], t, work / t, "GFLOP/s", peak_fma[w]);
        if (sgemm) {
            sgemm_threads((int)threads[w]);
            BEST(other, 0.5,
                 sgemm(101, a_t ? 112 : 111, b_t ? 112 : 111, (int)M, (int)N, (int)K, 1.0f, a,
                       (int)(a_t ? M : K), b, (int)(b_t ? K : N), 1.0f, c, (int)N));
            printf("   OpenBLAS %6.1f (x %.2f)", work / other, other / t);
        }
        printf("\n");
    }
    free(a), free(b), free(c);
}

/* y = x w^T with few rows: bound by reading w. */
static void row_few(const char *name, size_t N, size_t C, size_t O) {
    if (!wanted(name)) return;
    float *x = numbers(N * C), *w_ = numbers(O * C), *y = numbers(N * O);
    char shape[64];
    snprintf(shape, sizeof shape, "%zu x %zu x %zu", N, O, C);
    for (size_t w = 0; w < ways; w++) {
        double t;
        use_threads(threads[w]);
        BEST(t, 0.5, llm_matmul_forward(y, x, w_, NULL, N, C, O));
        print_row(name, shape, threads[w], t, 4e-9 * (double)(O * C) / t, "GB/s", peak_read[w]);
        printf("   of reading\n");
    }
    free(x), free(w_), free(y);
}

/* Products with matrices in their file's own numbers: of one token, bound by reading them, exact
 * and with x rounded, and of a prompt, bound by multiply-adds. */
static void rows_stored(void) {
    enum { SIDE = 8192, TOKENS = 128 };
    static const llm_gguf_blocks_type type[5] = {LLM_GGUF_BLOCKS_F32, LLM_GGUF_BLOCKS_F16,
                                                 LLM_GGUF_BLOCKS_BF16, LLM_GGUF_BLOCKS_Q8_0,
                                                 LLM_GGUF_BLOCKS_Q4_0};
    if (!wanted("stored, 1 token") && !wanted("stored, x rounded") && !wanted("stored, 128 tokens"))
        return;
    float *x = numbers(TOKENS * SIDE), *y = numbers(TOKENS * SIDE);
    float *data = numbers((size_t)SIDE * SIDE);
    memset(data, 0x2c, (size_t)SIDE * SIDE * sizeof *data); /* a small number in all of them */
    for (size_t k = 0; k < 5; k++) {
        size_t weights = 1, bytes = 4;
        const char *name = llm_gguf_blocks_name(&weights, &bytes, (uint32_t)type[k]);
        const llm_stored_matrix m = {(const unsigned char *)data, type[k], SIDE, SIDE};
        const double size = 1e-9 * SIDE * (double)llm_stored_matrix_stride(&m);
        for (size_t w = 0; w < ways; w++) {
            double t;
            use_threads(threads[w]);
            if (wanted("stored, 1 token")) {
                BEST(t, 0.5, llm_stored_matrix_forward(y, x, &m, NULL, 1));
                print_row("stored, 1 token", name, threads[w], t, size / t, "GB/s", peak_read[w]);
                printf("   of reading\n");
            }
            if (weights == 32 && wanted("stored, x rounded")) {
                BEST(t, 0.5, llm_stored_rounded_forward(y, x, &m, NULL, 1));
                print_row("stored, x rounded", name, threads[w], t, size / t, "GB/s", peak_read[w]);
                printf("   of reading\n");
            }
            if (wanted("stored, 128 tokens")) {
                BEST(t, 0.3, llm_stored_matrix_forward(y, x, &m, NULL, TOKENS));
                print_row("stored, 128 tokens", name, threads[w], t,
                          2e-9 * TOKENS * (double)SIDE * SIDE / t, "GFLOP/s", peak_fma[w]);
                printf("\n");
            }
        }
    }
    free(x), free(y), free(data);
}

/* ---- whole models with random weights, in the forms of files ---- */

/* n weights: some thousands of random ones, again and again. */
static unsigned char *stored_weights(size_t n, llm_gguf_blocks_type type) {
    enum { SOME = 1 << 16 };
    llm_rng rng = llm_rng_seed(1);
    size_t weights = 1, bytes = 4;
    llm_gguf_blocks_name(&weights, &bytes, (uint32_t)type);
    const size_t part = SOME / weights * bytes, all = n / weights * bytes;
    unsigned char *data = (unsigned char *)malloc(all + part);
    if (!data) exit(2);
    for (size_t i = 0; i < SOME / weights; i++) {
        unsigned char *p = data + i * bytes;
        for (size_t k = 0; k < bytes; k++) p[k] = (unsigned char)llm_rng_below(&rng, 256);
        if (weights > 1) /* scales of 2^-12 and 2^-8 */
            p[0] = 0, p[1] = type == LLM_GGUF_BLOCKS_Q8_0 ? 0x0c : 0x1c;
        else /* between 2^-6 and 2^-5 */
            p[bytes - 1] = (unsigned char)((p[bytes - 1] & 0x80) | 0x3c), p[bytes - 2] |= 0x80;
    }
    for (size_t at = part; at < all; at += part)
        memcpy(data + at, data, all - at < part ? all - at : part);
    return data;
}

/* A token and a prompt, in four forms; settings as in config.json. */
static void rows_model(const char *name, const char *settings, size_t turns) {
    enum { MOST = 512 };
    static const llm_gguf_blocks_type type[4] = {LLM_GGUF_BLOCKS_F32, LLM_GGUF_BLOCKS_BF16,
                                                 LLM_GGUF_BLOCKS_Q8_0, LLM_GGUF_BLOCKS_Q4_0};
    static int ids[MOST];
    if (!wanted(name)) return;
    for (size_t k = 0; k < 4; k++) {
        llm_llama m;
        llm_json json;
        llm_error e;
        memset(&m, 0, sizeof m);
        llm_llama_config *c = &m.file.config;
        if (!llm_json_parse(&json, settings, strlen(settings), &e) ||
            !llm_llama_config_read(c, &json, &e) ||
            !llm_arena_create(&m.file.memory, (size_t)64 << 20)) {
            printf("%s\n", e.message);
            return;
        }
        llm_json_free(&json);
        llm_arena *a = &m.file.memory;
        size_t total = 0, rows = 0, columns = 0, weights = 1, bytes = 4;
        const char *form = llm_gguf_blocks_name(&weights, &bytes, (uint32_t)type[k]);
        for (int p = 0; p < LLM_LLAMA_NAMES_MATRICES; p++) {
            llm_llama_names_shape(&rows, &columns, (llm_llama_names_part)p, c);
            total += c->layers * rows * columns;
        }
        unsigned char *data = stored_weights(total + c->vocab * c->width, type[k]), *next = data;
        m.file.norm = llm_arena_floats(a, c->width);
        for (size_t i = 0; i < c->width; i++) m.file.norm[i] = 1.0f;
        m.file.inv_freq = llm_arena_floats(a, c->head / 2);
        llm_yarn_inv_freq(m.file.inv_freq, &c->rope);
        m.file.layer = (llm_llama_file_layer *)llm_arena_take(a, c->layers, sizeof *m.file.layer);
        for (size_t l = 0; l < c->layers; l++) {
            for (int p = 0; p < LLM_LLAMA_NAMES_PARTS; p++) {
                llm_llama_names_shape(&rows, &columns, (llm_llama_names_part)p, c);
                m.file.layer[l].vector[p] = NULL;
                if (p < LLM_LLAMA_NAMES_MATRICES) {
                    const llm_stored_matrix w = {next, type[k], rows, columns};
                    m.file.layer[l].matrix[p] = w;
                    next += rows * columns / weights * bytes;
                } else if (rows > 0) {
                    m.file.layer[l].vector[p] = llm_arena_floats(a, rows);
                    for (size_t i = 0; i < rows; i++) m.file.layer[l].vector[p][i] = 1.0f;
                }
            }
        }
        const llm_stored_matrix embed = {next, type[k], c->vocab, c->width};
        m.file.embed = m.file.head =
            embed; /* both are read as one: the head of a token, all of it */
        if (!llm_llama_create(&m, 2 * MOST, MOST, &e)) exit(2);
        for (size_t w = 0; w < ways; w++) {
            char shape[64];
            double t, product;
            use_threads(threads[w]);
            for (size_t n = 128; n <= MOST; n *= 4) {
                float *x = numbers(n * c->width), *y = numbers(n * c->hidden);
                float *all = numbers(c->hidden * c->width);
                BEST(product, 0.2, llm_matmul_forward(y, x, all, NULL, n, c->width, c->hidden));
                free(x), free(y), free(all);
                product = 2e-9 * (double)(n * c->width) * (double)c->hidden / product;
                t = 1e9;
                for (size_t turn = 0; turn < turns; turn++) {
                    const double from = now();
                    m.length = 0;
                    llm_llama_forward(&m, ids, n);
                    t = now() - from < t ? now() - from : t;
                }
                snprintf(shape, sizeof shape, "%s, %zu tokens", form, n);
                print_row(name, shape, threads[w], t,
                          2e-9 * ((double)n * (double)total + (double)(c->vocab * c->width)) / t,
                          "GFLOP/s", product);
                printf("   of a product of %zu x %zu x %zu\n", n, c->hidden, c->width);
            }
            BEST(t, 1.0, (m.length = 128, llm_llama_forward(&m, ids, 1)));
            snprintf(shape, sizeof shape, "%s, 1 token", form);
            print_row(name, shape, threads[w], t,
                      1e-9 *
                          (double)(next - data +
                                   (ptrdiff_t)(embed.rows * llm_stored_matrix_stride(&embed))) /
                          t,
                      "GB/s", peak_read[w]);
            printf("   of reading, %.1f tokens/s\n", 1.0 / t);
        }
        llm_arena_destroy(&m.memory);
        llm_arena_destroy(a);
        free(data);
    }
}

/* ---- what moves memory ---- */

#define ROW_MEMORY(name, shape, bytes, statement)                                                  \
    do {                                                                                           \
        for (size_t w_ = 0; w_ < ways && wanted(name); w_++) {                                     \
            double t_;                                                                             \
            use_threads(threads[w_]);                                                              \
            BEST(t_, 0.5, statement);                                                              \
            print_row(name, shape, threads[w_], t_, 1e-9 * (double)(bytes) / t_, "GB/s",           \
                      peak_scale[w_]);                                                             \
            printf("   of read+write\n");                                                          \
        }                                                                                          \
    } while (0)

/* A function of its own, which knows nothing about the arrays but what a user's loop knows. */
static __attribute__((noinline)) void elementwise(float *y, const float *x, size_t n, int kind) {
    if (kind == 0)
        for (size_t i = 0; i < n; i++) y[i] = llm_expf(x[i]);
    if (kind == 1)
        for (size_t i = 0; i < n; i++) y[i] = llm_tanhf(x[i]);
    if (kind == 2)
        for (size_t i = 0; i < n; i++) y[i] = expf(x[i]);
    if (kind == 3)
        for (size_t i = 0; i < n; i++) y[i] = tanhf(x[i]);
}

static void rows_memory(void) {
    enum { N = 8192, C = 768, V = 4096, P = 1 << 24 };
    float *x = numbers(P), *y = numbers(P), *m = numbers(P), *g = numbers(P);
    const size_t n = (size_t)N * C;
    ROW_MEMORY("layernorm forward", "8192 x 768", 8 * n,
               llm_layernorm_forward(y, m, m + N, x, g, g + C, N, C, 1e-5f));
    ROW_MEMORY("layernorm in place", "8192 x 768", 8 * n,
               llm_layernorm_forward(x, m, m + N, x, g, g + C, N, C, 1e-5f));
    ROW_MEMORY("layernorm backward", "8192 x 768", 16 * n,
               llm_layernorm_backward(y, m, m + C, x, g, m + 2 * C, m + N, m + 2 * N, N, C));
    ROW_MEMORY("rmsnorm in place", "8192 x 768", 8 * n,
               llm_rmsnorm_forward(x, m, x, g, N, C, 1e-5f));
    ROW_MEMORY("rmsnorm backward", "8192 x 768", 16 * n,
               llm_rmsnorm_backward(y, m, x, m + P / 2, g, m + P - N, N, C));
    enum { PIXELS = 1024, IMAGES = P / PIXELS / 64 };
    const llm_batchnorm layer = {g, g + 64, g + 128, g + 192, 64, 0.1f, 1e-5f};
    llm_arena arena;
    if (!llm_arena_create(&arena, 4096)) exit(2);
    ROW_MEMORY("batchnorm forward", "256 x 64 x 32 x 32", 8 * (size_t)P,
               llm_batchnorm_forward_train(y, m, m + 64, x, &layer, IMAGES, PIXELS));
    ROW_MEMORY("batchnorm backward", "256 x 64 x 32 x 32", 16 * (size_t)P,
               llm_batchnorm_backward(y, NULL, NULL, x, g, m, m + 64, &layer, IMAGES, PIXELS, true,
                                      &arena));
    llm_arena_destroy(&arena);
    ROW_MEMORY("softmax forward", "4096 x 4096", 8 * (size_t)P,
               llm_softmax_forward(y, x, P / V, V, 1.0f));
    ROW_MEMORY("gelu forward", "16M", 8 * (size_t)P,
               llm_activation_forward(y, x, P, LLM_ACTIVATION_GELU_TANH));
    ROW_MEMORY("swiglu forward", "8M", 12 * (size_t)P / 2,
               llm_swiglu_forward(y, x, x + P / 2, P / 2));
    ROW_MEMORY("relu in place", "16M", 8 * (size_t)P,
               llm_relu_forward(x, (uint32_t *)(void *)m, x, P, INFINITY));
    ROW_MEMORY("dropout forward", "16M", 8 * (size_t)P, llm_dropout_forward(x, x, P, 0.1f, 1, 0));
    enum { A = 1 << 12 }; /* in the first cache: the speed of computing */
    double seconds;
    use_threads(1);
    for (int k = 0; k < 4; k++) {
        const char *const names[4] = {"llm_expf", "llm_tanhf", "libm expf", "libm tanhf"};
        if (!wanted(names[k])) continue;
        BEST(seconds, 0.1, elementwise(y, x, A, k));
        bench_sink = y[7];
        printf("%-22s %-18s  1 %10.3f ns an element\n", names[k], "4096", 1e9 * seconds / A);
    }
    free(x), free(y), free(m), free(g);
}

/* The 3 x 3 layer of a ResNet's first stage, and the product with the same numbers on its sides. */
static void rows_conv2d(void) {
    enum { B = 8, C = 64, SIDE = 56 };
    if (!wanted("conv2d forward") && !wanted("conv2d backward")) return;
    const llm_conv2d c = llm_conv2d_make(C, SIDE, SIDE, C, 3, 1, 1);
    const size_t n = (size_t)B * C * SIDE * SIDE, K = llm_conv2d_sum(&c);
    const double work = 2e-9 * (double)n * (double)K;
    float *x = numbers(n), *y = numbers(n), *w_ = numbers(C * K), *dw = numbers(C * K);
    float *col = numbers(K * SIDE * SIDE);
    for (size_t w = 0; w < ways; w++) {
        double t, product;
        use_threads(threads[w]);
        llm_arena arena;
        if (!llm_arena_create(&arena, llm_conv2d_workspace(&c))) exit(2);
        BEST(product, 0.5, llm_gemm(y, w_, false, col, false, C, SIDE * SIDE, K));
        BEST(t, 0.5, llm_conv2d_forward(y, x, w_, NULL, B, &c, &arena));
        print_row("conv2d forward", "8 x 64 x 56 x 56", threads[w], t, work / t, "GFLOP/s",
                  peak_fma[w]);
        printf("   x %.2f of the product alone\n", B * product / t);
        BEST(t, 0.5, llm_conv2d_backward(x, dw, NULL, y, x, w_, B, &c, &arena));
        print_row("conv2d backward", "8 x 64 x 56 x 56", threads[w], t, 2 * work / t, "GFLOP/s",
                  peak_fma[w]);
        printf("   x %.2f of two products\n", 2 * B * product / t);
        llm_arena_destroy(&arena);
    }
    free(x), free(y), free(w_), free(dw), free(col);
}

/* One step of each optimizer; bytes: every array read, and read and written where it changes. */
static void rows_optimizers(void) {
    enum { P = 1 << 24 };
    float *x = numbers(P), *y = numbers(P), *m = numbers(P), *g = numbers(P);
    llm_adamw_config adamw = llm_adamw_defaults();
    llm_adam_config adam = llm_adam_defaults();
    llm_momentum_config momentum = llm_momentum_defaults();
    llm_rmsprop_config rmsprop = llm_rmsprop_defaults();
    llm_adagrad_config adagrad = llm_adagrad_defaults();
    llm_lion_config lion = llm_lion_defaults();
    llm_adafactor_config adafactor = llm_adafactor_defaults();
    const llm_muon_config muon = llm_muon_defaults();
    size_t t = 0;
    adamw.lr = adam.lr = momentum.lr = rmsprop.lr = adagrad.lr = lion.lr = 1e-6f;
    memset(m, 0, P * sizeof *m);
    memset(y, 0, P * sizeof *y);
    ROW_MEMORY("sgd step", "16M", 12 * (size_t)P, llm_sgd_step(x, g, P, 1e-6f, 0.0f, false));
    ROW_MEMORY("momentum step", "16M", 20 * (size_t)P,
               llm_momentum_step(x, m, g, P, &momentum, ++t));
    ROW_MEMORY("adagrad step", "16M", 20 * (size_t)P, llm_adagrad_step(x, y, g, P, &adagrad, ++t));
    ROW_MEMORY("rmsprop step", "16M", 20 * (size_t)P,
               llm_rmsprop_step(x, y, NULL, NULL, g, P, &rmsprop));
    ROW_MEMORY("adam step", "16M", 28 * (size_t)P, llm_adam_step(x, m, y, NULL, g, P, &adam, ++t));
    ROW_MEMORY("adamw step", "16M", 28 * (size_t)P, llm_adamw_step(x, m, y, g, P, &adamw, ++t));
    ROW_MEMORY("lion step", "16M", 20 * (size_t)P, llm_lion_step(x, m, g, P, &lion));
    memset(y, 0, P * sizeof *y);
    ROW_MEMORY("adafactor step", "4096 x 4096", 12 * (size_t)P,
               llm_adafactor_step(x, y, g, 4096, 4096, &adafactor, ++t));
    ROW_MEMORY("gradient norm", "16M", 4 * (size_t)P,
               bench_sink = (float)llm_grad_clip_power(g, P, 2.0f));

    enum { ROWS = 768, COLS = 3072 };
    const double work = 1e-9 * (double)muon.rounds * 2.0 * ROWS * ROWS * (2.0 * COLS + ROWS);
    llm_arena arena;
    if (!llm_arena_create(&arena, (size_t)64 << 20)) exit(2);
    for (size_t w = 0; w < ways && wanted("muon step"); w++) {
        double seconds;
        use_threads(threads[w]);
        BEST(seconds, 0.5, llm_muon_step(x, m, g, ROWS, COLS, &muon, &arena));
        print_row("muon step", "768 x 3072", threads[w], seconds, work / seconds, "GFLOP/s",
                  peak_fma[w]);
        printf("\n");
    }
    llm_arena_destroy(&arena);
    free(x), free(y), free(m), free(g);
}

static void rows_attention(void) {
    enum { C = 768, H = 12, MOST = 1024 };
    const size_t shape[2][2] = {{4, 256}, {1, MOST}};
    const char *name[2] = {"4 x 256 x 768", "1 x 1024 x 768"};
    float *qkv = numbers(3 * MOST * C), *dqkv = numbers(3 * MOST * C), *out = numbers(MOST * C);
    float *att = numbers((size_t)H * MOST * MOST);
    llm_arena arena;
    if (!llm_arena_create(&arena, (size_t)1 << 26)) exit(2);
    for (size_t i = 0; i < 2 * ways && wanted("causal_attn"); i++) {
        const size_t w = i / 2, B = shape[i % 2][0], T = shape[i % 2][1];
        /* two products, half of each */
        const double work = 2e-9 * (double)(B * H * T * (T + 1)) * (C / H);
        double t;
        use_threads(threads[w]);
        BEST(t, 0.5, llm_causal_attn_forward(out, att, qkv, B, T, C, H));
        print_row("causal_attn forward", name[i % 2], threads[w], t, work / t, "GFLOP/s",
                  peak_fma[w]);
        printf("\n");
        BEST(t, 0.5, llm_causal_attn_backward(dqkv, out, att, qkv, B, T, C, H, &arena));
        print_row("causal_attn backward", name[i % 2], threads[w], t, 2 * work / t, "GFLOP/s",
                  peak_fma[w]);
        printf("\n");
    }
    free(qkv), free(dqkv), free(out), free(att);

    /* a long text: two heads, whose T x T weights @flash does without */
    enum { T = 4096, D = 64 };
    const llm_flash_config flash = llm_flash_defaults(1, 2, 2, T, D);
    float *q = numbers(3 * 2 * T * D), *k = q + 2 * T * D, *v = k + 2 * T * D,
          *lse = numbers(2 * T);
    att = numbers((size_t)2 * T * T), out = numbers(2 * T * D);
    for (size_t w = 0; w < ways && wanted("flash"); w++) {
        const double work = 2e-9 * (double)(2 * (size_t)T * (T + 1)) * D;
        double t;
        use_threads(threads[w]);
        BEST(t, 1.0, llm_causal_attn_forward(out, att, q, 1, T, 2 * D, 2));
        print_row("causal_attn forward", "1 x 4096 x 128", threads[w], t, work / t, "GFLOP/s",
                  peak_fma[w]);
        printf("\n");
        BEST(t, 1.0, llm_flash_forward(out, lse, q, k, v, &flash, &arena));
        print_row("flash forward", "1 x 4096 x 128", threads[w], t, work / t, "GFLOP/s",
                  peak_fma[w]);
        printf("\n");
    }
    llm_arena_destroy(&arena);
    free(q), free(lse), free(att), free(out);
}

/* ---- GPT-2 124M with random weights ---- */

/* Seconds of all products of one training step, forward and backward, on matrices of their
 * sizes. */
static double gpt2_products(const llm_gpt2 *g, size_t N) {
    const llm_gpt2_config *c = &g->config;
    const size_t C = c->width, F = c->hidden, V = c->vocab;
    const size_t in[5] = {C, C, C, F, C}, out[5] = {3 * C, C, F, C, V};
    double sum = 0.0;
    for (size_t k = 0; k < 5; k++) {
        const size_t I = in[k], O = out[k], repeat = k < 4 ? c->layers : 1;
        float *x = numbers(N * I), *y = numbers(N * O), *w = numbers(O * I), *dw = numbers(O * I);
        double t;
        BEST(t, 0.3, {
            llm_matmul_forward(y, x, w, NULL, N, I, O);
            llm_matmul_backward(x, dw, NULL, y, x, w, N, I, O);
        });
        sum += t * (double)repeat;
        free(x), free(y), free(w), free(dw);
    }
    return sum;
}

/* Where a training step's time goes: each part alone, as often as the step runs it. */
static void gpt2_parts(const llm_gpt2 *g, size_t B, size_t T, double products, double step,
                       double all) {
    const llm_gpt2_config *c = &g->config;
    const size_t C = c->width, F = c->hidden, V = c->vocab, N = B * T, L = c->layers;
    float *x = numbers(N * F), *y = numbers(N * F), *d = numbers(N * F), *qkv = numbers(3 * N * C);
    float *dqkv = numbers(3 * N * C), *att = numbers(B * c->heads * T * T), *w_ = numbers(4 * C);
    float *logits = numbers(N * V), *m = numbers(2 * N), *lse = numbers(N), *loss = numbers(N);
    int *target = (int *)calloc(N, sizeof *target);
    llm_arena arena;
    double attention, norm, gelu, head;
    if (!target || !llm_arena_create(&arena, (size_t)1 << 26)) exit(2);
    BEST(attention, 0.3, {
        llm_causal_attn_forward(x, att, qkv, B, T, C, c->heads);
        llm_causal_attn_backward(dqkv, x, att, qkv, B, T, C, c->heads, &arena);
    });
    BEST(norm, 0.3, {
        llm_layernorm_forward(y, m, m + N, x, w_, w_ + C, N, C, 1e-5f);
        llm_layernorm_backward(d, w_ + 2 * C, w_ + 3 * C, y, x, w_, m, m + N, N, C);
    });
    BEST(gelu, 0.3, {
        llm_activation_forward(y, x, N * F, LLM_ACTIVATION_GELU_TANH);
        llm_activation_backward(d, y, x, N * F, LLM_ACTIVATION_GELU_TANH);
    });
    BEST(head, 0.3, {
        llm_cross_entropy_forward(loss, lse, logits, target, N, V);
        llm_cross_entropy_backward(logits, logits, lse, target, N, V, 1.0f);
    });
    const double part[7] = {
        products, attention * (double)L, norm * (double)(2 * L + 1), gelu * (double)L, head, step,
        0.0};
    const char *const called[7] = {"products",      "attention", "layernorm", "gelu",
                                   "cross-entropy", "AdamW",     "the rest"};
    double sum = 0.0;
    for (size_t i = 0; i < 7; i++) {
        const double t = i < 6 ? part[i] : all - sum;
        printf("    %-14s %7.1f ms %4.0f%%\n", called[i], 1e3 * t, 100.0 * t / all);
        sum += t;
    }
    llm_arena_destroy(&arena);
    free(x), free(y), free(d), free(qkv), free(dqkv), free(att), free(w_), free(logits), free(m);
    free(lse), free(loss), free(target);
}

static void rows_gpt2(void) {
    enum { B = 4, T = 64, TOKENS = 32 };
    if (!wanted("gpt2 training") && !wanted("gpt2 decoding")) return;
    llm_gpt2 g;
    llm_gpt2_config c = llm_gpt2_defaults();
    llm_error error;
    if (!llm_gpt2_create(&g, &c, B, T, &error)) {
        printf("%s\n", error.message);
        return;
    }
    llm_rng rng = llm_rng_seed(1);
    llm_gpt2_init(&g, &rng);
    int ids[B * T], targets[B * T];
    for (size_t i = 0; i < B * T; i++) {
        ids[i] = (int)llm_rng_below(&rng, c.vocab);
        targets[i] = (int)llm_rng_below(&rng, c.vocab);
    }
    llm_adamw_config adamw = llm_adamw_defaults();
    for (size_t w = 0; w < ways && wanted("gpt2 training"); w++) {
        double forward = 1e9, backward = 1e9, step = 1e9;
        use_threads(threads[w]);
        for (size_t turn = 1; turn <= 4; turn++) {
            const double t0 = now();
            bench_sink = llm_gpt2_forward(&g, ids, targets, B, T);
            const double t1 = now();
            llm_gpt2_backward(&g);
            const double t2 = now();
            llm_gpt2_step(&g, &adamw, turn);
            const double t3 = now();
            forward = t1 - t0 < forward ? t1 - t0 : forward;
            backward = t2 - t1 < backward ? t2 - t1 : backward;
            step = t3 - t2 < step ? t3 - t2 : step;
        }
        const double all = forward + backward + step, products = gpt2_products(&g, B * T);
        const double work = 6e-9 * (double)(B * T) * (double)(g.matrices - c.context * c.width);
        print_row("gpt2 training step", "124M, 4 x 64", threads[w], all, work / all, "GFLOP/s",
                  peak_fma[w]);
        printf("\n    forward %.0f ms, backward %.0f, AdamW %.0f; all products alone %.0f ms "
               "(%.0f%%)\n",
               1e3 * forward, 1e3 * backward, 1e3 * step, 1e3 * products, 100 * products / all);
        gpt2_parts(&g, B, T, products, step, all);
    }

    llm_gpt2_decode_state d;
    if (wanted("gpt2 decoding") && llm_gpt2_decode_create(&d, &g, T, &error)) {
        const double bytes =
            4.0 * (double)(g.count - c.context * c.width); /* one row of wpe is read */
        for (size_t w = 0; w < ways; w++) {
            double best = 1e9;
            use_threads(threads[w]);
            d.cache.length[0] = 0;
            llm_gpt2_decode(&d, ids, T);
            for (size_t i = 0; i < TOKENS; i++) {
                const double from = now();
                llm_gpt2_decode(&d, ids + i, 1);
                best = now() - from < best ? now() - from : best;
            }
            print_row("gpt2 decoding", "124M, 1 token", threads[w], best, 1e-9 * bytes / best,
                      "GB/s", peak_read[w]);
            printf("   of reading, %.1f tokens/s\n", 1.0 / best);
        }
        llm_gpt2_decode_destroy(&d);
    }
    llm_gpt2_destroy(&g);
}

/* ---- tokens: this header as text ---- */

static void rows_token(void) {
    llm_error error;
    llm_file file;
    llm_tokenizer t;
    double best;
    enum { LETTERS = 1000000 };
    memset(&t, 0, sizeof t);
    if (!wanted("bpe")) return;
    if (!llm_file_read(&file, "llm.h", &error)) {
        printf("%s\n", error.message);
        return;
    }
    const char *text = (const char *)file.data;
    BEST(best, 0.5, {
        llm_bpe_free(&t.bpe);
        if (!llm_bpe_train(&t.bpe, text, file.size, LLM_PRE_TOKENIZE_GPT2, 4256, &error)) exit(2);
    });
    printf("%-22s %-18s  1 %10.3f ms %8.1f MB/s\n", "bpe training", "4,000 merges", 1e3 * best,
           1e-6 * (double)file.size / best);
    BEST(best, 0.5, {
        int *ids;
        size_t count;
        if (!llm_tokenizer_text_encode(&t, &ids, &count, text, file.size, false, &error)) exit(2);
        free(ids);
    });
    printf("%-22s %-18s  1 %10.3f ms %8.1f MB/s\n", "bpe encoding", "GPT-2's rules", 1e3 * best,
           1e-6 * (double)file.size / best);
    llm_arena arena;
    char *line = (char *)malloc(LETTERS);
    int *ids = (int *)malloc(LETTERS * sizeof *ids);
    if (!line || !ids || !llm_arena_create(&arena, llm_bpe_scratch(LETTERS))) exit(2);
    memset(line, '-', LETTERS); /* rules of dashes are merged again and again */
    BEST(best, 0.5, llm_bpe_encode(ids, &t.bpe, line, LETTERS, 0.0f, NULL, &arena));
    printf("%-22s %-18s  1 %10.3f ms %8.1f MB/s\n", "bpe, one pre-token", "1 MB of dashes",
           1e3 * best, 1e-6 * LETTERS / best);
    llm_arena_destroy(&arena);
    free(line);
    free(ids);
    llm_bpe_free(&t.bpe);
    llm_file_free(&file);
}

/* ---- the price of including the header ---- */

static void row_include(void) {
    const char *const cc = getenv("CC") ? getenv("CC") : "cc";
    const char *const flag[3] = {"-O0", "-O2 -Wall -Wextra -Wno-misleading-indentation",
                                 "-O3 -march=native"};
    if (!wanted("include")) return;
    for (size_t f = 0; f < 3; f++) {
        double t[2];
        for (size_t with = 0; with < 2; with++) {
            char command[512];
            snprintf(command, sizeof command,
                     "echo 'int main(void) { return 0; }' | %s %s %s -x c -c - -o /dev/null", cc,
                     flag[f], with ? "-include ./llm.h" : "-include stdio.h");
            BEST(t[with], 1.0, if (system(command) != 0) return );
        }
        printf("include llm.h          %-50s %.2f s (%.2f with stdio.h alone)\n", flag[f], t[1],
               t[0]);
    }
}

int main(int argc, char **argv) {
    if (argc > 1) bench_word = argv[1];
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    threads[0] = 1, ways = 1;
    const size_t most = LLM_GEMM_THREADS < MOST_THREADS ? LLM_GEMM_THREADS : MOST_THREADS;
    by_processor = getenv("BENCH_CPU") != NULL;
    if (most > 1 && !by_processor) threads[1] = most, ways = 2;
    find_blas();
    float *x = numbers(BIG), *y = numbers(BIG);
    measure_machine(x, y);
    free(x), free(y);

    printf("\n%-22s %-18s threads     time     rate          of peak\n", "row", "shape");
    row_gemm("matmul forward", 256, 3072, 768, false, true);
    row_gemm("matmul dx", 256, 768, 3072, false, false);
    row_gemm("matmul dw", 3072, 768, 256, true, false);
    row_gemm("matmul forward", 1024, 1024, 1024, false, true);
    row_gemm("matmul dx", 1024, 1024, 1024, false, false);
    row_gemm("matmul dw", 1024, 1024, 1024, true, false);
    row_gemm("matmul forward", 64, 3072, 768, false, true);
    row_gemm("matmul forward", 256, 50257, 768, false, true);
    row_few("matmul, 1 row", 1, 768, 50257);
    row_few("matmul, 4 rows", 4, 768, 50257);
    row_few("matmul, 16 rows", 16, 768, 50257);
    rows_stored();
    rows_model("model 110M",
               "{\"model_type\": \"llama\", \"vocab_size\": 32000, \"hidden_size\": 768,"
               "\"intermediate_size\": 2048, \"num_hidden_layers\": 12,"
               "\"num_attention_heads\": 12, \"max_position_embeddings\": 1024}",
               3);
    rows_model("model 1B",
               "{\"model_type\": \"llama\", \"vocab_size\": 128256, \"hidden_size\": 2048,"
               "\"intermediate_size\": 8192, \"num_hidden_layers\": 16,"
               "\"num_attention_heads\": 32, \"num_key_value_heads\": 8,"
               "\"max_position_embeddings\": 8192}",
               1);
    rows_conv2d();
    rows_memory();
    rows_optimizers();
    rows_attention();
    rows_gpt2();
    rows_token();
    row_include();
    return 0;
}
