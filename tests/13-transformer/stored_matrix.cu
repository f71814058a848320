/* @stored_matrix */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_stored_matrix_cuda.h"

/* Rows of a form with random bits: of blocks the scales are small numbers, everything else is
 * anything. */
static llm_stored_matrix random_matrix(llm_gguf_blocks_type type, size_t rows, size_t C,
                                       uint64_t seed) {
    llm_stored_matrix w = {NULL, type, rows, C};
    const size_t bytes = rows * llm_stored_matrix_stride(&w);
    size_t weights = 1, block = 1;
    llm_gguf_blocks_name(&weights, &block, (uint32_t)type);
    unsigned char *data = (unsigned char *)test_memory(bytes + 1, 1);
    llm_rng rng = llm_rng_seed(seed);
    for (size_t i = 0; i < bytes; i++) data[i] = (unsigned char)llm_rng_below(&rng, 256);
    if (weights > 1) tiny_stored_matrix_scales(data, bytes, block, type);
    w.data = data;
    return w;
}

/* All rows, and chosen ones, some of which do not exist. Bits of floats are random too: among them
 * are infinities, NaN and numbers below the normal ones. */
template <typename T> static void check_rows(llm_gguf_blocks_type type, size_t rows, size_t C) {
    const llm_stored_matrix w = random_matrix(type, rows, C, 1),
                            d = tiny_stored_matrix_on_device(w);
    const size_t N = 5, room = rows > N ? rows : N;
    float *got = floats(room * C), *want = floats(C);
    T *y = to_device<T>(NULL, room * C);
    int ids[15];
    size_t place[5];
    for (size_t i = 0; i < 15; i++)
        ids[i] = i % 4 == 3 ? -1 : i % 4 == 2 ? (int)rows : (int)(i % rows);
    for (size_t n = 0; n < N; n++) place[n] = n % 3;
    for (size_t turn = 0; turn < 3; turn++) {
        const int *d_ids = turn ? to_device(ids, 15) : NULL;
        const size_t *d_place = turn == 2 ? to_device(place, N) : NULL;
        const size_t count = turn ? N : rows;
        CHECK_CUDA(llm_cuda_stored_matrix_rows(y, d, d_ids, 3, d_place, count, 0));
        from_device_as(got, y, count * C);
        for (size_t n = 0; n < count; n++) {
            const int id = turn == 0 ? (int)n : ids[3 * n + (turn == 2 ? place[n] : 0)];
            if (id < 0 || (size_t)id >= rows) {
                for (size_t i = 0; i < C; i++) CHECK(got[n * C + i] != got[n * C + i]);
                continue;
            }
            llm_stored_matrix_row(want, &w, (size_t)id);
            for (size_t i = 0; i < C; i++) {
                const float g = got[n * C + i], x = llm_rounded<T>(want[i]);
                CHECK(g == x || (g != g && x != x) ||
                      fabsf(g - x) <= (sizeof(T) == 4 ? 1e-6f : 1.0f / 128) * fabsf(x) + 2e-6f);
            }
        }
    }
}

TEST(stored_matrix, "rows of every form become the reference's floats, missing ones NaN") {
    check_rows<float>(LLM_GGUF_BLOCKS_F32, 3, 24);
    check_rows<float>(LLM_GGUF_BLOCKS_BF16, 2, 264);
    check_rows<float>(LLM_GGUF_BLOCKS_F16, 40, 256);
    check_rows<float>(LLM_GGUF_BLOCKS_Q8_0, 3, 32);
    check_rows<float>(LLM_GGUF_BLOCKS_Q8_0, 2, 320);
    check_rows<float>(LLM_GGUF_BLOCKS_Q4_0, 5, 288);
    check_rows<float>(LLM_GGUF_BLOCKS_Q4_K, 3, 512);
    check_rows<float>(LLM_GGUF_BLOCKS_Q6_K, 3, 512);
}
TEST(stored_matrix, "a matrix of blocks becomes bfloat16 for the tensor cores") {
    check_rows<llm_bf16>(LLM_GGUF_BLOCKS_Q8_0, 7, 64);
    check_rows<llm_bf16>(LLM_GGUF_BLOCKS_Q6_K, 2, 256);
}

TEST(stored_matrix, "what no kernel reads is refused: forms, part of a block, odd addresses") {
    static unsigned char bytes[64] __attribute__((aligned(16)));
    llm_stored_matrix w = {bytes, LLM_GGUF_BLOCKS_Q8_0, 1, 32};
    float *y = to_device<float>(NULL, 64);
    CHECK(llm_cuda_stored_matrix_fits(w));
    w.data = bytes + 2;
    CHECK(llm_cuda_stored_matrix_fits(w));
    w.data = bytes + 1;
    CHECK(!llm_cuda_stored_matrix_fits(w));
    CHECK(llm_cuda_stored_matrix_rows(y, w, (const int *)NULL, 0, NULL, 1, 0) != cudaSuccess);
    w.data = bytes, w.columns = 40;
    CHECK(!llm_cuda_stored_matrix_fits(w));
    w.type = LLM_GGUF_BLOCKS_BF16;
    CHECK(llm_cuda_stored_matrix_fits(w));
    w.data = bytes + 8;
    CHECK(!llm_cuda_stored_matrix_fits(w));
    w.data = bytes, w.columns = 36;
    CHECK(!llm_cuda_stored_matrix_fits(w));
    w.columns = 32, w.type = LLM_GGUF_BLOCKS_Q5_0;
    CHECK(!llm_cuda_stored_matrix_fits(w));
    w = random_matrix(LLM_GGUF_BLOCKS_F32, 2, 8, 3);
    w = tiny_stored_matrix_on_device(w);
    CHECK(llm_cuda_stored_matrix_rows(y + 1, w, (const int *)NULL, 0, NULL, 2, 0) != cudaSuccess);
    CHECK_CUDA(llm_cuda_stored_matrix_rows(y, w, (const int *)NULL, 0, NULL, 0, 0));
}
