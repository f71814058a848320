/* @bpe_scores */
#include "../test.h"

#include "../../llm.h"
#include "../tiny_hostile.h"
#include "../tiny_pieces.h"

/* In arrays and an arena of exactly the promised size. */
static size_t scores_encode(int *ids, const llm_pieces *p, const char *text, size_t size) {
    llm_arena arena;
    int *exact = (int *)malloc(size * sizeof *exact);
    CHECK(llm_arena_create(&arena, llm_bpe_scores_scratch(size)) && (exact || size == 0));
    const size_t count = llm_bpe_scores_encode(exact, p, text, size, &arena);
    CHECK(arena.used == 0 && count <= size && (count > 0 || size == 0));
    for (size_t i = 0; i < count; i++) ids[i] = exact[i];
    free(exact);
    llm_arena_destroy(&arena);
    return count;
}

TEST(bpe_scores, "ids are SentencePiece's, with byte fallback, unknown and USER pieces") {
    const char *name[2] = {"unknown", "bytes"};
    for (size_t m = 0; m < 2; m++) {
        char texts[16], *text;
        size_t size, count, special = 0;
        int *want;
        llm_pieces p = tiny_pieces_golden(name[m]);
        snprintf(texts, sizeof texts, "%s/text", name[m]);
        tiny_pieces_texts t = tiny_pieces_open(texts);
        while (tiny_pieces_next(&t, &text, &size, &want, &count)) {
            llm_buffer spelt = {NULL, 0, 0};
            CHECK(llm_pieces_spell(&spelt, text, size, false));
            int *ids = (int *)test_memory(spelt.size, sizeof *ids);
            CHECK(scores_encode(ids, &p, spelt.data, spelt.size) == count);
            for (size_t i = 0; i < count; i++) {
                CHECK_NEAR(ids[i], want[i], 0);
                special += llm_pieces_get(&p, (size_t)ids[i]).kind != LLM_PIECES_NORMAL;
            }
            llm_buffer_free(&spelt);
        }
        CHECK(t.texts > 45 && special > 20);
        llm_pieces_free(&p);
    }
}

/* The ids; and decoding them gives the text again, where nothing is unknown. */
static size_t scores_answer(uint32_t *out, const char *text, size_t size, const void *context) {
    const llm_pieces *p = (const llm_pieces *)context;
    llm_buffer spelt = {NULL, 0, 0}, back = {NULL, 0, 0}, again = {NULL, 0, 0};
    CHECK(llm_pieces_spell(&spelt, text, size, false));
    int *ids = (int *)malloc((spelt.size + 1) * sizeof *ids);
    CHECK(ids);
    const size_t n = scores_encode(ids, p, spelt.data, spelt.size);
    for (size_t i = 0; i < n; i++) out[i] = (uint32_t)ids[i];
    CHECK(llm_pieces_decode(&back, p, ids, n));
    CHECK(llm_pieces_spell(&again, back.data, back.size, false)); /* U+2581 comes back as a space */
    if (llm_pieces_fallback(p))
        CHECK(again.size == spelt.size && (n == 0 || !memcmp(again.data, spelt.data, again.size)));
    free(ids);
    llm_buffer_free(&spelt);
    llm_buffer_free(&back);
    llm_buffer_free(&again);
    return n;
}

TEST(bpe_scores, "awkward strings in many scripts: SentencePiece's ids, and the text comes back") {
    const char *name[2] = {"unknown", "bytes"}, *hashes[2] = {"hostile/unknown", "hostile/bytes"};
    for (size_t m = 0; m < 2; m++) {
        llm_pieces p = tiny_pieces_golden(name[m]);
        tiny_hostile_check(hashes[m], TINY_HOSTILE_VALID, scores_answer, &p);
        llm_pieces_free(&p);
    }
}

/* The definition: looks through all neighbours for each merge. end (size) is where each symbol
 * ends. */
static size_t scores_naive(int *ids, const llm_pieces *p, const char *text, size_t size) {
    size_t end[64], n = size, count = 0;
    for (size_t i = 0; i < size; i++) end[i] = i + 1;
    for (;;) {
        double best = -INFINITY;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            const size_t start = i > 0 ? end[i - 1] : 0;
            const int id = llm_vocab_table_find(&p->text, text + start, end[i + 1] - start);
            if (id < 0 || llm_pieces_get(p, (size_t)id).kind != LLM_PIECES_NORMAL) continue;
            const double score = llm_pieces_get(p, (size_t)id).score;
            if (score > best) best = score, at = i;
        }
        if (best == -INFINITY) break;
        n--;
        for (size_t i = at; i < n; i++) end[i] = end[i + 1];
    }
    for (size_t i = 0; i < n; i++) {
        const size_t start = i > 0 ? end[i - 1] : 0;
        int id = llm_vocab_table_find(&p->text, text + start, end[i] - start);
        if (id >= 0 && llm_pieces_get(p, (size_t)id).kind != LLM_PIECES_NORMAL) id = -1;
        if (id < 0 && count > 0 && ids[count - 1] == p->unknown) continue;
        ids[count++] = id < 0 ? p->unknown : id;
    }
    return count;
}

TEST(bpe_scores, "the heap does what the definition says, equal scores and all signs included") {
    llm_rng rng = llm_rng_seed(1);
    for (size_t turn = 0; turn < 3000; turn++) {
        llm_pieces p = llm_pieces_empty();
        const size_t pieces = 1 + llm_rng_below(&rng, 40), kinds = 1 + llm_rng_below(&rng, 20);
        CHECK(llm_pieces_put(&p, "?", 1, 9.0, LLM_PIECES_UNKNOWN, NULL));
        while (p.text.count < pieces) {
            char text[6];
            const size_t size = 1 + llm_rng_below(&rng, 6);
            for (size_t i = 0; i < size; i++) text[i] = (char)('a' + (int)llm_rng_below(&rng, 3));
            if (llm_vocab_table_find(&p.text, text, size) >= 0) continue;
            double score = 0.5 * ((double)llm_rng_below(&rng, kinds) - 3.0);
            if (score == 0.0 && llm_rng_below(&rng, 2) > 0) score = -0.0; /* equal to 0 */
            const llm_pieces_kind kind =
                llm_rng_below(&rng, 12) > 0 ? LLM_PIECES_NORMAL : LLM_PIECES_UNUSED;
            CHECK(llm_pieces_put(&p, text, size, score, kind, NULL));
        }
        CHECK(llm_pieces_ready(&p, NULL));
        const size_t size = llm_rng_below(&rng, 41);
        char *text = (char *)malloc(size + 1);
        int ids[64], want[64];
        CHECK(text);
        for (size_t i = 0; i < size; i++) text[i] = (char)('a' + (int)llm_rng_below(&rng, 3));
        const size_t count = scores_encode(ids, &p, text, size);
        CHECK(count == scores_naive(want, &p, text, size));
        for (size_t i = 0; i < count; i++) CHECK(ids[i] == want[i]);
        free(text);
        llm_pieces_free(&p);
    }
}

TEST(bpe_scores, "by hand: order of merges, USER pieces stay apart, broken UTF-8 is one unknown") {
    llm_pieces p = llm_pieces_empty();
    int ids[16];
    CHECK(llm_pieces_put(&p, "<u>", 3, 0.0, LLM_PIECES_UNKNOWN, NULL));
    CHECK(llm_pieces_put(&p, "ab", 2, -1.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "bc", 2, -2.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "abc", 3, -3.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "c", 1, -4.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "cd", 2, -9.0, LLM_PIECES_USER, NULL));
    CHECK(llm_pieces_put(&p, "cdcd", 4, -9.0, LLM_PIECES_USER, NULL));
    CHECK(llm_pieces_put(&p, "bcd", 3, 0.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "cde", 3, 0.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "<s>", 3, 0.0, LLM_PIECES_CONTROL, NULL));
    CHECK(llm_pieces_ready(&p, NULL));
    CHECK(scores_encode(ids, &p, "abc", 3) == 1 && ids[0] == 3);
    CHECK(scores_encode(ids, &p, "abcc", 4) == 2 && ids[0] == 3 && ids[1] == 4);
    CHECK(scores_encode(ids, &p, "bcd", 3) == 2 && ids[0] == 0 && ids[1] == 5);
    CHECK(scores_encode(ids, &p, "cde", 3) == 2 && ids[0] == 5 && ids[1] == 0);
    CHECK(scores_encode(ids, &p, "ccdcdcd", 7) == 3 && ids[0] == 4 && ids[1] == 6 && ids[2] == 5);
    CHECK(scores_encode(ids, &p, "<s>", 3) == 1 && ids[0] == 0);
    CHECK(scores_encode(ids, &p,
                        "c\xE2\x96"
                        "bc\xFF\xFF",
                        7) == 4);
    CHECK(ids[0] == 4 && ids[1] == 0 && ids[2] == 2 && ids[3] == 0);
    CHECK(llm_bpe_scores_key(&p, 1) < llm_bpe_scores_key(&p, 2));
    CHECK(llm_bpe_scores_key(&p, 7) < llm_bpe_scores_key(&p, 1));
    llm_pieces none = llm_pieces_empty();
    CHECK_ASSERTS(llm_bpe_scores_encode(ids, &none, "", 0, NULL));
    llm_arena endless; /* says that it holds any size */
    memset(&endless, 0, sizeof endless);
    endless.size = SIZE_MAX / 2;
    CHECK_ASSERTS(llm_bpe_scores_encode(ids, &p, "", UINT32_MAX, &endless));
    llm_pieces_free(&p);
}

TEST(bpe_scores, "the first id is a piece like any other; two joins at one place with one score") {
    int ids[8];
    llm_pieces p = llm_pieces_empty();
    CHECK(llm_pieces_put(&p, "ab", 2, -1.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "b", 1, -2.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "<u>", 3, 0.0, LLM_PIECES_UNKNOWN, NULL));
    CHECK(llm_pieces_ready(&p, NULL));
    CHECK(scores_encode(ids, &p, "abbabx", 6) == 4);
    CHECK(ids[0] == 0 && ids[1] == 1 && ids[2] == 0 && ids[3] == 2);
    CHECK(scores_encode(ids, &p, "aaaaaaaa", 8) == 1 && ids[0] == 2); /* longer than any piece */
    llm_pieces_free(&p);

    CHECK(llm_pieces_put(&p, "a", 1, -1.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "?", 1, 0.0, LLM_PIECES_UNKNOWN, NULL));
    CHECK(llm_pieces_ready(&p, NULL)); /* what two make is longer than any piece: no piece */
    CHECK(scores_encode(ids, &p, "aa\xC3\xA9", 4) == 3 && ids[0] == 0 && ids[1] == 0 &&
          ids[2] == 1);
    llm_pieces_free(&p);

    CHECK(llm_pieces_put(&p, "a", 1, -1.0, LLM_PIECES_USER, NULL)); /* of one byte, with id 0 */
    CHECK(llm_pieces_put(&p, "ab", 2, -1.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "ba", 2, -1.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "<u>", 3, 0.0, LLM_PIECES_UNKNOWN, NULL));
    CHECK(llm_pieces_ready(&p, NULL));
    CHECK(scores_encode(ids, &p, "aba", 3) == 3 && ids[0] == 0 && ids[1] == 3 && ids[2] == 0);
    llm_pieces_free(&p);

    /* ab waits with -2; bc merges, and abc waits at the same place with -2 too */
    CHECK(llm_pieces_put(&p, "<u>", 3, 0.0, LLM_PIECES_UNKNOWN, NULL));
    CHECK(llm_pieces_put(&p, "ab", 2, -2.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "bc", 2, -1.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "abc", 3, -2.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_ready(&p, NULL));
    CHECK(scores_encode(ids, &p, "abc", 3) == 1 && ids[0] == 3);
    CHECK(scores_encode(ids, &p, "abcabc", 6) == 2 && ids[0] == 3 && ids[1] == 3);
    llm_pieces_free(&p);
}

TEST(bpe_scores, "with byte fallback nothing is lost; a long line of one letter, in time") {
    llm_pieces p = llm_pieces_empty();
    llm_rng rng = llm_rng_seed(2);
    char run[64];
    memset(run, 'a', sizeof run);
    for (int b = 0; b < 256; b++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)b);
        CHECK(llm_pieces_put(&p, text, 6, 0.0, LLM_PIECES_BYTE, NULL));
    }
    for (size_t k = 0; k < 7; k++)
        CHECK(llm_pieces_put(&p, run, (size_t)1 << k, -(double)k, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "\xE2\x96\x81", 3, -9.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_ready(&p, NULL));
    for (size_t turn = 0; turn < 3000; turn++) {
        char text[40];
        int ids[120];
        const size_t size = llm_rng_below(&rng, 41);
        llm_buffer spelt = {NULL, 0, 0}, out = {NULL, 0, 0};
        for (size_t i = 0; i < size; i++)
            text[i] = llm_rng_below(&rng, 2) > 0 ? "aa \xC3"[llm_rng_below(&rng, 4)]
                                                 : (char)(unsigned char)llm_rng_below(&rng, 256);
        CHECK(llm_pieces_spell(&spelt, text, size, false));
        const size_t count = scores_encode(ids, &p, spelt.data, spelt.size);
        CHECK(llm_pieces_decode(&out, &p, ids, count) && out.size == size);
        CHECK(size == 0 || memcmp(out.data, text, size) == 0);
        llm_buffer_free(&spelt);
        llm_buffer_free(&out);
    }
    const size_t size = 300003; /* 4687 times 64, then 32, 2 and 1 */
    char *text = (char *)test_memory(size, 1);
    int *ids = (int *)test_memory(size, sizeof *ids);
    memset(text, 'a', size);
    CHECK(scores_encode(ids, &p, text, size) == 4687 + 3);
    CHECK(ids[0] == 262 && ids[4686] == 262 && ids[4687] == 261 && ids[4689] == 256);
    llm_pieces_free(&p);
}
