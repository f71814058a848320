/* @block_sparse_attn */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

/* Whether block row i lists column j. */
static bool lists(const llm_block_sparse_attn_pattern *p, size_t i, size_t j) {
    for (size_t n = p->start[i]; n < p->start[i + 1]; n++)
        if (p->column[n] == j) return true;
    return false;
}

TEST(block_sparse_attn, "equals transformers' BigBird with the same random blocks") {
    const size_t shapes[][6] = {{1, 1, 7, 1, 2, 1}, {1, 2, 8, 2, 3, 2}};
    for (size_t s = 0; s < 2; s++) {
        const size_t *z = shapes[s], H = z[1], rows = z[2], T = rows * z[3],
                     n = z[0] * H * T * z[4];
        char name[64];
        snprintf(name, sizeof name, "%zux%zux%zux%zux%zux%zu", z[0], H, rows, z[3], z[4], z[5]);
        llm_block_sparse_attn_pattern p[2];
        size_t *start = as_sizes(golden("%s/start", name), H * (rows + 1)), count = 0;
        float *column = golden_n(&count, "%s/column", name);
        for (size_t h = 0; h < H; h++) {
            p[h].rows = rows;
            p[h].start = start + h * (rows + 1);
            p[h].column = as_sizes(column, count) + (h ? start[rows] : 0);
        }
        llm_block_sparse_attn_config c = llm_block_sparse_attn_defaults(p, z[0], H, T, z[4], z[3]);
        c.patterns = H;
        const float *q = golden("%s/q", name), *k = golden("%s/k", name);
        const float *v = golden("%s/v", name), *dout = golden("%s/dout", name);
        float *out = floats(n), *lse = floats(n / z[4]);
        float *dq = zeros(n), *dk = zeros(n), *dv = zeros(n);
        llm_block_sparse_attn_forward(out, lse, q, k, v, &c);
        CHECK_GOLDEN(out, n, 1e-6f, "%s/out", name);
        llm_block_sparse_attn_backward(dq, dk, dv, dout, out, lse, q, k, v, &c);
        CHECK_GOLDEN(dq, n, 4e-6f, "%s/dq", name);
        CHECK_GOLDEN(dk, n, 4e-6f, "%s/dk", name);
        CHECK_GOLDEN(dv, n, 4e-6f, "%s/dv", name);
    }
}

TEST(block_sparse_attn,
     "equals dense attention under the same mask, ragged, causal, rows of nothing") {
    enum { B = 2, H = 3 };
    const size_t shapes[][3] = {{1, 1, 1}, {13, 5, 3}, {70, 7, 20}, {130, 3, 64}, {65, 2, 64}};
    llm_rng rng = llm_rng_seed(1);
    for (size_t s = 0; s < 10; s++) {
        const size_t T = shapes[s / 2][0], D = shapes[s / 2][1], block = shapes[s / 2][2];
        const size_t rows = (T + block - 1) / block, n = B * H * T * D;
        llm_block_sparse_attn_pattern p[2];
        for (size_t h = 0; h < 2; h++) { /* heads 0 and 2 share one */
            p[h].rows = rows;
            p[h].start = as_sizes(zeros(rows + 1), rows + 1);
            p[h].column = as_sizes(zeros(rows * rows), rows * rows);
            size_t count = 0;
            for (size_t i = 0; i < rows; i++) {
                for (size_t j = 0; j < rows; j++)
                    if (llm_rng_below(&rng, 5) < 3) p[h].column[count++] = j;
                p[h].start[i + 1] = count;
            }
        }
        llm_block_sparse_attn_config c = llm_block_sparse_attn_defaults(p, B, H, T, D, block);
        c.patterns = 2, c.causal = s % 2;
        float *q = floats(n), *k = floats(n), *v = floats(n), *dout = floats(n);
        llm_rng_normal_fill(&rng, q, n);
        llm_rng_normal_fill(&rng, k, n);
        llm_rng_normal_fill(&rng, v, n);
        llm_rng_normal_fill(&rng, dout, n);
        float *out = floats(n), *lse = floats(n / D), *dq = floats(n), *dk = floats(n);
        float *dv = floats(n), *want = zeros(n), *want_lse = floats(n / D);
        float *want_q = zeros(n), *want_k = zeros(n), *want_v = zeros(n);
        double *w = doubles(T);
        for (size_t row = 0; row < B * H * T;
             row++) { /* in doubles, one row of weights at a time */
            const size_t i = row % T, bh = row / T, head = bh * T;
            const llm_block_sparse_attn_pattern *ph = p + bh % H % 2;
            double sum = 0.0, along = 0.0;
            for (size_t j = 0; j < T; j++) {
                const bool seen = lists(ph, i / block, j / block) && (!c.causal || j <= i);
                w[j] = seen ? exp(dot(q + row * D, k + (head + j) * D, D) / sqrt((double)D)) : 0;
                sum += w[j];
            }
            want_lse[row] = (float)log(sum);
            for (size_t j = 0; j < T && sum > 0; j++) {
                w[j] /= sum;
                for (size_t d = 0; d < D; d++)
                    want[row * D + d] += (float)w[j] * v[(head + j) * D + d];
                along += w[j] * dot(dout + row * D, v + (head + j) * D, D);
            }
            for (size_t j = 0; j < T && sum > 0; j++) {
                const double dp = dot(dout + row * D, v + (head + j) * D, D);
                const float ds = (float)(w[j] * (dp - along) / sqrt((double)D));
                for (size_t d = 0; d < D; d++) {
                    want_q[row * D + d] += ds * k[(head + j) * D + d];
                    want_k[(head + j) * D + d] += ds * q[row * D + d];
                    want_v[(head + j) * D + d] += (float)w[j] * dout[row * D + d];
                }
            }
        }
        llm_block_sparse_attn_forward(out, lse, q, k, v, &c);
        CHECK_ALL_NEAR(out, want, n, 3e-6f);
        CHECK_ALL_NEAR(lse, want_lse, n / D, 3e-6f);
        for (size_t i = 0; i < n; i++) dq[i] = dk[i] = dv[i] = 1.0f; /* gradients accumulate */
        for (size_t i = 0; i < n; i++) want_q[i] += 1.0f, want_k[i] += 1.0f, want_v[i] += 1.0f;
        llm_block_sparse_attn_backward(dq, dk, dv, dout, out, lse, q, k, v, &c);
        CHECK_ALL_NEAR(dq, want_q, n, 2e-5f);
        CHECK_ALL_NEAR(dk, want_k, n, 2e-5f);
        CHECK_ALL_NEAR(dv, want_v, n, 2e-5f);
    }
}

TEST(block_sparse_attn, "keys that are not listed are not read; one tile too large is refused") {
    enum { T = 12, D = 2, BLOCK = 4 };
    float q[T * D], k[T * D], v[T * D], out[T * D], lse[T], dx[3][T * D] = {{0}};
    size_t start[4] = {0, 1, 2, 3}, column[3] = {0, 1, 2};
    llm_block_sparse_attn_pattern p = {3, start, column};
    llm_block_sparse_attn_config c = llm_block_sparse_attn_defaults(&p, 1, 1, T, D, BLOCK);
    llm_rng rng = llm_rng_seed(2);
    llm_rng_normal_fill(&rng, q, T * D);
    llm_rng_normal_fill(&rng, k, T * D);
    llm_rng_normal_fill(&rng, v, T * D);
    for (size_t i = 8 * D; i < T * D; i++) k[i] = v[i] = NAN;
    llm_block_sparse_attn_forward(out, lse, q, k, v, &c);
    for (size_t i = 0; i < T * D; i++) CHECK(isnan(out[i]) == (i >= 8 * D));
    for (size_t i = 0; i < T * D; i++) out[i] = i < 8 * D ? out[i] : 0.0f;
    p.rows = 2; /* what is behind the rows is not touched */
    c.T = 8;
    llm_block_sparse_attn_backward(dx[0], dx[1], dx[2], q, out, lse, q, k, v, &c);
    for (size_t i = 0; i < 3 * T * D; i++) CHECK(isfinite(dx[i / T / D][i % (T * D)]));
    c.T = 12; /* three rows of blocks */
    CHECK_ASSERTS(llm_block_sparse_attn_forward(out, lse, q, k, v, &c));
    p.rows = 3, c.block = 0;
    CHECK_ASSERTS(llm_block_sparse_attn_forward(out, lse, q, k, v, &c));
    CHECK_ASSERTS(llm_block_sparse_attn_backward(dx[0], dx[1], dx[2], q, out, lse, q, k, v, &c));
    c.T = 65, c.block = 65, p.rows = 1;
    CHECK_ASSERTS(llm_block_sparse_attn_forward(out, lse, q, k, v, &c));
    CHECK_ASSERTS(llm_block_sparse_attn_backward(dx[0], dx[1], dx[2], q, out, lse, q, k, v, &c));
    c.T = 12, c.block = 4, p.rows = 3, c.patterns = 0;
    CHECK_ASSERTS(llm_block_sparse_attn_forward(out, lse, q, k, v, &c));
    CHECK_ASSERTS(llm_block_sparse_attn_backward(dx[0], dx[1], dx[2], q, out, lse, q, k, v, &c));
}

TEST(block_sparse_attn, "BigBird's pattern: ends, window, random blocks without repetition") {
    llm_rng rng = llm_rng_seed(3);
    for (size_t rows = 1; rows < 14; rows++)
        for (size_t ends = 0; ends < 3; ends++)
            for (size_t side = 0; side < 3; side++)
                for (size_t random = 0; random < 5; random++) {
                    llm_arena arena = test_arena(64);
                    llm_block_sparse_attn_pattern p = {rows, as_sizes(zeros(rows + 1), rows + 1),
                                                       NULL};
                    llm_block_sparse_attn_bigbird(&p, ends, side, random, NULL, &arena);
                    const size_t room = p.start[rows];
                    p.column = as_sizes(zeros(room), room);
                    for (size_t i = 0; i <= rows; i++) p.start[i] = 99;
                    llm_block_sparse_attn_bigbird(&p, ends, side, random, &rng, &arena);
                    CHECK(p.start[0] == 0 && p.start[rows] == room && arena.used == 0);
                    for (size_t i = 0; i < rows; i++) {
                        size_t fixed = 0;
                        for (size_t j = 0; j < rows; j++) {
                            const size_t low = i < j ? i : j, high = i < j ? j : i;
                            if (low >= ends && high + ends < rows && high - low > side) continue;
                            fixed++;
                            CHECK(lists(&p, i, j));
                        }
                        const size_t n = p.start[i + 1] - p.start[i];
                        CHECK(n == (fixed + random < rows ? fixed + random : rows));
                        for (size_t x = p.start[i] + 1; x < p.start[i + 1]; x++)
                            CHECK(p.column[x - 1] < p.column[x] && p.column[x] < rows);
                    }
                }
    size_t start[12], column[99], drawn[11] = {0};
    llm_arena arena = test_arena(64);
    for (size_t trial = 0; trial < 3000; trial++) { /* row 5 of 11: one of 1, 2, 3, 7, 8, 9 */
        llm_block_sparse_attn_pattern p = {11, start, column};
        llm_block_sparse_attn_bigbird(&p, 1, 1, 1, &rng, &arena);
        for (size_t n = start[5]; n < start[6]; n++) drawn[column[n]]++;
    }
    for (size_t j = 1; j < 10; j++) /* 5 standard errors of 500 */
        CHECK_NEAR(drawn[j], j >= 4 && j <= 6 ? 3000 : 500, j >= 4 && j <= 6 ? 0 : 102);
}
