/* @cuda_select */
#include "../test.h"

#include "../../llm_cuda.cuh"

LLM_KERNEL void round_trip(float *y, bool *rises, const float *x) {
    const unsigned i = threadIdx.x;
    y[i] = llm_select_value(llm_select_pair(x[i], 5));
    rises[i] = i == 0 || llm_select_pair(x[i - 1], i - 1) < llm_select_pair(x[i], i);
}

/* largest (rows): of each row (V), as every warp has it; then rows keep what is at least cut
 * (rows) */
template <int W>
LLM_KERNEL void largest_and_keep(unsigned long long *largest, bool *drawable, float *x, size_t V,
                                 const unsigned long long *cut) {
    const size_t row = blockIdx.x;
    const unsigned long long max = llm_select_max<float, W>(x + row * V, V);
    if (threadIdx.x % 32 == 5) largest[row * 32 + threadIdx.x / 32] = max;
    if (threadIdx.x == 0) drawable[row] = llm_select_drawable(max);
    llm_select_keep<float, W>(x + row * V, V, cut[row]); /* a thread's own entries: no barrier */
}

template <int W> static void check_rows(size_t V, unsigned threads) {
    enum { ROWS = 5 };
    float *x = floats(ROWS * V), *got = floats(ROWS * V);
    unsigned long long cut[ROWS], largest[ROWS * 32];
    bool drawable[ROWS];
    llm_rng rng = llm_rng_seed(V + threads);
    for (size_t i = 0; i < ROWS * V; i++) {
        x[i] = llm_rng_normal(&rng);
        if (i / V == 1) x[i] = (float)llm_rng_below(&rng, 3) - 1.0f; /* ties */
        if (i / V == 2) x[i] = -INFINITY;
    }
    x[3 * V + V / 2] = NAN;
    for (size_t row = 0; row < ROWS; row++) { /* from an entry in the middle of the row on */
        const size_t at = row * V + V / 3;
        cut[row] = (unsigned long long)llm_top_k_key(x[at]) << 32 | (V / 3);
    }
    float *d_x = to_device(x, ROWS * V);
    unsigned long long *d_largest = to_device<unsigned long long>(NULL, ROWS * 32);
    bool *d_drawable = to_device<bool>(NULL, ROWS);
    LLM_LAUNCH(largest_and_keep<W>, ROWS, threads, 0, 0, d_largest, d_drawable, d_x, V,
               to_device(cut, ROWS));
    CHECK_CUDA(cudaGetLastError());
    from_device(got, d_x, ROWS * V);
    from_device(largest, d_largest, ROWS * 32);
    from_device(drawable, d_drawable, ROWS);
    for (size_t row = 0; row < ROWS; row++) {
        const float *z = x + row * V;
        size_t best = 0; /* the last of the largest; NaN is larger than all */
        for (size_t i = 1; i < V; i++)
            if (z[best] == z[best] && !(z[i] < z[best])) best = i;
        for (unsigned warp = 0; warp < threads / 32; warp++) {
            const unsigned long long pair = largest[row * 32 + warp];
            CHECK((size_t)(pair & 0xffffffffu) == best);
            CHECK(pair >> 32 == (row == 3 ? 0xffffffffu : llm_top_k_key(z[best])));
        }
        CHECK(drawable[row] == (row != 2 && row != 3));
        for (size_t i = 0; i < V; i++) {
            const bool nan = z[i] != z[i], more = z[i] > z[V / 3] || nan;
            const bool stays = more || (z[i] == z[V / 3] && i >= V / 3);
            CHECK(stays ? (nan ? isnan(got[row * V + i]) : got[row * V + i] == z[i])
                        : got[row * V + i] == -INFINITY);
        }
    }
}

TEST(cuda_select, "the largest pair is known to every warp; what lies below a cut becomes -inf") {
    check_rows<1>(1, 32);
    check_rows<1>(3, 64);
    check_rows<1>(37, 64);
    check_rows<4>(512, 96);
    check_rows<4>(1200, 256);
    if (!TEST_SLOW) check_rows<1>(1021, 1024);
    check_rows<8>(2048, 64);
}

TEST(cuda_select, "pairs rise with value and index and turn back into floats; NaN is on top") {
    float x[12] = {-INFINITY, -1e30f, -1.0f, -1e-42f, -0.0f,    0.0f,
                   0.0f,      1e-42f, 1.0f,  1e30f,   INFINITY, NAN},
          y[12];
    bool rises[12], *d_rises = to_device<bool>(NULL, 12);
    float *d_y = to_device<float>(NULL, 12);
    LLM_LAUNCH(round_trip, 1, 12, 0, 0, d_y, d_rises, to_device(x, 12));
    CHECK_CUDA(cudaGetLastError());
    from_device(y, d_y, 12);
    from_device(rises, d_rises, 12);
    for (size_t i = 0; i < 12; i++) CHECK(rises[i] && (i == 11 ? isnan(y[i]) : y[i] == x[i]));
}
