/* @unigram */
#include "../test.h"

#include "../../llm.h"
#include "../tiny_hostile.h"
#include "../tiny_pieces.h"

/* In arrays and an arena of exactly the promised size. */
static size_t unigram_encode(int *ids, double *score, const llm_pieces *p, const char *text,
                             size_t size, bool single) {
    llm_arena arena;
    int *exact = (int *)malloc(size * sizeof *exact);
    CHECK(llm_arena_create(&arena, llm_unigram_scratch(p, size)) && (exact || size == 0));
    const size_t count = llm_unigram_encode(exact, NULL, score, p, text, size, single, &arena);
    CHECK(arena.used == 0 && count <= size && (count > 0 || size == 0));
    for (size_t i = 0; i < count; i++) ids[i] = exact[i];
    free(exact);
    llm_arena_destroy(&arena);
    return count;
}

static void unigram_check(tiny_pieces_texts t, const llm_pieces *p, bool single) {
    char *text;
    size_t size, count;
    int *want;
    for (size_t k = 0; tiny_pieces_next(&t, &text, &size, &want, &count); k++) {
        int *ids = (int *)test_memory(size, sizeof *ids);
        CHECK(unigram_encode(ids, NULL, p, text, size, single) == count);
        for (size_t i = 0; i < count; i++) CHECK_NEAR(ids[i], want[i], 0);
    }
}

/* spelt with U+2581 */
static tiny_pieces_texts unigram_texts(const char *name) { return tiny_pieces_open(name); }

TEST(unigram, "ids and scores are SentencePiece's on a trained model") {
    char *text;
    size_t size, count, k = 0;
    int *want, unknown = 0, user = 0;
    llm_pieces p = tiny_pieces_golden("piece");
    tiny_pieces_texts t = unigram_texts("text");
    const float *score = golden("text/score");
    for (; tiny_pieces_next(&t, &text, &size, &want, &count); k++) {
        llm_buffer spelt = {NULL, 0, 0};
        CHECK(llm_pieces_spell(&spelt, text, size, false));
        int *ids = (int *)test_memory(spelt.size, sizeof *ids);
        double got, whole;
        CHECK(unigram_encode(ids, &got, &p, spelt.data, spelt.size, true) == count);
        for (size_t i = 0; i < count; i++) {
            CHECK_NEAR(ids[i], want[i], 0);
            unknown += ids[i] == p.unknown;
            user += llm_pieces_get(&p, (size_t)ids[i]).kind == LLM_PIECES_USER;
        }
        unigram_encode(ids, &whole, &p, spelt.data, spelt.size, false);
        CHECK_NEAR(got, whole, 1e-4 * (1.0 - whole)); /* sums of float */
        bool users = false; /* their score in a lattice counts characters, in encoding bytes */
        for (size_t i = 0; i < count; i++)
            users = users || llm_pieces_get(&p, (size_t)want[i]).kind == LLM_PIECES_USER;
        if (!users) CHECK_NEAR(whole, score[k], 1e-5 * (1.0 - whole));
        llm_buffer_free(&spelt);
    }
    CHECK(k > 100 && unknown > 10 && user > 10);
    llm_pieces_free(&p);
}

TEST(unigram, "ties go with float as in SentencePiece, with double as in Hugging Face") {
    llm_pieces p = tiny_pieces_golden("tie");
    tiny_pieces_texts t = tiny_pieces_open("double");
    unigram_check(t, &p, false);
    t.ids = golden("single/ids");
    t.count = golden("single/count");
    unigram_check(t, &p, true);
    llm_pieces_free(&p);
}

typedef struct {
    llm_pieces pieces;
    bool single, decoded; /* decoded: the answer is the text of the ids, 4096 bytes at most */
} unigram_model;
static size_t unigram_answer(uint32_t *out, const char *text, size_t size, const void *context) {
    const unigram_model *m = (const unigram_model *)context;
    llm_buffer spelt = {NULL, 0, 0};
    CHECK(llm_pieces_spell(&spelt, text, size, false));
    int *ids = (int *)malloc((spelt.size + 1) * sizeof *ids);
    CHECK(ids);
    const size_t n = unigram_encode(ids, NULL, &m->pieces, spelt.data, spelt.size, m->single);
    for (size_t i = 0; i < n; i++) out[i] = (uint32_t)ids[i];
    spelt.size = 0;
    CHECK(llm_pieces_decode(&spelt, &m->pieces, ids, n));
    const size_t bytes = spelt.size < 4096 ? spelt.size : 4096;
    for (size_t i = 0; i < bytes && m->decoded; i++) out[i] = (unsigned char)spelt.data[i];
    free(ids);
    llm_buffer_free(&spelt);
    return m->decoded ? bytes : n;
}

TEST(unigram,
     "awkward strings in many scripts: SentencePiece's ids and texts, Hugging Face's ids") {
    unigram_model m = {tiny_pieces_golden("piece"), true, false};
    tiny_hostile_check("hostile/single", TINY_HOSTILE_VALID, unigram_answer, &m);
    m.decoded = true;
    tiny_hostile_check("hostile/decoded", TINY_HOSTILE_VALID, unigram_answer, &m);
    m.decoded = false;
    llm_pieces plain = llm_pieces_empty(); /* the same without USER pieces: not found in texts */
    for (size_t id = 0, size; id < m.pieces.text.count; id++) {
        const llm_pieces_one one = llm_pieces_get(&m.pieces, id);
        const char *text = llm_vocab_table_bytes(&m.pieces.text, id, &size);
        CHECK(llm_pieces_put(&plain, text, size, one.score,
                             one.kind == LLM_PIECES_USER ? LLM_PIECES_UNUSED : one.kind, NULL));
    }
    CHECK(llm_pieces_ready(&plain, NULL));
    llm_pieces_free(&m.pieces);
    m.pieces = plain;
    m.single = false;
    tiny_hostile_check("hostile/double", TINY_HOSTILE_VALID, unigram_answer, &m);
    llm_pieces_free(&m.pieces);
}

/* The best of all ways to cut text: a bit mask of cuts after each byte. */
static double unigram_enumerate(int *ids, size_t *count, const llm_pieces *p, const char *text,
                                size_t size) {
    double best = -INFINITY;
    for (size_t cuts = 0; cuts < (size_t)1 << (size - 1); cuts++) {
        double sum = 0.0;
        int now[16];
        size_t n = 0, start = 0;
        for (size_t i = 0; i < size && sum > -INFINITY; i++) {
            if (i + 1 < size && !(cuts >> i & 1)) continue;
            const size_t length = i + 1 - start;
            const int id = llm_vocab_table_find(&p->text, text + start, length);
            const bool known = id >= 0 && llm_pieces_get(p, (size_t)id).kind == LLM_PIECES_NORMAL;
            if (!known && length > 1) sum = -INFINITY;
            sum += known ? llm_pieces_get(p, (size_t)id).score : p->low - 10.0;
            if (known || n == 0 || now[n - 1] != p->unknown) now[n++] = known ? id : p->unknown;
            start = i + 1;
        }
        if (!(sum > best)) continue;
        best = sum;
        *count = n;
        memcpy(ids, now, n * sizeof *ids);
    }
    return best;
}

TEST(unigram, "the best of all segmentations, up to 12 letters") {
    llm_rng rng = llm_rng_seed(1);
    for (size_t turn = 0; turn < 400; turn++) {
        llm_pieces p = llm_pieces_empty();
        const size_t pieces = 1 + llm_rng_below(&rng, 30), letters = 1 + llm_rng_below(&rng, 3);
        CHECK(llm_pieces_put(&p, "<u>", 3, 0.0, LLM_PIECES_UNKNOWN, NULL));
        while (p.text.count < pieces) {
            char text[5];
            const size_t size = 1 + llm_rng_below(&rng, 5);
            for (size_t i = 0; i < size; i++) text[i] = (char)('a' + (int)llm_rng_below(&rng, 3));
            if (llm_vocab_table_find(&p.text, text, size) >= 0) continue;
            const double score = -8.0 * (double)llm_rng_uniform(&rng); /* no two sums are equal */
            CHECK(llm_pieces_put(&p, text, size, score,
                                 llm_rng_below(&rng, 9) > 0 ? LLM_PIECES_NORMAL : LLM_PIECES_UNUSED,
                                 NULL));
        }
        CHECK(llm_pieces_ready(&p, NULL));
        const size_t size = 1 + llm_rng_below(&rng, 12);
        char text[12];
        int ids[12], want[16];
        size_t want_count = 0;
        double score;
        for (size_t i = 0; i < size; i++)
            text[i] = (char)('a' + (int)llm_rng_below(&rng, letters + 1));
        const double best = unigram_enumerate(want, &want_count, &p, text, size);
        CHECK(unigram_encode(ids, &score, &p, text, size, false) == want_count);
        CHECK_NEAR(score, best, 1e-12 * (1.0 - best));
        for (size_t i = 0; i < want_count; i++) CHECK(ids[i] == want[i]);
        llm_pieces_free(&p);
    }
}

TEST(unigram, "edges by hand: shortest first, then the unknown character; a USER piece wins") {
    llm_pieces p = llm_pieces_empty();
    llm_unigram_edge edge[6];
    CHECK(llm_pieces_put(&p, "<u>", 3, 0.0, LLM_PIECES_UNKNOWN, NULL));
    CHECK(llm_pieces_put(&p, "\xC3\xA9", 2, -2.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "ab", 2, -3.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "abc", 3, -1.5, LLM_PIECES_USER, NULL));
    CHECK(llm_pieces_put(&p, "abcd", 4, -1.0, LLM_PIECES_CONTROL, NULL));
    CHECK(llm_pieces_ready(&p, NULL));
    CHECK(llm_unigram_edges(edge, &p, "xabcd", 5, 1) == 3);
    CHECK(edge[0].end == 3 && edge[0].id == 2 && edge[0].score == -3.0);
    CHECK(edge[1].end == 4 && edge[1].id == 3 && edge[1].score == 3 * -2.0 - 0.1);
    CHECK(edge[2].end == 2 && edge[2].id == -1 && edge[2].score == -13.0);
    CHECK(llm_unigram_edges(edge, &p, "xabcd", 4, 1) == 3);
    CHECK(llm_unigram_edges(edge, &p, "xabcd", 3, 1) == 2);
    CHECK(llm_unigram_edges(edge, &p, "\xC3\xA9", 2, 0) == 1 && edge[0].id == 1);
    CHECK(llm_unigram_edges(edge, &p, "\xC3\xA8z", 3, 0) == 1);
    CHECK(edge[0].end == 2 && edge[0].id == -1); /* one character, not one byte */
    int ids[8];
    CHECK(unigram_encode(ids, NULL, &p, "xxab\xC3\xA8\xE2\x96z", 8, true) == 3);
    CHECK(ids[0] == 0 && ids[1] == 2 && ids[2] == 0);
    CHECK(unigram_encode(ids, NULL, &p, "", 0, true) == 0);
    /* a character that the end of the text cuts in two, though its last byte stands behind */
    CHECK(unigram_encode(ids, NULL, &p, "ab\xC3\xA9", 3, true) == 2 && ids[1] == 0);
    CHECK(unigram_encode(ids, NULL, &p, "ab\xE2\x96\x81", 3, true) == 2 && ids[1] == 0);
    llm_pieces none;
    memset(&none, 0, sizeof none);
    CHECK_ASSERTS(llm_unigram_encode(ids, NULL, NULL, &none, "", 0, true, NULL));
    llm_pieces_free(&p);
}

TEST(unigram, "the first id is a piece like any other, and the unknown one may be the last") {
    llm_pieces p = llm_pieces_empty();
    int ids[8];
    double score;
    CHECK(llm_pieces_put(&p, "a", 1, -1.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "b", 1, -2.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "<u>", 3, 0.0, LLM_PIECES_UNKNOWN, NULL));
    CHECK(llm_pieces_ready(&p, NULL));
    CHECK(unigram_encode(ids, &score, &p, "abxxa", 5, false) == 4 && score == -4.0 - 24.0);
    CHECK(ids[0] == 0 && ids[1] == 1 && ids[2] == 2 && ids[3] == 0);
    llm_pieces_free(&p);
}

/* Encodes into arrays of exactly `size`; the ids must be `count`, and end there. */
static void unigram_ends(const llm_pieces *p, const char *text, size_t size, size_t count,
                         const size_t *want) {
    llm_arena arena;
    int *ids = (int *)test_memory(size, sizeof *ids);
    size_t *end = (size_t *)test_memory(size, sizeof *end);
    CHECK(llm_arena_create(&arena, llm_unigram_scratch(p, size)));
    CHECK(llm_unigram_encode(ids, end, NULL, p, text, size, false, &arena) == count);
    for (size_t i = 0; i < count; i++) CHECK(end[i] == want[i]);
    llm_arena_destroy(&arena);
}

TEST(unigram, "ids end where their pieces do, unknown ones in a row and bytes behind the last") {
    llm_pieces p = llm_pieces_empty();
    CHECK(llm_pieces_put(&p, "<u>", 3, 0.0, LLM_PIECES_UNKNOWN, NULL));
    CHECK(llm_pieces_put(&p, "ab", 2, -1.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "c", 1, -1.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_ready(&p, NULL));
    const size_t known[4] = {1, 2, 3, 4}, mixed[4] = {2, 4, 5, 9};
    unigram_ends(&p, "cccc", 4, 4, known);
    unigram_ends(&p, "abxxcx\xC3\xA8x", 9, 4, mixed);
    for (int b = 0; b < 256; b++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)b);
        CHECK(llm_pieces_put(&p, text, 6, 0.0, LLM_PIECES_BYTE, NULL));
    }
    CHECK(llm_pieces_ready(&p, NULL));
    const size_t bytes[7] = {2, 2, 3, 6, 6, 6, 8}; /* two bytes, c, three bytes, ab */
    unigram_ends(&p,
                 "\xC3\xA8"
                 "c\xE4\xB8\xAD"
                 "ab",
                 8, 7, bytes);
    const size_t row[7] = {1, 5, 5, 5, 5, 6, 7}; /* unknown characters in a row end as one */
    unigram_ends(&p,
                 "c\xC3\xA8\xC3\xBC"
                 "cc",
                 7, 7, row);
    unigram_ends(&p, "c\xC3\xA8\xC3\xBC", 5, 5, row);
    llm_pieces first = llm_pieces_empty(); /* a piece with id 0 is none of them */
    CHECK(llm_pieces_put(&first, "a", 1, -1.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&first, "<u>", 3, 0.0, LLM_PIECES_UNKNOWN, NULL));
    CHECK(llm_pieces_ready(&first, NULL));
    const size_t between[4] = {1, 2, 4, 5};
    unigram_ends(&first, "aaxxa", 5, 4, between);
    llm_pieces_free(&first);
    llm_arena endless; /* says that it holds any size */
    memset(&endless, 0, sizeof endless);
    endless.size = SIZE_MAX / 2;
    CHECK_ASSERTS(llm_unigram_encode(NULL, NULL, NULL, &p, "", UINT32_MAX, true, &endless));
    llm_pieces_free(&p);
}

TEST(unigram, "with byte fallback nothing is lost, broken UTF-8 included, and 1 MB takes no time") {
    llm_pieces p = llm_pieces_empty();
    llm_rng rng = llm_rng_seed(2);
    for (int b = 0; b < 256; b++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)b);
        CHECK(llm_pieces_put(&p, text, 6, 0.0, LLM_PIECES_BYTE, NULL));
    }
    CHECK(llm_pieces_put(&p, "a", 1, -2.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "aaa", 3, -3.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "\xE2\x96\x81", 3, -3.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_ready(&p, NULL));
    for (size_t turn = 0; turn < 3000; turn++) {
        char text[40];
        int ids[120];
        const size_t size = llm_rng_below(&rng, 41);
        llm_buffer spelt = {NULL, 0, 0}, out = {NULL, 0, 0};
        for (size_t i = 0; i < size; i++)
            text[i] = llm_rng_below(&rng, 2) > 0 ? (char)("aa \xC3"[llm_rng_below(&rng, 4)])
                                                 : (char)(unsigned char)llm_rng_below(&rng, 256);
        CHECK(llm_pieces_spell(&spelt, text, size, false));
        const size_t count = unigram_encode(ids, NULL, &p, spelt.data, spelt.size, false);
        CHECK(llm_pieces_decode(&out, &p, ids, count) && out.size == size);
        CHECK(size == 0 || memcmp(out.data, text, size) == 0);
        llm_buffer_free(&spelt);
        llm_buffer_free(&out);
    }
    const size_t size = 1000000; /* "aaa" 333,333 times and "a" once, which comes first: a tie */
    char *text = (char *)test_memory(size, 1);
    int *ids = (int *)test_memory(size, sizeof *ids);
    double score;
    memset(text, 'a', size);
    CHECK(unigram_encode(ids, &score, &p, text, size, false) == 333334);
    CHECK_NEAR(score, -333333.0 * 3.0 - 2.0, 1e-6);
    CHECK(ids[0] == 256 && ids[1] == 257 && ids[333333] == 257);
    llm_pieces_free(&p);
}
