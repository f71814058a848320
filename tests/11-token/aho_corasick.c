/* @aho_corasick */
#include "../test.h"

/* malloc and its like that run out after a number of calls */
static int aho_calls = 1 << 30;
static void *aho_calloc(size_t n, size_t size) { return aho_calls-- > 0 ? calloc(n, size) : NULL; }
static void *aho_realloc(void *p, size_t size) { return aho_calls-- > 0 ? realloc(p, size) : NULL; }
#define calloc aho_calloc
#define realloc aho_realloc

#include "../../llm.h"

static llm_aho_corasick aho_of(llm_vocab_table *table, const char *const *string, size_t n) {
    llm_aho_corasick a;
    *table = llm_vocab_table_empty();
    for (size_t i = 0; i < n; i++)
        CHECK(llm_vocab_table_add(table, string[i], strlen(string[i])) == (int)i);
    CHECK(llm_aho_corasick_build(&a, table));
    return a;
}

TEST(aho_corasick, "by hand: he, she, his, hers, the example of Aho and Corasick") {
    const char *string[5] = {"he", "she", "his", "hers", ""};
    llm_vocab_table table;
    llm_aho_corasick a = aho_of(&table, string, 5);
    size_t count[5] = {0}, start = 9, length = 9;
    llm_aho_corasick_count(count, &a, "ushers", 6);
    CHECK(count[0] == 1 && count[1] == 1 && count[2] == 0 && count[3] == 1 && count[4] == 0);
    CHECK(llm_aho_corasick_find(&a, "ushers", 6, 0, &start, &length) == 1);
    CHECK(start == 1 && length == 3); /* she begins before hers */
    CHECK(llm_aho_corasick_find(&a, "ushers", 6, 2, &start, &length) == 3);
    CHECK(start == 2 && length == 4); /* hers is longer than he */
    CHECK(llm_aho_corasick_find(&a, "ushers", 5, 2, &start, &length) == 0 && length == 2);
    CHECK(llm_aho_corasick_find(&a, "ushers", 6, 3, &start, &length) == -1);
    CHECK(llm_aho_corasick_find(&a, "", 0, 0, &start, &length) == -1);
    uint32_t sh = llm_aho_corasick_step(&a, llm_aho_corasick_step(&a, 0, 's'), 'h');
    const uint32_t h = llm_aho_corasick_step(&a, 0, 'h');
    CHECK(a.state[sh].fail == h && a.state[sh].depth == 2 && a.state[sh].out == 0);
    CHECK(a.state[h].fail == 0 &&
          llm_aho_corasick_step(&a, sh, 'i') == llm_aho_corasick_step(&a, h, 'i'));
    CHECK(llm_aho_corasick_step(&a, sh, 'x') == 0);
    llm_aho_corasick_free(&a);
    CHECK(!a.state && !a.trie.cell);
    llm_vocab_table_free(&table);
}

TEST(aho_corasick, "finds and counts what a search for every string at every place does") {
    llm_rng rng = llm_rng_seed(1);
    size_t hits = 0;
    for (size_t turn = 0; turn < 3000; turn++) {
        llm_vocab_table table = llm_vocab_table_empty();
        llm_aho_corasick a;
        const size_t letters = 1 + llm_rng_below(&rng, 4), strings = llm_rng_below(&rng, 12);
        for (size_t k = 0; k < strings; k++) {
            char text[8];
            const size_t size = 1 + llm_rng_below(&rng, turn % 2 ? 3 : 8);
            for (size_t i = 0; i < size; i++) text[i] = (char)(254 + llm_rng_below(&rng, letters));
            CHECK(llm_vocab_table_add(&table, text, size) >= 0);
        }
        CHECK(llm_aho_corasick_build(&a, &table));
        const size_t size = llm_rng_below(&rng, 40), from = llm_rng_below(&rng, size + 1);
        char *text = (char *)malloc(size + !size);
        size_t want[12] = {0}, got[12] = {0}, start = 0, length = 0, first = SIZE_MAX, longest = 0;
        CHECK(text);
        for (size_t i = 0; i < size; i++) text[i] = (char)(254 + llm_rng_below(&rng, letters));
        int best = -1;
        for (size_t i = 0; i < size; i++)
            for (size_t k = 0, n; k < table.count; k++) {
                const char *string = llm_vocab_table_bytes(&table, k, &n);
                if (n > size - i || memcmp(string, text + i, n) != 0) continue;
                want[k]++;
                if (i < from || i > first || (i == first && n < longest)) continue;
                best = (int)k, first = i, longest = n;
            }
        llm_aho_corasick_count(got, &a, text, size);
        for (size_t k = 0; k < table.count; k++) CHECK(got[k] == want[k]);
        CHECK(llm_aho_corasick_find(&a, text, size, from, &start, &length) == best);
        if (best >= 0) CHECK(start == first && length == longest);
        hits += best >= 0;
        free(text);
        llm_aho_corasick_free(&a);
        llm_vocab_table_free(&table);
    }
    CHECK(hits > 1000);
}

TEST(aho_corasick, "a thousand strings of one letter and another behind, on a long run: in time") {
    llm_vocab_table table = llm_vocab_table_empty();
    llm_aho_corasick a;
    enum { SIZE = 1000000 };
    char *text = (char *)test_memory(SIZE, 1);
    size_t start, length, *count = (size_t *)test_memory(1000, sizeof *count);
    memset(text, 'a', SIZE);
    for (size_t size = 1; size <= 1000; size++) { /* b, ab, aab, ... */
        text[size - 1] = 'b';
        CHECK(llm_vocab_table_add(&table, text, size) >= 0);
        text[size - 1] = 'a';
    }
    CHECK(llm_aho_corasick_build(&a, &table));
    CHECK(llm_aho_corasick_find(&a, text, SIZE, 0, &start, &length) == -1);
    text[SIZE - 1] = 'b';
    CHECK(llm_aho_corasick_find(&a, text, SIZE, 0, &start, &length) == 999);
    CHECK(start == SIZE - 1000 && length == 1000);
    llm_aho_corasick_count(count, &a, text, SIZE);
    for (size_t k = 0; k < 1000; k++) CHECK(count[k] == 1);
    llm_aho_corasick_free(&a);
    llm_vocab_table_free(&table);
}

TEST(aho_corasick, "no strings find nothing; no memory, no automaton") {
    llm_vocab_table table = llm_vocab_table_empty();
    llm_aho_corasick a;
    size_t start, length, count[1] = {0};
    CHECK(llm_aho_corasick_build(&a, &table));
    CHECK(llm_aho_corasick_find(&a, "abc", 3, 0, &start, &length) == -1);
    llm_aho_corasick_free(&a);
    CHECK(llm_vocab_table_add(&table, "abc", 3) == 0);
    int calls = 0;
    for (bool ok = false; !ok; calls++) {
        memset(&a, 0xAA, sizeof a); /* it may hold anything before */
        aho_calls = calls;
        ok = llm_aho_corasick_build(&a, &table);
        aho_calls = 1 << 30;
        CHECK(ok || (!a.state && !a.trie.cell));
    }
    CHECK(calls > 4);
    llm_aho_corasick_count(count, &a, "abcabc", 6);
    CHECK(count[0] == 2);
    llm_aho_corasick_free(&a);
    llm_vocab_table_free(&table);
}
