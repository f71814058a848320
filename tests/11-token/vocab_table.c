/* @vocab_table */
#include "../test.h"

/* malloc and its like that run out after a number of calls */
static int vocab_calls = 1 << 30;
static void *vocab_calloc(size_t n, size_t size) {
    return vocab_calls-- > 0 ? calloc(n, size) : NULL;
}
static void *vocab_realloc(void *p, size_t size) {
    return vocab_calls-- > 0 ? realloc(p, size) : NULL;
}
#define calloc vocab_calloc
#define realloc vocab_realloc

#include "../../llm.h"

enum { VOCAB_KEYS = 5000 };

/* Keys of 0 to 11 bytes from a small alphabet with 0 in it: many repeat, many begin others. */
static size_t vocab_key(char *key, llm_rng *rng) {
    static const char byte[5] = {0, 'a', 'b', '\n', (char)(unsigned char)0xFF};
    const size_t size = llm_rng_below(rng, 12) * llm_rng_below(rng, 2) + llm_rng_below(rng, 5);
    for (size_t i = 0; i < size; i++) key[i] = byte[llm_rng_below(rng, 5)];
    return size;
}

TEST(vocab_table, "ids, strings and look-ups are those of a linear scan") {
    static char all[VOCAB_KEYS][16];
    static size_t sizes[VOCAB_KEYS];
    llm_vocab_table t = llm_vocab_table_empty();
    llm_rng rng = llm_rng_seed(1);
    size_t count = 0;
    for (size_t turn = 0; turn < VOCAB_KEYS; turn++) {
        char *key = (char *)malloc(16);
        const size_t size = vocab_key(key, &rng);
        char *exact = (char *)test_memory(size, 1); /* reading on is noticed */
        memcpy(exact, key, size);
        free(key);
        size_t id = 0;
        while (id < count && !(sizes[id] == size && memcmp(all[id], exact, size) == 0)) id++;
        CHECK(llm_vocab_table_find(&t, exact, size) == (id < count ? (int)id : -1));
        if (turn % 3 > 0) {
            CHECK(llm_vocab_table_add(&t, exact, size) == (int)id);
            sizes[id] = size;
            memcpy(all[id], exact, size);
            if (id == count) count++;
        } else if (turn % 100 == 0) { /* an id without a string */
            CHECK(llm_vocab_table_skip(&t));
            sizes[count++] = 99; /* like no key */
        }
        CHECK(t.count == count && 2 * t.count <= t.slots + 2);
    }
    CHECK(count > 1500);
    for (size_t id = 0; id < count; id++) {
        size_t size;
        const char *bytes = llm_vocab_table_bytes(&t, id, &size);
        CHECK(size == (sizes[id] == 99 ? 0 : sizes[id]));
        CHECK(memcmp(bytes, all[id], size) == 0);
    }
    size_t size;
    CHECK_ASSERTS(llm_vocab_table_bytes(&t, count, &size));
    llm_vocab_table_free(&t);
    CHECK(t.count == 0 && t.slots == 0 && llm_vocab_table_find(&t, "a", 1) == -1);
    llm_vocab_table_free(&t);
}

TEST(vocab_table, "the first id, the empty string, and the most ids") {
    llm_vocab_table t = llm_vocab_table_empty();
    size_t size = 9;
    CHECK(llm_vocab_table_skip(&t));
    const char *none = llm_vocab_table_bytes(&t, 0, &size);
    CHECK(none && size == 0 && llm_vocab_table_find(&t, "", 0) == -1);
    llm_vocab_table_free(&t);
    CHECK(llm_vocab_table_add(&t, "x", 1) == 0 && llm_vocab_table_add(&t, "x", 1) == 0);
    CHECK(llm_vocab_table_add(&t, "", 0) == 1 && llm_vocab_table_find(&t, "", 0) == 1);
    CHECK(llm_vocab_table_add(&t, "x", 1) == 0 && t.count == 2);
    llm_vocab_table_free(&t);
    t.count = INT_MAX / 4; /* ids are int, slots are uint32_t: no more than this */
    CHECK(!llm_vocab_table_skip(&t) && llm_vocab_table_add(&t, "x", 1) == -1);
    t.count = INT_MAX / 4 - 1, t.capacity = t.slots = INT_MAX; /* one more, if there were room */
    CHECK(llm_vocab_table_grow(&t));
}

TEST(vocab_table, "the hash is FNV-1a, its halves folded") {
    /* the published values of the 64-bit FNV-1a of "", "a" and "foobar" */
    const uint64_t fnv[3] = {0xcbf29ce484222325u, 0xaf63dc4c8601ec8cu, 0x85944171f73967e8u};
    const char *text[3] = {"", "a", "foobar"};
    for (size_t i = 0; i < 3; i++)
        CHECK(llm_vocab_table_hash(text[i], strlen(text[i])) == (size_t)(fnv[i] ^ fnv[i] >> 32));
    /* 100,000 numbers as strings: the longest run of full slots stays short */
    llm_vocab_table t = llm_vocab_table_empty();
    for (int i = 0; i < 100000; i++) {
        char key[12];
        const int n = snprintf(key, sizeof key, "%d", i);
        CHECK(llm_vocab_table_add(&t, key, (size_t)n) == i);
    }
    size_t run = 0, longest = 0;
    for (size_t s = 0; s < t.slots; s++) {
        run = t.slot[s] ? run + 1 : 0;
        if (run > longest) longest = run;
    }
    CHECK(longest < 60); /* 21 to 28 for eight tables like this one */
    llm_vocab_table_free(&t);
}

TEST(vocab_table, "when memory is out, nothing changes and nothing leaks") {
    for (int calls = 0; calls < 40; calls++) {
        llm_vocab_table t = llm_vocab_table_empty();
        vocab_calls = calls;
        int id = 0;
        for (int i = 0; i < 3000 && id >= 0; i++) {
            char key[12];
            const int n = snprintf(key, sizeof key, "%d", i);
            id = (i + calls) % 2 ? (llm_vocab_table_skip(&t) ? i : -1)
                                 : llm_vocab_table_add(&t, key, (size_t)n);
            CHECK(id == (id < 0 ? -1 : i) && t.count == (size_t)(id < 0 ? i : i + 1));
        }
        CHECK(id < 0 || calls > 15);
        vocab_calls = 1 << 30;
        for (int i = 0; (size_t)i < t.count; i++) {
            char key[12];
            const int n = snprintf(key, sizeof key, "%d", i);
            CHECK(llm_vocab_table_find(&t, key, (size_t)n) == ((i + calls) % 2 ? -1 : i));
        }
        llm_vocab_table_free(&t);
    }
}
