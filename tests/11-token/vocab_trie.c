/* @vocab_trie */
#include "../test.h"

/* malloc and its like that fail once, after a number of calls */
static int trie_calls = 1 << 30;
static void *trie_calloc(size_t n, size_t size) {
    return trie_calls-- != 0 ? calloc(n, size) : NULL;
}
static void *trie_realloc(void *p, size_t size) {
    return trie_calls-- != 0 ? realloc(p, size) : NULL;
}
#define calloc trie_calloc
#define realloc trie_realloc

#include "../../llm.h"

/* Longest and all against the table's hash, asked for every prefix of the text. */
static void trie_check(const llm_vocab_trie *trie, const llm_vocab_table *table, const char *text,
                       size_t size) {
    char *exact = (char *)test_memory(size, 1); /* reading on is noticed */
    int *ids = (int *)test_memory(trie->longest, sizeof *ids), last = -1;
    size_t *lengths = (size_t *)test_memory(trie->longest, sizeof *lengths), n = 0, longest = 9;
    memcpy(exact, text, size);
    const size_t count = llm_vocab_trie_all(trie, exact, size, ids, lengths);
    for (size_t length = 1; length <= size; length++) {
        const int id = llm_vocab_table_find(table, exact, length);
        if (id < 0) continue;
        CHECK(n < count && ids[n] == id && lengths[n] == length);
        last = id;
        n++;
    }
    CHECK(n == count && llm_vocab_trie_longest(trie, exact, size, &longest) == last);
    CHECK(longest == (count > 0 ? lengths[count - 1] : 0));
    memset(ids, 0, trie->longest * sizeof *ids);
    CHECK(llm_vocab_trie_all(trie, exact, size, ids, NULL) == count);
    CHECK(count == 0 || ids[count - 1] == last);
}

TEST(vocab_trie, "by hand: prefixes of prefixes, zero bytes, bytes from 128 on") {
    llm_vocab_table table = llm_vocab_table_empty();
    llm_vocab_trie trie;
    const struct {
        const char *bytes;
        size_t size;
    } key[8] = {{"a", 1},  {"abc", 3},  {"ab\0c", 4}, {"", 0},
                {"\0", 1}, {"\0\0", 2}, {"\xFF", 1},  {"\xFF\x80", 2}};
    for (int i = 0; i < 8; i++) CHECK(llm_vocab_table_add(&table, key[i].bytes, key[i].size) == i);
    CHECK(llm_vocab_trie_build(&trie, &table) && trie.longest == 4);
    int ids[4];
    size_t length[4];
    CHECK(llm_vocab_trie_all(&trie, "abcd", 4, ids, length) == 2 && ids[0] == 0 && ids[1] == 1);
    CHECK(length[0] == 1 && length[1] == 3);
    CHECK(llm_vocab_trie_longest(&trie, "ab\0c", 4, length) == 2 && length[0] == 4);
    CHECK(llm_vocab_trie_longest(&trie, "ab\0c", 3, length) == 0 && length[0] == 1);
    CHECK(llm_vocab_trie_longest(&trie, "\0\0\0", 3, length) == 5 && length[0] == 2);
    CHECK(llm_vocab_trie_longest(&trie, "\xFF\x80\x80", 3, length) == 7 && length[0] == 2);
    CHECK(llm_vocab_trie_longest(&trie, "b", 1, length) == -1 && length[0] == 0);
    CHECK(llm_vocab_trie_longest(&trie, "", 0, length) == -1 && length[0] == 0);
    const uint32_t a = llm_vocab_trie_step(&trie, 0, 'a'), b = llm_vocab_trie_step(&trie, a, 'b');
    CHECK(a > 0 && b > 0 && b != a && trie.cell[a].id == 0 && trie.cell[b].id == -1);
    CHECK(trie.cell[0].id == -1 && llm_vocab_trie_step(&trie, b, 'b') == 0);
    llm_vocab_trie_free(&trie);
    CHECK(trie.cells == 0 && trie.longest == 0 && !trie.cell);
    llm_vocab_table_free(&table);
    CHECK(llm_vocab_trie_build(&trie, &table) && trie.longest == 0);
    CHECK(llm_vocab_trie_all(&trie, "abc", 3, ids, length) == 0);
    for (int byte = 0; byte < 256; byte++)
        CHECK(llm_vocab_trie_step(&trie, 0, (unsigned char)byte) == 0);
    llm_vocab_trie_free(&trie);
}

TEST(vocab_trie, "longest match and all prefixes are those that the table knows, 50,000 keys") {
    llm_rng rng = llm_rng_seed(1);
    for (size_t turn = 0; turn < 3; turn++) { /* few letters: deep; all bytes: wide */
        enum { KEYS = 50000, MOST = 24 };
        const size_t letters = turn == 0 ? 2 : turn == 1 ? 20 : 256, keys = turn == 0 ? 500 : KEYS;
        char text[MOST];
        llm_vocab_table table = llm_vocab_table_empty();
        llm_vocab_trie trie;
        while (table.count < keys) {
            const size_t size = 1 + llm_rng_below(&rng, turn == 0 ? 12 : 6);
            for (size_t i = 0; i < size; i++) text[i] = (char)llm_rng_below(&rng, letters);
            CHECK(llm_vocab_table_add(&table, text, size) >= 0);
        }
        CHECK(llm_vocab_trie_build(&trie, &table));
        for (size_t query = 0; query < 4000; query++) {
            const size_t size = llm_rng_below(&rng, MOST + 1);
            size_t i = 0, key_size;
            if (query % 2 > 0) { /* a key, and something behind it */
                const char *key =
                    llm_vocab_table_bytes(&table, llm_rng_below(&rng, keys), &key_size);
                for (; i < size && i < key_size; i++) text[i] = key[i];
            }
            for (; i < size; i++) text[i] = (char)llm_rng_below(&rng, letters);
            trie_check(&trie, &table, text, size);
        }
        for (size_t id = 0, size, length; id < keys; id++) {
            const char *key = llm_vocab_table_bytes(&table, id, &size);
            CHECK(llm_vocab_trie_longest(&trie, key, size, &length) == (int)id && length == size);
        }
        llm_vocab_trie_free(&trie);
        llm_vocab_table_free(&table);
    }
}

TEST(vocab_trie, "every cell is the root, free, or the one child of its parent; few are free") {
    llm_rng rng = llm_rng_seed(2);
    llm_vocab_table table = llm_vocab_table_empty();
    llm_vocab_trie trie;
    while (table.count < 30000) {
        char text[8];
        const size_t size = 1 + llm_rng_below(&rng, 8);
        for (size_t i = 0; i < size; i++) text[i] = (char)('a' + (int)llm_rng_below(&rng, 26));
        CHECK(llm_vocab_table_add(&table, text, size) >= 0);
    }
    CHECK(llm_vocab_trie_build(&trie, &table) && trie.longest == 8);
    size_t used = 1, last = 0, ends = 0;
    for (size_t s = 1; s < trie.cells; s++) {
        const llm_vocab_trie_cell cell = trie.cell[s];
        CHECK((size_t)cell.base + 256 <= trie.cells);
        if (cell.parent == UINT32_MAX) {
            CHECK(cell.base == 0 && cell.id == -1);
            continue;
        }
        const uint32_t base = trie.cell[cell.parent].base;
        CHECK(base > 0 && s - base < 256);
        CHECK(llm_vocab_trie_step(&trie, cell.parent, (unsigned char)(s - base)) == s);
        CHECK(cell.base > 0 || cell.id >= 0); /* a leaf is a string */
        ends += cell.id >= 0;
        used++;
        last = s;
    }
    CHECK(ends == 30000);
    CHECK((double)used > 0.9 * (double)last); /* without the search for gaps it is below half */
    llm_vocab_trie_free(&trie);
    llm_vocab_table_free(&table);
}

TEST(vocab_trie, "when memory is out there is no trie and nothing leaks") {
    llm_vocab_table table = llm_vocab_table_empty();
    for (int i = 0; i < 3000; i++) {
        char text[8];
        const int size = snprintf(text, sizeof text, "%d", i);
        CHECK(llm_vocab_table_add(&table, text, (size_t)size) == i);
    }
    llm_vocab_trie trie;
    int calls = 0;
    for (bool ok = false; !ok; calls++) {
        trie_calls = calls;
        ok = llm_vocab_trie_build(&trie, &table);
        CHECK(ok == (trie_calls >= 0)); /* whatever fails is told */
        trie_calls = 1 << 30;
        if (!ok) CHECK(!trie.cell && trie.cells == 0 && trie.longest == 0);
        for (size_t id = 0, size, length; id < 3000 && ok; id++) { /* nothing is left out */
            const char *key = llm_vocab_table_bytes(&table, id, &size);
            CHECK(llm_vocab_trie_longest(&trie, key, size, &length) == (int)id && length == size);
        }
        llm_vocab_trie_free(&trie);
    }
    CHECK(calls > 8);
    llm_vocab_table_free(&table);
}

TEST(vocab_trie, "more cells or nodes than their numbers can say are not asked for") {
    llm_vocab_trie trie;
    memset(&trie, 0, sizeof trie);
    trie_calls = 0;
    CHECK(!llm_vocab_trie_grow(&trie, UINT32_MAX - 200) && trie_calls == 0);
    CHECK(!llm_vocab_trie_grow(&trie, UINT32_MAX / 4) && trie_calls == -1); /* only no memory */
    llm_vocab_trie_node root = {0, 0, 0, -1, 0};
    llm_buffer nodes = {NULL, 0, 0};
    nodes.data = (char *)(void *)&root;
    nodes.size = (size_t)UINT32_MAX * sizeof root;
    trie_calls = 0;
    CHECK(!llm_vocab_trie_insert(&nodes, "a", 1, 0) && trie_calls == 0);
    nodes.size -= sizeof root; /* the last one would have a number */
    CHECK(!llm_vocab_trie_insert(&nodes, "a", 1, 0) && trie_calls == -1);
}
