/* @f_divergence */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* In doubles from the logits: the divergence of one row, and dz (V) += its gradient times dd. */
static double row_in_double(double *dz, double dd, const float *x, const float *z, size_t V,
                            int kind, double temp) {
    double most_x = -HUGE_VAL, most_z = -HUGE_VAL, sum_x = 0.0, sum_z = 0.0, d = 0.0;
    for (size_t i = 0; i < V; i++) {
        most_x = fmax(most_x, (double)x[i]), most_z = fmax(most_z, (double)z[i]);
    }
    for (size_t i = 0; i < V; i++) {
        sum_x += exp(((double)x[i] - most_x) / temp), sum_z += exp(((double)z[i] - most_z) / temp);
    }
    double kl_middle = 0.0; /* KL(q || m) */
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < V; i++) {
            const double log_p = ((double)x[i] - most_x) / temp - log(sum_x), p = exp(log_p);
            const double log_q = ((double)z[i] - most_z) / temp - log(sum_z), q = exp(log_q);
            if (pass == 0 && kind == LLM_F_DIVERGENCE_KL && p > 0.0) d += p * (log_p - log_q);
            if (pass == 0 && kind == LLM_F_DIVERGENCE_REVERSE_KL && q > 0.0)
                d += q * (log_q - log_p);
            const double from_p = p > 0.0 ? 0.5 * p * log(2.0 * p / (p + q)) : 0.0;
            const double from_q = q > 0.0 ? 0.5 * q * log(2.0 * q / (p + q)) : 0.0;
            if (pass == 0 && kind == LLM_F_DIVERGENCE_JS)
                d += from_p + from_q, kl_middle += 2.0 * from_q;
            double slope = q - p;
            if (kind == LLM_F_DIVERGENCE_REVERSE_KL)
                slope = q > 0.0 ? q * (log_q - log_p - d) : 0.0;
            if (kind == LLM_F_DIVERGENCE_JS) slope = from_q - 0.5 * q * kl_middle;
            if (pass == 1) dz[i] += dd * slope / temp;
        }
    return d;
}

/* Row 1 is the teacher's own, row 2 nearly, row 3 far from 0, in row 4 one outcome has it all. */
template <typename T>
static void check_rows(size_t N, size_t V, size_t offset, float spread, int kind, float temp) {
    const size_t n = N * V;
    float *x = floats(n + offset), *z = floats(n + offset), *dz = floats(n + offset);
    float *dd = floats(N), *d = floats(N), *got = floats(n);
    double *want = (double *)test_memory(n, sizeof(double));
    llm_rng rng = llm_rng_seed(V + (size_t)kind);
    llm_rng_normal_fill(&rng, dd, N);
    llm_rng_normal_fill(&rng, dz, n + offset);
    for (size_t i = 0; i < n + offset; i++) {
        const size_t row = i < offset ? 0 : (i - offset) / V;
        x[i] = spread * llm_rng_normal(&rng);
        z[i] = spread * llm_rng_normal(&rng);
        if (row == 1) z[i] = x[i];
        if (row == 2) z[i] = x[i] + 1e-3f * z[i];
        if (row == 3) x[i] += 1e3f, z[i] -= 1e3f;
        if (row == 4 && (i - offset) % V == V / 2) x[i] += 50.0f, z[i] += 40.0f;
    }
    const T *d_x = to_device_as<T>(x, n + offset) + offset;
    const T *d_z = to_device_as<T>(z, n + offset) + offset;
    T *d_dz = to_device_as<T>(dz, n + offset) + offset;
    float *d_d = to_device<float>(NULL, N), *d_dd = to_device(dd, N), *wanted = floats(n);
    CHECK_CUDA(llm_cuda_f_divergence_logits(d_d, d_dz, d_dd, d_x, d_z, N, V, kind, temp, 0));
    from_device(d, d_d, N);
    for (size_t i = 0; i < n; i++) want[i] = (double)dz[offset + i];
    for (size_t row = 0; row < N; row++) {
        const size_t at = offset + row * V;
        const double value =
            row_in_double(want + row * V, (double)dd[row], x + at, z + at, V, kind, (double)temp);
        /* log probabilities of size L have errors of L roundings; close rows are as good as their
         * second order */
        CHECK_NEAR(d[row], value, 3e-6 * value + (row == 2 ? 2e-3 * value : 1e-6) + 1e-9);
        CHECK(row != 1 || d[row] == 0.0f);
    }
    for (size_t i = 0; i < n; i++) wanted[i] = (float)want[i];
    CHECK_STORED(T, from_device_as(got, d_dz, n), wanted, n, 5e-6f);
    if (V > 1024) return;
    float *again = floats(N);
    CHECK_CUDA(llm_cuda_f_divergence_logits(d_d, (T *)NULL, d_dd, d_x, d_z, N, V, kind, temp, 0));
    CHECK(memcmp(from_device(again, d_d, N), d, N * sizeof(float)) == 0); /* without gradient */
}

TEST(f_divergence, "KL, reverse KL and Jensen-Shannon of rows of logits, and their gradients") {
    const size_t sizes[7] = {1, 2, 3, 31, 1024, 1025, 4100};
    for (int kind = LLM_F_DIVERGENCE_KL; kind <= LLM_F_DIVERGENCE_JS; kind++)
        for (size_t s = 0; s < (TEST_SLOW ? 6 : 7); s++) {
            check_rows<float>(TEST_SLOW && sizes[s] > 1024 ? 2 : 6, sizes[s], s % 2, 1.0f, kind,
                              1.0f);
            check_rows<llm_bf16>(sizes[s] > 1024 ? 2 : 5, sizes[s], (s + 1) % 2, 4.0f, kind, 2.5f);
        }
}

TEST(f_divergence, "equals llm_f_divergence_logits for p = softmax(x)") {
    const size_t N = 3, V = 77;
    float *x = floats(N * V), *z = floats(N * V), *p = floats(N * V), *q = floats(V);
    float dd[3] = {1.0f, -0.5f, 2.0f}, d[3], want[3];
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, x, N * V);
    llm_rng_normal_fill(&rng, z, N * V);
    llm_softmax_forward(p, x, N, V, 1.0f);
    float *d_d = to_device<float>(NULL, N), *d_dd = to_device(dd, N), *got = floats(N * V);
    const float *d_x = to_device(x, N * V), *d_z = to_device(z, N * V);
    for (int kind = LLM_F_DIVERGENCE_KL; kind <= LLM_F_DIVERGENCE_JS; kind++) {
        float *dz = zeros(N * V), *d_dz = to_device(dz, N * V);
        llm_f_divergence_logits(want, dz, dd, p, z, q, N, V, kind, 0.0);
        CHECK_CUDA(llm_cuda_f_divergence_logits(d_d, d_dz, d_dd, d_x, d_z, N, V, kind, 1.0f, 0));
        CHECK_ALL_NEAR(from_device(d, d_d, N), want, N, 2e-6f);
        CHECK_ALL_NEAR(from_device(got, d_dz, N * V), dz, N * V, 1e-6f);
    }
    CHECK(llm_cuda_f_divergence_logits(d_d, (float *)NULL, d_dd, d_x, d_z, N, V,
                                       LLM_F_DIVERGENCE_TV, 1.0f, 0) == cudaErrorInvalidValue);
    CHECK_CUDA(llm_cuda_f_divergence_logits((float *)NULL, (float *)NULL, (float *)NULL,
                                            (float *)NULL, (float *)NULL, 0, V, 0, 1.0f, 0));
}

TEST(f_divergence, "outcomes that never happen: infinite, priced, or nothing at all; NaN shows") {
    const float inf = INFINITY;
    const float x[12] = {0, 0, -inf, 0, -inf, -inf, 0, -120, -inf, 0, NAN, 0};
    const float z[12] = {0, -inf, 0, 0, 0, -inf, -120, 0, -inf, 0, 0, 0};
    const float *d_x = to_device(x, 12), *d_z = to_device(z, 12), one[4] = {1, 1, 1, 1};
    float *d_d = to_device<float>(NULL, 4), *d_dd = to_device(one, 4), d[4], dz[12];
    for (int kind = LLM_F_DIVERGENCE_KL; kind <= LLM_F_DIVERGENCE_JS; kind++) {
        float *d_dz = to_device(zeros(12), 12);
        CHECK_CUDA(llm_cuda_f_divergence_logits(d_d, d_dz, d_dd, d_x, d_z, 4, 3, kind, 1.0f, 0));
        from_device(d, d_d, 4);
        from_device(dz, d_dz, 12);
        CHECK(isnan(d[3]));
        if (kind == LLM_F_DIVERGENCE_JS) { /* (1/2, 1/2, 0) and (1/2, 0, 1/2); 1 and (1/2, 1/2) */
            CHECK_NEAR(d[0], 0.5 * log(2.0), 1e-6);
            CHECK_NEAR(d[1], 0.5 * log(4.0 / 3.0) + 0.25 * log(4.0 / 3.0), 1e-6);
            CHECK_NEAR(d[2], log(2.0), 1e-6);
        } else { /* what q never does costs KL, what p never does costs reverse KL */
            CHECK(d[0] == inf);
            CHECK(kind == LLM_F_DIVERGENCE_KL ? fabsf(d[1] - logf(2.0f)) < 1e-6f : d[1] == inf);
            CHECK(d[2] == 120.0f); /* e^-120 is 0 in float, its logarithm is not */
        }
        if (kind == LLM_F_DIVERGENCE_KL) {
            const float want[9] = {0, -0.5f, 0.5f, -0.5f, 0.5f, 0, -1, 1, 0}; /* q - p */
            CHECK_ALL_NEAR(dz, want, 9, 1e-7f);
        }
    }
}

TEST(f_divergence, "traffic: a row is read from memory once, the gradient once and written once") {
    enum { N = 3, V = 1024 };
    const float *d_x = to_device(zeros(N * V), N * V), *d_z = to_device(zeros(N * V), N * V);
    float *d_dz = to_device(zeros(N * V), N * V), *d_dd = to_device(zeros(N), N), d[N];
    float *d_d = to_device<float>(NULL, N);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_f_divergence_logits(d_d, d_dz, d_dd, d_x, d_z, N, V, LLM_F_DIVERGENCE_JS,
                                            1.0f, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.distinct_read == 3 * N * V * 4 + 32); /* sectors */
    CHECK(emulate_counted.written == N * V * 4 + N * 4);
#endif
    CHECK(from_device(d, d_d, N)[0] == 0.0f);
}
