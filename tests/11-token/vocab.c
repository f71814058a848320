/* @vocab */
#include "../test.h"

/* memory that fails once, after a number of calls; no bytes are NULL, as C allows */
static int vocab_calls = 1 << 30;
static void *vocab_calloc(size_t n, size_t size) {
    return vocab_calls-- != 0 && n > 0 ? calloc(n, size) : NULL;
}
static void *vocab_realloc(void *p, size_t size) {
    return vocab_calls-- != 0 ? realloc(p, size) : NULL;
}
#define calloc vocab_calloc
#define realloc vocab_realloc

#include "../../llm.h"

#include "../tiny_hostile.h"

static void vocab_words(llm_vocab_counts *c) {
    static char text[TINY_HOSTILE_MOST];
    for (size_t g = 0; g < TINY_HOSTILE_GROUPS; g++)
        for (size_t i = 0; i < TINY_HOSTILE_EACH; i++) {
            const size_t size = tiny_hostile(text, g, i);
            for (size_t at = 0, n; at < size; at += n) {
                n = llm_token_next(text + at, size - at, LLM_TOKEN_WORD);
                CHECK(llm_vocab_count(c, text + at, n, 1));
            }
        }
}

TEST(vocab, "words of the hostile strings are counted, sorted and cut as by Python") {
    static const char *const special[4][3] = {
        {NULL, NULL, NULL}, {"<unk>", "the", NULL}, {"<unk>", "<s>", "</s>"}, {"a", NULL, NULL}};
    static const size_t specials[4] = {0, 2, 3, 1}, most[4] = {1000000, 1000000, 100, 60};
    static const uint64_t least[4] = {1, 2, 1, 5};
    llm_vocab_counts c;
    memset(&c, 0, sizeof c);
    vocab_words(&c);
    CHECK_NEAR(c.word.count, golden("all/words")[0], 0);
    for (size_t i = 0; i < 4; i++) {
        llm_vocab_table v = llm_vocab_table_empty();
        CHECK(llm_vocab_from_counts(&v, &c, special[i], specials[i], least[i], most[i]));
        CHECK_NEAR(v.count, golden("case%zu/ids", i)[0], 0);
        CHECK_NEAR(llm_vocab_known(&v, &c), golden("case%zu/known", i)[0], 1e-7);
        uint32_t hash = 2166136261u, out[TINY_HOSTILE_MOST + 1];
        for (size_t id = 0; id < v.count; id++) {
            size_t size;
            const char *bytes = llm_vocab_table_bytes(&v, id, &size);
            out[0] = (uint32_t)tiny_hostile_bytes(out + 1, bytes, size, NULL);
            hash = tiny_hostile_hash(hash, out, size + 1);
            if (i == 0 && id < 40) {
                const int word = llm_vocab_table_find(&c.word, bytes, size);
                CHECK_NEAR(llm_vocab_count_of(&c, (size_t)word), golden("all/count")[id], 0);
            }
        }
        CHECK_NEAR((hash ^ hash >> 24) & 0xFFFFFF, golden("case%zu/hash", i)[0], 0);
        llm_vocab_table_free(&v);
    }
    llm_vocab_counts_free(&c);
    CHECK(c.word.count == 0 && c.count.size == 0);
}

TEST(vocab, "ties are broken by bytes, unsigned, shorter first; counts add up") {
    static const char *const word[6] = {"b", "ab", "\xC3\xA9", "a", "abc", "B"};
    static const size_t want[6] = {4, 5, 3, 1, 0, 2}; /* abc by its count, then B a ab b e-acute */
    llm_vocab_counts c;
    memset(&c, 0, sizeof c);
    for (size_t i = 0; i < 6; i++) CHECK(llm_vocab_count(&c, word[i], strlen(word[i]), 2));
    CHECK(llm_vocab_count(&c, "abc", 3, UINT32_MAX));
    CHECK(llm_vocab_count_of(&c, 4) == (uint64_t)UINT32_MAX + 2 && llm_vocab_count_of(&c, 0) == 2);
    for (size_t n = 0; n <= 6; n++) { /* the first n words only, sorted */
        size_t order[7] = {9, 9, 9, 9, 9, 9, 9}, scratch[6], k = 0;
        llm_vocab_order(order, scratch, &c, n);
        for (size_t i = 0; i < 6; i++)
            if (want[i] < n) CHECK(order[k++] == want[i]);
        CHECK(k == n && order[n] == 9);
    }
    llm_vocab_table v = llm_vocab_table_empty();
    const char *const twice[2] = {"<s>", "<s>"};
    CHECK(!llm_vocab_from_counts(&v, &c, twice, 2, 1, 100) && v.count == 0);
    CHECK(!llm_vocab_from_counts(&v, &c, word, 3, 1, 2) && v.count == 0);
    CHECK(llm_vocab_from_counts(&v, &c, word, 3, 3, 3) && v.count == 3);
    llm_vocab_table_free(&v);
    CHECK(llm_vocab_from_counts(&v, &c, NULL, 0, 3, 100) && v.count == 1);
    CHECK_ASSERTS(llm_vocab_from_counts(&v, &c, NULL, 0, 3, 100)); /* not empty */
    CHECK_ASSERTS(llm_vocab_count_of(&c, 6));
    llm_vocab_table_free(&v);
    llm_vocab_counts_free(&c);
    CHECK(llm_vocab_from_counts(&v, &c, NULL, 0, 1, 100) && v.count == 0);
    CHECK(llm_vocab_known(&v, &c) == 0.0);
    CHECK(llm_vocab_table_add(&v, "a", 1) == 0 && llm_vocab_count(&c, "a", 1, 1));
    CHECK(llm_vocab_known(&v, &c) == 1.0); /* of one word, seen once */
    llm_vocab_table_free(&v);
    llm_vocab_counts_free(&c);
}

TEST(vocab, "ids are translated by their strings, and rows move along") {
    static const char *const old[5] = {"<unk>", "the", "cat", "sat", "dog"};
    static const char *const now[4] = {"dog", "<unk>", "bird", "the"};
    llm_vocab_table a = llm_vocab_table_empty(), b = llm_vocab_table_empty();
    for (size_t i = 0; i < 5; i++) CHECK(llm_vocab_table_add(&a, old[i], strlen(old[i])) >= 0);
    for (size_t i = 0; i < 4; i++) CHECK(llm_vocab_table_add(&b, now[i], strlen(now[i])) >= 0);
    CHECK(llm_vocab_table_skip(&b)); /* an id without a string, and the empty string as one */
    CHECK(llm_vocab_table_add(&a, "", 0) == 5);
    int from[5], to[6];
    llm_vocab_map(from, &b, &a);
    llm_vocab_map(to, &a, &b);
    static const int want_from[5] = {4, 0, -1, 1, -1}, want_to[6] = {1, 3, -1, -1, 0, -1};
    for (size_t i = 0; i < 5; i++) CHECK(from[i] == want_from[i]);
    for (size_t i = 0; i < 6; i++) CHECK(to[i] == want_to[i]);

    const size_t V = 6, C = 3;
    float *w = floats(V * C), *out = floats(5 * C), *x = floats(C);
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, w, V * C);
    llm_rng_normal_fill(&rng, x, C);
    llm_vocab_resize_rows(out, w, from, 5, V, C);
    double mean = 0.0;
    for (size_t i = 0; i < V; i++) mean += dot(w + i * C, x, C) / (double)V;
    for (size_t i = 0; i < 5; i++)
        if (from[i] >= 0)
            CHECK_ALL_NEAR(out + i * C, w + (size_t)from[i] * C, C, 0);
        else
            CHECK_NEAR(dot(out + i * C, x, C), mean, 1e-6); /* its logit is the mean logit */
    llm_vocab_table_free(&a);
    llm_vocab_table_free(&b);
}

TEST(vocab, "rows grow and shrink, the new ones at the mean exactly") {
    for (size_t V = 1; V < 6; V++)
        for (size_t V_new = 0; V_new < 8; V_new++) {
            const size_t C = 2;
            float *w = floats(V * C), *out = floats(V_new * C);
            for (size_t i = 0; i < V; i++) w[i * C] = (float)(i * i), w[i * C + 1] = 1.0f;
            llm_vocab_resize_rows(out, w, NULL, V_new, V, C);
            const double mean = (double)((V - 1) * (2 * V - 1)) / 6.0; /* of 0, 1, 4, 9, ... */
            for (size_t i = 0; i < V_new; i++) {
                CHECK_NEAR(out[i * C], i < V ? (float)(i * i) : (float)mean, 0);
                CHECK_NEAR(out[i * C + 1], 1.0f, 0);
            }
        }
    float one = 1.0f, out[2];
    const int far = 1;
    CHECK_ASSERTS(llm_vocab_resize_rows(out, &one, NULL, 1, 0, 1));
    CHECK_ASSERTS(llm_vocab_resize_rows(out, &one, &far, 1, 1, 1));
    float big[2] = {3e38f, 3e38f}; /* the sum is held in double */
    const int none = -1;
    llm_vocab_resize_rows(out, big, &none, 1, 2, 1);
    CHECK_NEAR(out[0], 3e38f, 0);
}

TEST(vocab, "when memory is out, nothing is half done and nothing leaks") {
    bool ok = false;
    for (int calls = 0; !ok; calls++) {
        llm_vocab_counts c;
        llm_vocab_table v = llm_vocab_table_empty();
        memset(&c, 0, sizeof c);
        vocab_calls = calls;
        ok = true;
        for (int i = 0; i < 300 && ok; i++) {
            char key[12];
            const int n = snprintf(key, sizeof key, "%d", i);
            ok = llm_vocab_count(&c, key, (size_t)n, 1);
            CHECK(c.count.size / sizeof(uint64_t) == c.word.count);
        }
        if (ok) ok = llm_vocab_from_counts(&v, &c, NULL, 0, 1, 1000);
        CHECK(ok ? v.count == 300 : v.count == 0);
        CHECK(!ok || calls > 10);
        CHECK(ok == (vocab_calls >= 0)); /* whatever fails is told */
        vocab_calls = 1 << 30;
        llm_vocab_table_free(&v);
        llm_vocab_counts_free(&c);
    }
}
