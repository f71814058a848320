/* @unigram_seed */
#include "../test.h"

/* malloc and its like that fail once, after a number of calls */
static int seed_calls = 1 << 30;
static void *seed_calloc(size_t n, size_t size) {
    return seed_calls-- != 0 ? calloc(n, size) : NULL;
}
static void *seed_realloc(void *p, size_t size) {
    return seed_calls-- != 0 ? realloc(p, size) : NULL;
}
#define calloc seed_calloc
#define realloc seed_realloc

#include "../../llm.h"

typedef llm_unigram_seed_part seed_part;

static size_t seed_run(seed_part **list, llm_buffer *seed, const llm_bpe_train_words *words,
                       size_t most) {
    seed->size = 0;
    CHECK(llm_unigram_seed(seed, words, most));
    *list = (seed_part *)(void *)seed->data;
    return seed->size / sizeof(seed_part);
}

/* Adds a word `count` times. */
static void seed_word(llm_bpe_train_words *words, const char *text, size_t size, uint64_t count) {
    const size_t known = words->word.count;
    const uint64_t none = 0;
    const int id = llm_vocab_table_add(&words->word, text, size);
    CHECK(id >= 0);
    if ((size_t)id == known) CHECK(llm_buffer_put(&words->count, &none, sizeof none));
    ((uint64_t *)(void *)words->count.data)[id] += count;
}

TEST(unigram_seed, "by hand: what cannot be prolonged, counts times characters, largest first") {
    llm_bpe_train_words words = llm_bpe_train_words_empty();
    llm_buffer seed = {NULL, 0, 0};
    seed_part *s;
    seed_word(&words, "lower", 5, 2);
    seed_word(&words, "low", 3, 5);
    seed_word(&words, "newer", 5, 1);
    /* l o w e r n: 7 7 8 4 3 1; low 7 lower 2 ow 7 (as long as low: w is not its only end) ... */
    const size_t n = seed_run(&s, &seed, &words, 100);
    const struct {
        const char *text;
        uint64_t count;
    } want[15] = {{"e", 4},   {"l", 7},  {"n", 1},     {"o", 7},   {"r", 3},    {"w", 8},
                  {"low", 7}, {"ow", 7}, {"lower", 2}, {"wer", 3}, {"ower", 2}, {"er", 3}};
    size_t found = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < 12; k++)
            if (s[i].size == strlen(want[k].text) && !memcmp(s[i].text, want[k].text, s[i].size)) {
                CHECK(s[i].count == want[k].count && s[i].characters == s[i].size);
                found++;
            }
    CHECK(found == 12 && n == 12);
    CHECK(s[6].count == 7 && s[6].size == 3 && s[7].count * s[7].size == 14);
    CHECK(seed_run(&s, &seed, &words, 1) == 7 && s[6].size == 3);
    CHECK(seed_run(&s, &seed, &words, 0) == 6);
    llm_buffer_free(&seed);
    llm_bpe_train_words_free(&words);
}

TEST(unigram_seed, "a character that the end of a part cuts in two is a byte without the rest") {
    const char *text = "x\xC3\xA9";
    const seed_part cut = {text, 2, 2, 0}, whole = {text, 3, 2, 0};
    CHECK(llm_unigram_seed_common(cut, cut).size == 2);
    CHECK(llm_unigram_seed_common(cut, whole).size == 2);
    CHECK(llm_unigram_seed_common(whole, cut).size == 1);
    CHECK(llm_unigram_seed_common(whole, whole).size == 3);
    llm_buffer parts = {NULL, 0, 0};
    char *exact = (char *)test_memory(2, 1); /* reading on is noticed */
    memcpy(exact, text, 2);
    CHECK(llm_unigram_seed_suffixes(&parts, exact, 2, 1) && parts.size == 2 * sizeof(seed_part));
    llm_buffer_free(&parts);
}

TEST(unigram_seed, "candidates are the substrings that no next character keeps, by counting all") {
    llm_rng rng = llm_rng_seed(1);
    const char *letter[4] = {"a", "b", "\xC3\xA9", "\xE2\x96\x81"};
    for (size_t turn = 0; turn < 200; turn++) {
        llm_bpe_train_words words = llm_bpe_train_words_empty(), all = llm_bpe_train_words_empty();
        const size_t letters = 1 + llm_rng_below(&rng, 4), list = 1 + llm_rng_below(&rng, 20);
        for (size_t w = 0; w < list; w++) {
            char text[128];
            size_t size = 0, at[32];
            const size_t length = 1 + llm_rng_below(&rng, turn % 8 ? 8 : 24);
            const uint64_t count = 1 + llm_rng_below(&rng, 3);
            for (size_t i = 0; i <= length; i++) {
                const char *c = letter[llm_rng_below(&rng, letters)];
                at[i] = size;
                if (i == length) break;
                memcpy(text + size, c, strlen(c));
                size += strlen(c);
            }
            seed_word(&words, text, size, count);
            for (size_t i = 0; i < length; i++) /* with what follows: the end is a character too */
                for (size_t k = i + 1; k <= length && k - i <= 16; k++)
                    seed_word(&all, text + at[i], at[k] - at[i], count);
        }
        llm_buffer seed = {NULL, 0, 0};
        seed_part *s;
        const size_t n = seed_run(&s, &seed, &words, 100000);
        const uint64_t *counts = (const uint64_t *)(const void *)all.count.data;
        size_t want = 0;
        for (size_t id = 0, size; id < all.word.count; id++) {
            const char *text = llm_vocab_table_bytes(&all.word, id, &size);
            size_t characters = 0;
            for (size_t i = 0; i < size; i++) characters += (text[i] & 0xC0) != 0x80;
            bool longer = false; /* occurs as often with some character behind it */
            for (size_t c = 0; c < 4 && characters < 16; c++) {
                char more[128];
                memcpy(more, text, size);
                memcpy(more + size, letter[c], strlen(letter[c]));
                const int other = llm_vocab_table_find(&all.word, more, size + strlen(letter[c]));
                longer = longer || (other >= 0 && counts[other] == counts[id]);
            }
            const bool expected = characters == 1 || (!longer && counts[id] > 1);
            want += expected;
            size_t hits = 0;
            for (size_t i = 0; i < n; i++) {
                if (s[i].size != size || memcmp(s[i].text, text, size) != 0) continue;
                CHECK(s[i].count == counts[id] && s[i].characters == characters);
                hits++;
            }
            CHECK(hits == expected);
        }
        CHECK(want == n);
        for (size_t i = 1; i < n; i++) { /* characters first, then by count times characters */
            CHECK(s[i].characters > 1 || s[i - 1].characters == 1);
            if (s[i - 1].characters > 1)
                CHECK(s[i].count * s[i].characters <= s[i - 1].count * s[i - 1].characters);
        }
        llm_buffer_free(&seed);
        llm_bpe_train_words_free(&words);
        llm_bpe_train_words_free(&all);
    }
}

TEST(unigram_seed, "words begin at U+2581; broken UTF-8 and no words do no harm") {
    llm_bpe_train_words words = llm_bpe_train_words_empty();
    llm_buffer seed = {NULL, 0, 0};
    seed_part *s;
    size_t size;
    CHECK(seed_run(&s, &seed, &words, 5) == 0);
    const char *text = "ab\xE2\x96\x81\xE2\x96\x81xy\xE2\x96\x81xy\xE2\x96";
    CHECK(llm_unigram_seed_count(&words, text, strlen(text)));
    CHECK(llm_unigram_seed_count(&words, "ab", 2) && llm_unigram_seed_count(&words, "", 0));
    const char *want[4] = {"ab", "\xE2\x96\x81", "\xE2\x96\x81xy", "\xE2\x96\x81xy\xE2\x96"};
    const uint64_t *count = (const uint64_t *)(const void *)words.count.data;
    CHECK(words.word.count == 4 && count[0] == 2 && count[1] == 1);
    for (size_t w = 0; w < 4; w++) {
        const char *word = llm_vocab_table_bytes(&words.word, w, &size);
        CHECK(size == strlen(want[w]) && memcmp(word, want[w], size) == 0);
    }
    CHECK(seed_run(&s, &seed, &words, 100) == 9); /* six characters, ab, xy, U+2581 xy */
    llm_bpe_train_words_free(&words);
    words = llm_bpe_train_words_empty();
    CHECK(llm_unigram_seed_count(&words, "ab\xE2\x96\x81", 5) && words.word.count == 2);
    llm_bpe_train_words_free(&words);
    /* half a character at the end of a word does not take the next word's first byte along */
    words = llm_bpe_train_words_empty();
    seed_word(&words, "a\xC3", 2, 1);
    seed_word(&words, "\xA9z", 2, 1);
    seed_word(&words, "a\xC3\xA9", 3, 1);
    /* a 2, half 2, both halves 1, second half 1, z 1; a half 2 */
    CHECK(seed_run(&s, &seed, &words, 100) == 6 && s[5].size == 2 && s[5].count == 2);
    size_t bytes = 0;
    for (size_t i = 0; i < 6; i++) bytes += s[i].size;
    CHECK(bytes == 1 + 1 + 2 + 1 + 1 + 2);
    llm_rng rng = llm_rng_seed(2);
    for (size_t turn = 0; turn < 300; turn++) {
        char any[60];
        for (size_t i = 0; i < sizeof any; i++)
            any[i] = llm_rng_below(&rng, 3) ? "\xE2\x96\x81\xC3"[llm_rng_below(&rng, 4)]
                                            : (char)(unsigned char)llm_rng_below(&rng, 256);
        CHECK(llm_unigram_seed_count(&words, any, llm_rng_below(&rng, 61)));
    }
    CHECK(seed_run(&s, &seed, &words, 1000) > 100);
    llm_buffer_free(&seed);
    llm_bpe_train_words_free(&words);
}

TEST(unigram_seed, "when memory is out it says so and nothing leaks") {
    int calls = 0;
    llm_bpe_train_words words = llm_bpe_train_words_empty();
    for (bool ok = false; !ok; calls++) {
        llm_bpe_train_words_free(&words);
        seed_calls = calls;
        ok = true;
        for (int i = 0; i < 300 && ok; i++) {
            char text[8];
            const size_t size = (size_t)snprintf(text, sizeof text, "%d", i * 7);
            ok = llm_unigram_seed_count(&words, text, size);
        }
        CHECK(ok == (seed_calls >= 0)); /* whatever fails is told */
        seed_calls = 1 << 30;
    }
    CHECK(calls > 10 && words.word.count == 300 && words.count.size == 300 * sizeof(uint64_t));
    llm_buffer seed = {NULL, 0, 0};
    seed_part *s;
    const size_t n = seed_run(&s, &seed, &words, 1000);
    calls = 0;
    for (bool ok = false; !ok; calls++) {
        llm_buffer_free(&seed);
        seed_calls = calls;
        ok = llm_unigram_seed(&seed, &words, 1000);
        CHECK(ok == (seed_calls >= 0));
        seed_calls = 1 << 30;
        if (ok) CHECK(seed.size == n * sizeof(seed_part)); /* nothing is left out */
    }
    CHECK(calls > 10);
    llm_buffer_free(&seed);
    llm_bpe_train_words_free(&words);
}
