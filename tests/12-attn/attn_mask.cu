/* @attn_mask */
#include "../test.h"

#include "../../llm_cuda.cuh"
#include "../tiny_mask.h"

/* The lists of m, or of m turned, on the host: by llm_attn_mask_allowed, pair by pair. */
static size_t mask_lists(size_t *first, size_t *column, bool *full, const llm_attn_mask *m,
                         size_t Tq, size_t Tk, bool turned) {
    size_t count = 0, line = 0;
    const size_t lines = turned ? Tk : Tq, length = turned ? Tq : Tk;
    for (size_t a = 0; a < lines; a += 64) {
        first[line++] = count;
        for (size_t b = 0; b < length; b += 64) {
            size_t yes = 0, all = 0;
            for (size_t x = a; x < a + 64 && x < lines; x++)
                for (size_t y = b; y < b + 64 && y < length; y++) {
                    all++;
                    yes += llm_attn_mask_allowed(m, turned ? y : x, turned ? x : y);
                }
            if (yes == 0) continue;
            column[count] = b / 64, full[count++] = yes == all;
        }
    }
    first[line] = count;
    return count;
}

static void check_mask(size_t which, size_t Tq, size_t Tk, size_t first) {
    const size_t n = Tk + Tq + first, rows = (Tq + 63) / 64, columns = (Tk + 63) / 64;
    const size_t lines = rows > columns ? rows : columns, tiles = rows * columns;
    size_t *document = (size_t *)test_memory(n, sizeof(size_t));
    bool *present = bools(n);
    tiny_mask_arrays(document, present, n);
    llm_attn_mask host_part[TINY_MASK_PARTS], device_part[TINY_MASK_PARTS];
    const llm_attn_mask host = tiny_mask(host_part, which, first, document, present);
    const llm_attn_mask device =
        tiny_mask(device_part, which, first, to_device(document, n), to_device(present, n));
    llm_cuda_attn_mask_list list[2];
    for (int turned = 0; turned < 2; turned++) {
        list[turned].first = to_device<size_t>(NULL, (turned ? columns : rows) + 1);
        list[turned].column = to_device<size_t>(NULL, tiles);
        list[turned].full = to_device<bool>(NULL, tiles);
    }
    CHECK_CUDA(llm_cuda_attn_mask_blocks(&list[0], &list[1], &device, Tq, Tk,
                                         to_device<uint8_t>(NULL, tiles),
                                         to_device<size_t>(NULL, lines), 0));
    size_t *want = (size_t *)test_memory(lines + 1, sizeof(size_t));
    size_t *got = (size_t *)test_memory(lines + 1 + tiles, sizeof(size_t));
    size_t *column = (size_t *)test_memory(tiles, sizeof(size_t));
    bool *full = bools(tiles), *got_full = bools(tiles);
    for (int turned = 0; turned < 2; turned++) {
        const size_t count = mask_lists(want, column, full, &host, Tq, Tk, turned != 0);
        const size_t ends = (turned ? columns : rows) + 1;
        from_device(got, list[turned].first, ends);
        CHECK(memcmp(got, want, ends * sizeof(size_t)) == 0);
        from_device(got, list[turned].column, count);
        CHECK(memcmp(got, column, count * sizeof(size_t)) == 0);
        from_device(got_full, list[turned].full, count);
        for (size_t t = 0; t < count; t++) CHECK(got_full[t] == full[t]);
    }
}

TEST(attn_mask,
     "the lists of tiles, by rows and by columns, for every kind of rule and joined ones") {
    for (size_t which = 0; which < TINY_MASKS; which++) {
        check_mask(which, 150, 150, 0);
        if (TEST_SLOW) continue;
        check_mask(which, 65, 200, 135);
        check_mask(which, 1, 1, 0);
    }
    if (TEST_SLOW) return;
    check_mask(1, 3000, 64, 0); /* lists longer than a warp */
    check_mask(6, 64, 2200, 2136);
}

TEST(attn_mask, "at most 16 parts; nothing to do") {
    llm_attn_mask part[20];
    part[0] = llm_attn_mask_make(LLM_ATTN_MASK_CAUSAL, 0, 0);
    llm_cuda_attn_mask flat;
    for (size_t n = 1; n < 10; n++) {
        flat.count = 0;
        part[2 * n - 1] = llm_attn_mask_make(LLM_ATTN_MASK_PREFIX, 0, n);
        part[2 * n] = llm_attn_mask_join(LLM_ATTN_MASK_OR, n == 1 ? &part[0] : &part[2 * n - 2],
                                         &part[2 * n - 1]);
        CHECK(llm_cuda_attn_mask_flatten(&flat, &part[2 * n]) == (2 * n + 1 <= 16));
        CHECK(flat.count == (2 * n + 1 <= 16 ? 2 * n + 1 : 16));
    }
    const llm_cuda_attn_mask_list none = {NULL, NULL, NULL};
    CHECK(llm_cuda_attn_mask_blocks(&none, &none, &part[18], 1, 1, (uint8_t *)NULL, (size_t *)NULL,
                                    0) == cudaErrorInvalidValue);
    CHECK_CUDA(llm_cuda_attn_mask_blocks(&none, &none, &part[0], 0, 5, (uint8_t *)NULL,
                                         (size_t *)NULL, 0));
}
