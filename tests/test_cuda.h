/* The part of the harness for kernels: test.h includes this in C++ files. The same test runs on a
 * GPU when nvcc compiles it, and on the emulator when g++ does. Nothing here touches the card
 * before a TEST runs: a process that has done so cannot fork another that does. */
#ifndef TEST_CUDA_H
#define TEST_CUDA_H

#include <stdint.h>

#ifdef __CUDACC__
#include <cuda_runtime.h>
#else
#include "emulate.h"
#endif

#ifdef EMULATE_TSAN
#define TEST_SLOW 1 /* a thousand threads cost ThreadSanitizer seconds: fewer sizes will do */
#else
#define TEST_SLOW 0
#endif

#define CHECK_CUDA(call) test_cuda(__FILE__, __LINE__, #call, call)
TEST_UNUSED static void test_cuda(const char *file, int line, const char *call, cudaError_t error) {
    if (error != cudaSuccess) test_fail(file, line, "%s: %s", call, cudaGetErrorString(error));
}

/* A copy on the device; NaN when x is NULL. Freed with the process. */
template <typename T> static inline T *to_device(const T *x, size_t n) {
    T *d = NULL;
    const size_t bytes = (n ? n : 1) * sizeof(T);
    CHECK_CUDA(cudaMalloc(&d, bytes));
    CHECK_CUDA(cudaMemset(d, 0xff, bytes));
    if (x && n) CHECK_CUDA(cudaMemcpy(d, x, n * sizeof(T), cudaMemcpyHostToDevice));
    return d;
}
/* x (n) <- the device's d, when the work before has run; returns x. */
template <typename T> static inline T *from_device(T *x, const T *d, size_t n) {
    CHECK_CUDA(cudaDeviceSynchronize());
    if (n) CHECK_CUDA(cudaMemcpy(x, d, n * sizeof(T), cudaMemcpyDeviceToHost));
    return x;
}

/* Kernels are templates over the storage T, their tests too: floats on the host, T on the device. T
 * is float, or a struct of 16 `bits` that is bfloat16. The rounding is this file's own. */
TEST_UNUSED static uint16_t test_bf16_bits(float x) {
    if (x != x) return 0x7fff;
    int exponent = 0;
    frexp((double)x, &exponent); /* |x| in [1/2, 1) 2^exponent; the significand has 8 bits */
    const int unit = exponent - 8 < -133 ? -133 : exponent - 8;
    const float y = isinf(x) ? x : (float)ldexp(nearbyint(ldexp((double)x, -unit)), unit);
    uint32_t bits;
    memcpy(&bits, &y, sizeof bits);
    return (uint16_t)(bits >> 16);
}
template <typename T> struct test_storage {
    static void store(T *to, float x) { to->bits = test_bf16_bits(x); }
    static float load(T from) {
        const uint32_t bits = (uint32_t)from.bits << 16;
        float x;
        memcpy(&x, &bits, sizeof x);
        return x;
    }
};
template <> struct test_storage<float> {
    static void store(float *to, float x) { *to = x; }
    static float load(float from) { return from; }
};
/* The unit roundoff of T: what one rounding may change, relative to the value. */
template <typename T> static inline float unit_of(void) {
    return sizeof(T) == 4 ? 1.0f / 16777216.0f : 1.0f / 256.0f;
}
/* Within tol of the value, and one rounding of T beside it. */
#define CHECK_STORED(T, got, want, n, tol)                                                         \
    test_all(__FILE__, __LINE__, #got " as " #T, got, want, n, 1.0, (double)(tol),                 \
             (double)unit_of<T>())
/* x (n) is rounded to what T can hold, so that host and device start from the same numbers. */
template <typename T> static inline T *to_device_as(float *x, size_t n) {
    T *stored = (T *)test_memory(n, sizeof(T));
    for (size_t i = 0; i < n; i++) {
        test_storage<T>::store(&stored[i], x[i]);
        x[i] = test_storage<T>::load(stored[i]);
    }
    return to_device(stored, n);
}
template <typename T> static inline float *from_device_as(float *x, const T *d, size_t n) {
    T *stored = (T *)test_memory(n, sizeof(T));
    from_device(stored, d, n);
    for (size_t i = 0; i < n; i++) x[i] = test_storage<T>::load(stored[i]);
    return x;
}

/* The statement has to end its process with that text in the report, in each of the three
 * schedules. On a GPU it is compiled and not run. */
#ifdef __CUDACC__
#define CHECK_REPORTS(text, statement)                                                             \
    do {                                                                                           \
        if (!(text)) statement;                                                                    \
    } while (0)
#else
#define CHECK_REPORTS(text, statement)                                                             \
    do {                                                                                           \
        for (int order_ = 0; order_ < 3; order_++) {                                               \
            const int report_ = test_report_begin();                                               \
            if (report_ < 0) {                                                                     \
                emulate_order = order_;                                                            \
                statement;                                                                         \
                _exit(0);                                                                          \
            }                                                                                      \
            test_report_end(__FILE__, __LINE__, #statement, order_, report_, text);                \
        }                                                                                          \
    } while (0)

static pid_t test_report_child;

/* In a child whose stderr is read: -1. In the parent: where to read it. */
TEST_UNUSED static int test_report_begin(void) {
    int ends[2];
    fflush(NULL);
    if (pipe(ends) != 0) return 0;
    test_report_child = fork();
    if (test_report_child == 0) {
        dup2(ends[1], 2);
        close(ends[0]), close(ends[1]);
        return -1;
    }
    close(ends[1]);
    return ends[0];
}
TEST_UNUSED static void test_report_end(const char *file, int line, const char *what, int order,
                                        int from, const char *text) {
    static char report[1 << 16];
    size_t size = 0;
    for (ssize_t got; (got = read(from, report + size, sizeof report - 1 - size)) > 0;)
        size += (size_t)got;
    report[size] = 0;
    close(from);
    int status = 0;
    waitpid(test_report_child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        test_fail(file, line, "%s, schedule %d: nothing was reported, want \"%s\"", what, order,
                  text);
    if (!strstr(report, text))
        test_fail(file, line, "%s, schedule %d: want \"%s\", got: %.600s", what, order, text,
                  report);
}
#endif
#endif
