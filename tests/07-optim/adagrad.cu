/* @adagrad */
#include "../test.h"

#include "../../llm_cuda.cuh"

static void check_sparse(size_t d, bool maximize) {
    enum { rows = 11, m = 5 };
    llm_adagrad_config c = llm_adagrad_defaults();
    c.lr = 0.1f, c.lr_decay = 0.05f, c.maximize = maximize;
    float *w = floats(rows * d), *s = zeros(rows * d), *got = floats(rows * d);
    llm_rng rng = llm_rng_seed(2);
    llm_rng_normal_fill(&rng, w, rows * d);
    float *dw = to_device(w, rows * d), *ds = to_device(s, rows * d);
    for (size_t t = 1; t <= 4; t++) {
        int index[m];
        size_t own[m];
        float *g = floats(m * d);
        llm_rng_normal_fill(&rng, g, m * d);
        g[0] = 0.0f;
        for (size_t k = 0; k < m; k++) own[k] = (3 * k + t) % rows, index[k] = (int)own[k];
        llm_adagrad_sparse(w, s, g, own, m - 1, d, &c, t);
        index[m - 1] = t % 2 ? -1 : rows; /* no such row */
        CHECK_CUDA(llm_cuda_adagrad_sparse(dw, ds, to_device(g, m * d), to_device(index, m),
                                           (size_t)m, (size_t)rows, d, &c, t, 0));
        CHECK_ALL_NEAR(from_device(got, dw, rows * d), w, rows * d, 2e-6f);
        CHECK_ALL_NEAR(from_device(got, ds, rows * d), s, rows * d, 1e-5f);
    }
}

TEST(adagrad, "sparse rows step as llm_adagrad_sparse; names out of range are skipped") {
    const size_t widths[4] = {1, 4, 37, 128};
    for (size_t k = 0; k < 4; k++) check_sparse(widths[k], k % 2 != 0);
    llm_adagrad_config c = llm_adagrad_defaults();
    CHECK_CUDA(llm_cuda_adagrad_sparse(NULL, NULL, NULL, NULL, 0, 3, 4, &c, 1, 0));
    CHECK(llm_cuda_adagrad_sparse(NULL, NULL, NULL, NULL, 0, 3, 4, &c, 0, 0) ==
          cudaErrorInvalidValue);
    c.weight_decay = 0.1f;
    CHECK(llm_cuda_adagrad_sparse(NULL, NULL, NULL, NULL, 0, 3, 4, &c, 1, 0) ==
          cudaErrorInvalidValue);
}

TEST(adagrad, "traffic: 20 bytes an entry of the rows, and the names") {
    enum { rows = 64, d = 128 };
    int index[rows];
    float *x = zeros(rows * d);
    const llm_adagrad_config c = llm_adagrad_defaults();
    for (size_t i = 0; i < rows; i++) index[i] = (int)i;
    float *w = to_device(x, rows * d), *s = to_device(x, rows * d), *g = to_device(x, rows * d);
    const int *at = to_device(index, rows);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(
        llm_cuda_adagrad_sparse(w, s, g, at, (size_t)rows, (size_t)rows, (size_t)d, &c, 1, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read + emulate_counted.written == 20 * rows * d);
#endif
}
