/* @bpe */
#include "../test.h"

/* malloc and its like that run out after a number of calls */
static int bpe_calls = 1 << 30;
static void *bpe_calloc(size_t n, size_t size) { return bpe_calls-- > 0 ? calloc(n, size) : NULL; }
static void *bpe_realloc(void *p, size_t size) { return bpe_calls-- > 0 ? realloc(p, size) : NULL; }
#define calloc bpe_calloc
#define realloc bpe_realloc

#include "../../llm.h"
#include "../tiny_hostile.h"

static llm_bpe bpe_new(void) {
    llm_bpe bpe;
    CHECK(llm_bpe_create(&bpe));
    return bpe;
}

/* ids (size) <- the pre-token, in an arena and arrays of exactly the promised size. */
static size_t bpe_encode(int *ids, const llm_bpe *bpe, const char *text, size_t size, float dropout,
                         llm_rng *rng) {
    llm_arena arena;
    int *exact = (int *)malloc(size * sizeof *exact);
    CHECK(llm_arena_create(&arena, llm_bpe_scratch(size)) && (exact || size == 0));
    const size_t count = llm_bpe_encode(exact, bpe, text, size, dropout, rng, &arena);
    CHECK(arena.used == 0 && count <= size && (count > 0 || size == 0));
    for (size_t i = 0; i < count; i++) ids[i] = exact[i];
    free(exact);
    llm_arena_destroy(&arena);
    return count;
}

/* The merges of bpe.py. */
static llm_bpe bpe_golden(void) {
    size_t n;
    llm_bpe bpe = bpe_new();
    const float *left = golden_n(&n, "merge/left"), *right = golden("merge/right");
    for (size_t r = 0; r < n; r++)
        CHECK(llm_bpe_add(&bpe, (int)left[r], (int)right[r]) == 256 + (int)r);
    return bpe;
}

TEST(bpe, "ids are tiktoken's, from the heap and from the definition; decoding gives the bytes") {
    size_t n, pieces, at = 0, first = 0;
    llm_bpe bpe = bpe_golden();
    const float *bytes = golden_n(&n, "piece/bytes"), *size = golden_n(&pieces, "piece/size");
    const float *want = golden("piece/ids"), *count = golden("piece/count");
    CHECK(pieces > 100);
    for (size_t p = 0; p < pieces; p++) {
        const size_t length = (size_t)size[p], ids_count = (size_t)count[p];
        char *text = (char *)test_memory(length, 1);
        int *ids = (int *)test_memory(length, sizeof *ids);
        for (size_t i = 0; i < length; i++) text[i] = (char)(unsigned char)bytes[at + i];
        CHECK(bpe_encode(ids, &bpe, text, length, 0.0f, NULL) == ids_count);
        for (size_t i = 0; i < ids_count; i++) CHECK_NEAR(ids[i], want[first + i], 0);
        CHECK(llm_bpe_encode_naive(ids, &bpe, text, length) == ids_count);
        for (size_t i = 0; i < ids_count; i++) CHECK_NEAR(ids[i], want[first + i], 0);
        llm_buffer out = {NULL, 0, 0};
        CHECK(llm_bpe_decode(&out, &bpe, ids, ids_count));
        CHECK(out.size == length && memcmp(out.data, text, length) == 0);
        llm_buffer_free(&out);
        at += length;
        first += ids_count;
    }
    CHECK(at == n);
    llm_bpe_free(&bpe);
}

/* The ids; and decoding them gives the text again. */
static size_t bpe_answer(uint32_t *out, const char *text, size_t size, const void *context) {
    const llm_bpe *bpe = (const llm_bpe *)context;
    int *ids = (int *)malloc((size + 1) * sizeof *ids);
    llm_buffer back = {NULL, 0, 0};
    CHECK(ids);
    const size_t n = bpe_encode(ids, bpe, text, size, 0.0f, NULL);
    for (size_t i = 0; i < n; i++) out[i] = (uint32_t)ids[i];
    CHECK(llm_bpe_decode(&back, bpe, ids, n) && back.size == size);
    CHECK(size == 0 || memcmp(back.data, text, size) == 0);
    free(ids);
    llm_buffer_free(&back);
    return n;
}

TEST(bpe, "awkward strings in many scripts, broken ones too: tiktoken's ids, and the text again") {
    llm_bpe bpe = bpe_golden();
    tiny_hostile_check("hostile/ids", TINY_HOSTILE_GROUPS, bpe_answer, &bpe);
    llm_bpe_free(&bpe);
}

TEST(bpe, "heap and definition agree on any list of merges, also on ones no training gives") {
    llm_rng rng = llm_rng_seed(1);
    for (size_t turn = 0; turn < 2000; turn++) {
        enum { MOST = 67 };
        llm_bpe bpe = bpe_new();
        const size_t letters = 1 + llm_rng_below(&rng, 3), size = llm_rng_below(&rng, MOST + 1);
        int id[64], ids[MOST], want[MOST];
        size_t known = 0;
        for (; known < letters; known++) id[known] = bpe.byte_id['a' + (int)known];
        for (size_t m = llm_rng_below(&rng, 25); m-- > 0;) {
            const int left = id[llm_rng_below(&rng, known)], right = id[llm_rng_below(&rng, known)];
            size_t total, more;
            llm_vocab_table_bytes(&bpe.token, (size_t)left, &total);
            llm_vocab_table_bytes(&bpe.token, (size_t)right, &more);
            if (total + more > 20) continue;
            id[known++] = llm_bpe_add(&bpe, left, right); /* may be a token that is there already */
        }
        char *text = (char *)test_memory(size, 1);
        for (size_t i = 0; i < size; i++) text[i] = (char)('a' + (int)llm_rng_below(&rng, letters));
        const size_t count = bpe_encode(ids, &bpe, text, size, 0.0f, NULL);
        CHECK(count == llm_bpe_encode_naive(want, &bpe, text, size));
        for (size_t i = 0; i < count; i++) CHECK(ids[i] == want[i]);
        llm_buffer out = {NULL, 0, 0};
        CHECK(llm_bpe_decode(&out, &bpe, ids, count) && out.size == size);
        CHECK(size == 0 || memcmp(out.data, text, size) == 0);
        llm_buffer_free(&out);
        llm_bpe_free(&bpe);
    }
}

TEST(bpe, "decode(encode(x)) is x for 10,000 strings of any bytes") {
    llm_bpe bpe = bpe_golden();
    llm_rng rng = llm_rng_seed(2);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, llm_bpe_scratch(40)));
    for (size_t turn = 0; turn < 10000; turn++) {
        char text[40];
        int ids[40];
        const size_t size = llm_rng_below(&rng, 41);
        for (size_t i = 0; i < size; i++) text[i] = (char)(unsigned char)llm_rng_below(&rng, 256);
        const size_t count = llm_bpe_encode(ids, &bpe, text, size, 0.0f, NULL, &arena);
        llm_buffer out = {NULL, 0, 0};
        CHECK(llm_bpe_decode(&out, &bpe, ids, count) && out.size == size);
        CHECK(size == 0 || memcmp(out.data, text, size) == 0);
        llm_buffer_free(&out);
    }
    llm_arena_destroy(&arena);
    llm_bpe_free(&bpe);
}

TEST(bpe, "a line of a million equal letters is halved and halved again, in time") {
    const size_t size = 1000003;
    llm_bpe bpe = bpe_new();
    int id = bpe.byte_id['a'];
    for (int k = 1; k <= 12; k++) CHECK((id = llm_bpe_add(&bpe, id, id)) == 255 + k);
    char *text = (char *)test_memory(size, 1);
    int *ids = (int *)test_memory(size, sizeof *ids);
    memset(text, 'a', size);
    const size_t count = bpe_encode(ids, &bpe, text, size, 0.0f, NULL);
    size_t n = 0; /* as many of 2^12 as fit, then the binary digits of what is left */
    for (; n < size / 4096; n++) CHECK(ids[n] == 255 + 12);
    for (int k = 11; k >= 0; k--)
        if (size % 4096 >> k & 1) CHECK(ids[n++] == (k > 0 ? 255 + k : bpe.byte_id['a']));
    CHECK(count == n);
    llm_bpe_free(&bpe);
}

/* The law of BPE-dropout by enumeration: in every segmentation each possible merge is dropped with
 * probability p, the first one that is left (by rank, then place) is made, and with none left it
 * ends. Adds each end's probability to law, by its number of tokens and last id. */
static void bpe_dropout_law(double *law, const llm_bpe *bpe, const int *ids, size_t n, double p,
                            double mass) {
    size_t at[8], m = 0;
    for (size_t i = 0; i + 1 < n; i++)
        if (llm_bpe_rank(bpe, ids[i], ids[i + 1]) != UINT32_MAX) at[m++] = i;
    for (size_t i = 1; i < m; i++)
        for (size_t k = i; k > 0; k--) {
            const size_t a = at[k - 1], b = at[k];
            if (llm_bpe_rank(bpe, ids[a], ids[a + 1]) <= llm_bpe_rank(bpe, ids[b], ids[b + 1]))
                break;
            at[k - 1] = b, at[k] = a;
        }
    for (size_t k = 0; k < m; k++, mass *= p) {
        int next[8];
        const uint32_t rank = llm_bpe_rank(bpe, ids[at[k]], ids[at[k] + 1]);
        for (size_t i = 0; i + 1 < n; i++) next[i] = ids[i < at[k] ? i : i + 1];
        next[at[k]] = bpe->merge[rank].result;
        bpe_dropout_law(law, bpe, next, n - 1, p, mass * (1.0 - p));
    }
    law[n * 300 + (size_t)ids[n - 1]] += mass;
}

TEST(bpe, "dropout: none is encoding, all is bytes, and between them the law of algorithm 1") {
    llm_bpe bpe = bpe_new();
    const char *text = "abcabc";
    const int a = bpe.byte_id['a'], b = bpe.byte_id['b'], c = bpe.byte_id['c'];
    const int ab = llm_bpe_add(&bpe, a, b), bc = llm_bpe_add(&bpe, b, c);
    const int abc = llm_bpe_add(&bpe, ab, c);
    CHECK(llm_bpe_add(&bpe, a, bc) == abc && llm_bpe_add(&bpe, abc, a) == abc + 1);
    int ids[6], plain[6];
    llm_rng rng = llm_rng_seed(3);
    const size_t n = bpe_encode(plain, &bpe, text, 6, 0.0f, NULL);
    CHECK(n == 2 && plain[0] == abc && plain[1] == abc);
    CHECK(bpe_encode(ids, &bpe, text, 6, 0.0f, &rng) == n && memcmp(ids, plain, n * 4) == 0);
    CHECK(bpe_encode(ids, &bpe, text, 6, 1.0f, &rng) == 6);
    for (size_t i = 0; i < 6; i++) CHECK(ids[i] == bpe.byte_id[(unsigned char)text[i]]);
    for (int step = 1; step < 4; step++) {
        const double p = 0.25 * step, draws = 40000.0;
        double law[7 * 300] = {0}, seen[7 * 300] = {0}, total = 0.0;
        bpe_dropout_law(law, &bpe, ids, 6, p, 1.0);
        for (size_t d = 0; d < 40000; d++) {
            int drawn[6];
            const size_t count = bpe_encode(drawn, &bpe, text, 6, (float)p, &rng);
            seen[count * 300 + (size_t)drawn[count - 1]] += 1.0 / draws;
        }
        for (size_t i = 0; i < 7 * 300; i++) { /* five standard errors of a frequency */
            CHECK_NEAR(seen[i], law[i], 5.0 * sqrt(law[i] * (1.0 - law[i]) / draws));
            total += law[i];
        }
        CHECK_NEAR(total, 1.0, 1e-12);
    }
    llm_bpe_free(&bpe);
}

TEST(bpe, "a new BPE is 256 bytes; merges get the next rank and the id of their bytes") {
    llm_bpe bpe = bpe_new();
    CHECK(bpe.token.count == 256 && bpe.merges == 0);
    for (int byte = 0; byte < 256; byte++) {
        size_t size;
        const char *s = llm_vocab_table_bytes(&bpe.token, (size_t)bpe.byte_id[byte], &size);
        CHECK(size == 1 && (unsigned char)s[0] == byte);
        CHECK(bpe.byte_id[byte] == llm_byte_level_id((unsigned char)byte));
    }
    CHECK(llm_bpe_rank(&bpe, 1, 2) == UINT32_MAX);
    for (int left = 0; left < 40; left++) /* beyond two growths of the table */
        for (int right = 0; right < 40; right++) {
            CHECK(llm_bpe_rank(&bpe, left, right) == UINT32_MAX);
            CHECK(llm_bpe_add(&bpe, left, right) == 256 + 40 * left + right);
        }
    for (int left = 0; left < 41; left++)
        for (int right = 0; right < 41; right++) {
            const uint32_t rank = llm_bpe_rank(&bpe, left, right);
            CHECK(rank == (left < 40 && right < 40 ? (uint32_t)(40 * left + right) : UINT32_MAX));
            if (rank == UINT32_MAX) continue;
            const llm_bpe_merge m = bpe.merge[rank];
            CHECK(m.left == left && m.right == right && m.result == 256 + 40 * left + right);
        }
    size_t run = 0, longest = 0; /* of full slots: 2 here, 1600 where the hash does not spread */
    for (size_t s = 0; s < bpe.slots; s++) {
        run = bpe.slot[s] > 0 ? run + 1 : 0;
        if (run > longest) longest = run;
    }
    CHECK(bpe.slots == 4096 && longest < 40);
    /* the same bytes in another way have the same id; a pair again has the later rank */
    CHECK(llm_bpe_add(&bpe, 256, 1) == 1856 && llm_bpe_add(&bpe, 0, 257) == 1856);
    CHECK(llm_bpe_add(&bpe, 3, 4) == 256 + 124 && llm_bpe_rank(&bpe, 3, 4) == 1602);
    CHECK_ASSERTS(llm_bpe_add(&bpe, 0, 5000));
    llm_bpe_free(&bpe);
    CHECK(bpe.token.count == 0 && bpe.merges == 0 && bpe.byte_id[0] == -1);
}

TEST(bpe, "a file may give a merged token the id 0") {
    llm_bpe bpe = llm_bpe_empty();
    int ids[3];
    CHECK(llm_vocab_table_add(&bpe.token, "ab", 2) == 0);
    bpe.byte_id['a'] = llm_vocab_table_add(&bpe.token, "a", 1);
    bpe.byte_id['b'] = llm_vocab_table_add(&bpe.token, "b", 1);
    CHECK(llm_bpe_add(&bpe, 1, 2) == 0 && llm_bpe_rank(&bpe, 1, 2) == 0);
    CHECK(bpe_encode(ids, &bpe, "aba", 3, 0.0f, NULL) == 2 && ids[0] == 0 && ids[1] == 1);
    llm_bpe_free(&bpe);
}

TEST(bpe, "ids outside the vocabulary and texts without end are refused") {
    llm_bpe bpe = bpe_new();
    llm_buffer out = {NULL, 0, 0};
    llm_arena arena;
    const int bad[2] = {-1, 256};
    int ids[1];
    CHECK(llm_arena_create(&arena, 4096));
    for (size_t i = 0; i < 2; i++) CHECK(!llm_bpe_decode(&out, &bpe, &bad[i], 1));
    CHECK(llm_bpe_decode(&out, &bpe, NULL, 0) && out.size == 0);
    CHECK(llm_bpe_encode(ids, &bpe, "a", 0, 0.0f, NULL, &arena) == 0);
    llm_arena endless = arena; /* says that it holds any size */
    endless.size = SIZE_MAX / 2;
    CHECK_ASSERTS(llm_bpe_encode(ids, &bpe, "a", UINT32_MAX, 0.0f, NULL, &endless));
    CHECK_ASSERTS(llm_bpe_join(ids, UINT32_MAX, &bpe, 0.0f, NULL, &endless));
    llm_arena_destroy(&arena);
    llm_buffer_free(&out);
    llm_bpe_free(&bpe);
}

TEST(bpe, "more slots than their numbers can say are not asked for") {
    llm_bpe bpe = llm_bpe_empty();
    bpe.merges = (size_t)1 << 30;
    bpe.slots = (size_t)1 << 31;
    bpe_calls = 0;
    CHECK(llm_bpe_add(&bpe, 0, 1) == -1 && bpe_calls == 0);
}

TEST(bpe, "when memory is out, nothing is added and nothing leaks") {
    for (int calls = 0; calls < 60; calls++) {
        llm_bpe bpe;
        bpe_calls = calls;
        if (!llm_bpe_create(&bpe)) {
            CHECK(calls < 20 && bpe.token.count == 0);
            continue;
        }
        int added = 0;
        while (added < 600 && llm_bpe_add(&bpe, added / 256, added % 256) >= 0) added++;
        CHECK(bpe.merges == (size_t)added);
        bpe_calls = 1 << 30;
        for (int m = 0; m < added; m++)
            CHECK(llm_bpe_rank(&bpe, m / 256, m % 256) == (uint32_t)m &&
                  bpe.merge[m].result == 256 + m);
        CHECK(llm_bpe_add(&bpe, 200, 200) >= 256);
        llm_bpe_free(&bpe);
    }
    bpe_calls = 1 << 30;
    llm_bpe bpe = bpe_new();
    llm_buffer out = {NULL, 0, 0};
    const int id = 3;
    bpe_calls = 0;
    CHECK(!llm_bpe_decode(&out, &bpe, &id, 1));
    llm_bpe_free(&bpe);
}
