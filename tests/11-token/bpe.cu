/* @bpe */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* The bytes and `merges` merges of pairs drawn from a few letters and what they have become. Some
 * pairs make bytes that a token has already: then a later rank leads back to an earlier one. */
static llm_bpe some_bpe(size_t merges, size_t letters, uint64_t seed) {
    llm_bpe bpe;
    llm_rng rng = llm_rng_seed(seed);
    CHECK(llm_bpe_create(&bpe));
    for (size_t i = 0; i < merges; i++) {
        int pair[2];
        for (size_t k = 0; k < 2; k++) {
            const size_t known = bpe.token.count - 256, c = llm_rng_below(&rng, letters + known);
            pair[k] = c < letters ? bpe.byte_id['a' + c] : (int)(256 + c - letters);
        }
        CHECK(llm_bpe_add(&bpe, pair[0], pair[1]) >= 0);
    }
    return bpe;
}
static llm_cuda_bpe device_bpe(const llm_bpe *bpe) {
    const llm_cuda_bpe d = {to_device(bpe->byte_id, 256), to_device(bpe->merge, bpe->merges),
                            to_device(bpe->slot, bpe->slots), bpe->slots};
    return d;
}

/* Pre-tokens of these sizes, one behind the other, against the CPU. */
static void check_words(const llm_bpe *bpe, const char *text, const size_t *size, size_t words) {
    size_t *start = (size_t *)test_memory(words + 1, sizeof(size_t)), total = 0, longest = 0;
    for (size_t w = 0; w < words; w++) {
        start[w] = total, total += size[w];
        if (size[w] > longest) longest = size[w];
    }
    start[words] = total;
    int *ids = (int *)test_memory(total + 1, sizeof(int)),
        *want = (int *)test_memory(total + 1, sizeof(int));
    int *all = (int *)test_memory(total + 1, sizeof(int)),
        *count = (int *)test_memory(words + 1, sizeof(int));
    size_t *first = (size_t *)test_memory(words + 1, sizeof(size_t)), packed = 0;
    int *d_ids = to_device<int>(NULL, total), *d_count = to_device<int>(NULL, words);
    int *d_all = to_device<int>(NULL, total);
    uint32_t *d_rank = longest > 32 ? to_device<uint32_t>(NULL, total) : NULL;
    size_t *d_first = to_device<size_t>(NULL, words + 1);
    const size_t *d_start = to_device(start, words + 1);
    CHECK_CUDA(llm_cuda_bpe_encode(d_ids, d_count, d_rank, device_bpe(bpe), to_device(text, total),
                                   d_start, words, 0));
    CHECK_CUDA(llm_cuda_bpe_pack(d_all, d_first, d_ids, d_count, d_start, words, 0));
    from_device(ids, d_ids, total);
    from_device(all, d_all, total);
    from_device(count, d_count, words);
    from_device(first, d_first, words + 1);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, llm_bpe_scratch(longest)));
    for (size_t w = 0; w < words; w++) {
        const size_t n = llm_bpe_encode_naive(want, bpe, text + start[w], size[w]);
        CHECK((size_t)count[w] == n);
        CHECK(memcmp(ids + start[w], want, n * sizeof(int)) == 0);
        CHECK(first[w] == packed && memcmp(all + packed, want, n * sizeof(int)) == 0);
        CHECK(llm_bpe_encode(want, bpe, text + start[w], size[w], 0.0f, NULL, &arena) == n);
        CHECK(memcmp(ids + start[w], want, n * sizeof(int)) == 0);
        packed += n;
    }
    CHECK(first[words] == packed);
    llm_arena_destroy(&arena);
}

TEST(bpe, "a warp a pre-token gives the ids of llm_bpe_encode, short and long") {
    const size_t size[] = {0, 1, 2, 3, 31, 32, 33, 64, 65, 127, 200, 5, 0, 17, 31, 32, 32, 33};
    const size_t words = sizeof size / sizeof *size;
    for (uint64_t seed = 0; seed < (TEST_SLOW ? 2 : 12); seed++) {
        const size_t letters = 1 + seed % 4;
        llm_bpe bpe = some_bpe(seed == 3 ? 0 : 8 << seed % 5, letters, seed);
        char text[1000];
        llm_rng rng = llm_rng_seed(seed + 100);
        for (size_t i = 0; i < sizeof text; i++)
            text[i] = (char)('a' + llm_rng_below(&rng, letters + (i % 7 == 0)));
        check_words(&bpe, text, size, words);
        llm_bpe_free(&bpe);
    }
}

TEST(bpe, "all 256 bytes, equal ranks from the left, and many pre-tokens without gaps") {
    llm_bpe bpe = some_bpe(0, 1, 0);
    const int a = bpe.byte_id[(int)'a'];
    const int aa = llm_bpe_add(&bpe, a, a), aaaa = llm_bpe_add(&bpe, aa, aa);
    CHECK(llm_bpe_add(&bpe, bpe.byte_id[0xff], bpe.byte_id[0]) > aaaa);
    char text[5000];
    size_t size[3500], words = 0;
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)(i < 512 ? i : 'a');
    for (size_t i = 0; i < 4500; words++) {
        size[words] = words < 10 ? 51 : words % 4;
        i += size[words];
    }
    check_words(&bpe, text, size, words); /* aaa is aa a, not a aa; aaaaa is aaaa a */
    check_words(&bpe, text, size, 0);
    llm_bpe_free(&bpe);
}
