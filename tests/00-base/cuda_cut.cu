/* @cuda_cut */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* cut (rows) of rows (rows,V) after those from kept (rows) on; largest (rows): the largest pair. */
template <typename N, int W>
LLM_KERNEL void cut_rows(unsigned long long *cut, unsigned long long *largest, const float *x,
                         size_t V, const unsigned long long *kept, const N *target, bool ties) {
    const size_t row = blockIdx.x;
    const unsigned long long max = llm_select_max<float, W>(x + row * V, V);
    const unsigned long long found = llm_select_cut<N, float, W>(
        x + row * V, V, kept[row], target[row], llm_select_value(max), ties);
    if (threadIdx.x % 32 == 7) cut[row * 32 + threadIdx.x / 32] = found;
    if (threadIdx.x == 0) largest[row] = max;
}

/* order (V) <- the columns, the largest first, of equal ones the last first */
static void falling(size_t *order, const float *x, size_t V) {
    size_t *up = (size_t *)test_memory(V, sizeof(size_t));
    llm_argsort(up, x, V);
    for (size_t i = 0; i < V; i++) order[i] = up[V - 1 - i];
}
static uint64_t pair_of(float x, size_t i) { return (uint64_t)llm_top_k_key(x) << 32 | i; }

template <int W> static void check_counts(size_t V, unsigned threads, unsigned rows) {
    enum { ROWS = 6 };
    float *x = floats(ROWS * V);
    size_t *order = (size_t *)test_memory(V, sizeof(size_t));
    unsigned long long kept[ROWS], cut[ROWS * 32], largest[ROWS];
    unsigned target[ROWS];
    llm_rng rng = llm_rng_seed(V);
    for (size_t i = 0; i < rows * V; i++) {
        x[i] = llm_rng_normal(&rng);
        if (i / V % 2) x[i] = (float)llm_rng_below(&rng, 4) - 1.0f;
        if (i / V == 3) x[i] = -2.0f;
    }
    for (size_t row = 0; row < rows; row++) { /* half of the rows have lost some before */
        falling(order, x + row * V, V);
        const size_t last = row < 3 ? V - 1 : V / 2;
        kept[row] = row < 3 ? 0 : pair_of(x[row * V + order[last]], order[last]);
        target[row] = 1 + (unsigned)llm_rng_below(&rng, row == 5 ? 2 * V : last + 1);
    }
    for (int ties = 0; ties < 2; ties++) {
        unsigned long long *d_cut = to_device<unsigned long long>(NULL, ROWS * 32);
        unsigned long long *d_largest = to_device<unsigned long long>(NULL, ROWS);
        LLM_LAUNCH((cut_rows<unsigned, W>), rows, threads, 0, 0, d_cut, d_largest,
                   to_device(x, rows * V), V, to_device(kept, ROWS), to_device(target, ROWS),
                   ties == 1);
        CHECK_CUDA(cudaGetLastError());
        from_device(cut, d_cut, ROWS * 32);
        from_device(largest, d_largest, ROWS);
        for (size_t row = 0; row < rows; row++) {
            const float *z = x + row * V;
            size_t want = 0, got = 0;
            falling(order, z, V);
            CHECK(largest[row] == pair_of(z[order[0]], order[0]));
            for (size_t i = 0; i < V; i++) { /* the i-th largest stays when i others do not do */
                if (pair_of(z[order[i]], order[i]) < kept[row]) break;
                if (i < target[row] || (ties && z[order[i]] == z[order[target[row] - 1]])) want++;
            }
            for (unsigned warp = 0; warp < threads / 32; warp++)
                CHECK(cut[row * 32 + warp] == cut[row * 32]);
            for (size_t i = 0; i < V; i++) got += pair_of(z[i], i) >= cut[row * 32];
            CHECK(got == want && cut[row * 32] >= kept[row]);
        }
    }
}

TEST(cuda_cut, "counts: the cut keeps exactly as many as asked for, or their ties too") {
    check_counts<1>(1, 32, 6);
    check_counts<1>(2, 32, 6);
    check_counts<1>(37, 64, 6);
    check_counts<4>(512, 96, 6);
    check_counts<1>(1021, 1024, TEST_SLOW ? 2 : 6);
    check_counts<4>(1200, 256, 6);
    if (!TEST_SLOW) check_counts<8>(65800, 64, 2); /* an index of three bytes */
}

TEST(cuda_cut, "masses: one entry less than the cut keeps would not reach the target") {
    enum { ROWS = 8 };
    const size_t V = 700;
    float *x = floats(ROWS * V);
    size_t *order = (size_t *)test_memory(V, sizeof(size_t));
    unsigned long long target[ROWS], kept[ROWS] = {0}, cut[ROWS * 32], largest[ROWS];
    llm_rng rng = llm_rng_seed(3);
    for (size_t i = 0; i < ROWS * V; i++) { /* odd rows have ties */
        x[i] = 50.0f + 3.0f * llm_rng_normal(&rng);
        if (i / V % 2) x[i] = floorf(x[i]);
        if (i / V == 5) x[i] = 7.0f;
    }
    double share[ROWS], total[ROWS];
    for (size_t row = 0; row < ROWS; row++) {
        falling(order, x + row * V, V);
        total[row] = 0.0;
        for (size_t i = 0; i < V; i++)
            total[row] += exp((double)x[row * V + i] - (double)x[row * V + order[0]]);
        share[row] = 0.05 + 0.12 * (double)row;
        target[row] = (unsigned long long)(share[row] * total[row] * 1099511627776.0);
    }
    unsigned long long *d_cut = to_device<unsigned long long>(NULL, ROWS * 32);
    unsigned long long *d_largest = to_device<unsigned long long>(NULL, ROWS);
    LLM_LAUNCH((cut_rows<unsigned long long, 4>), ROWS, 192, 0, 0, d_cut, d_largest,
               to_device(x, ROWS * V), V, to_device(kept, ROWS), to_device(target, ROWS), false);
    CHECK_CUDA(cudaGetLastError());
    from_device(cut, d_cut, ROWS * 32);
    for (size_t row = 0; row < ROWS; row++) {
        const float *z = x + row * V;
        double above = 0.0, least = 0.0;
        falling(order, z, V);
        for (size_t i = 0; i < V && pair_of(z[order[i]], order[i]) >= cut[row * 32]; i++) {
            above += least;
            least = exp((double)z[order[i]] - (double)z[order[0]]);
        }
        const double slack = 1e-6 * total[row], goal = share[row] * total[row];
        CHECK(above < goal + slack && above + least > goal - slack && least > 1e-3 * slack);
    }
    from_device(largest, d_largest, ROWS);
    CHECK((size_t)(largest[5] & 0xffffffffu) == V - 1); /* of equal ones the last */
}
