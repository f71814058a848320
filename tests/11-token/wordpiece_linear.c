/* @wordpiece_linear */
#include "../test.h"

/* malloc and its like that fail once, after a number of calls */
static int linear_calls = 1 << 30;
static void *linear_calloc(size_t n, size_t size) {
    return linear_calls-- != 0 ? calloc(n, size) : NULL;
}
static void *linear_realloc(void *p, size_t size) {
    return linear_calls-- != 0 ? realloc(p, size) : NULL;
}
#define calloc linear_calloc
#define realloc linear_realloc

#include "../../llm.h"

static void linear_add(llm_wordpiece *w, const char *text, size_t size) {
    CHECK(llm_vocab_table_add(&w->token, text, size) >= 0);
}
static void linear_build(llm_wordpiece *w, llm_wordpiece_linear *l) {
    linear_add(w, "[UNK]", 5);
    CHECK(llm_wordpiece_build(w, NULL) && llm_wordpiece_linear_build(l, w));
}

/* Both forms on a copy in memory of exactly that size. Returns how many ids. */
static size_t linear_check(const llm_wordpiece_linear *l, const llm_wordpiece *w, const char *word,
                           size_t size) {
    char *exact = (char *)calloc(size + !size, 1);
    int *ids = (int *)malloc((size + !size) * sizeof *ids);
    int *want = (int *)malloc((size + !size) * sizeof *want);
    CHECK(exact && ids && want);
    if (size > 0) memcpy(exact, word, size);
    const size_t count = llm_wordpiece_encode(want, w, exact, size);
    CHECK(llm_wordpiece_linear_encode(ids, l, w, exact, size) == count);
    for (size_t i = 0; i < count; i++) CHECK(ids[i] == want[i]);
    const bool unknown = count == 1 && ids[0] == w->unknown;
    free(exact);
    free(ids);
    free(want);
    return unknown ? 0 : count;
}

TEST(wordpiece_linear, "equal to the greedy form on 60,000 words, # among the letters") {
    llm_rng rng = llm_rng_seed(1);
    size_t known = 0;
    for (size_t turn = 0; turn < 300; turn++) {
        llm_wordpiece w;
        llm_wordpiece_linear l;
        memset(&w, 0, sizeof w);
        const char *letters = turn % 3 == 0 ? "ab" : turn % 3 == 1 ? "abc" : "ab#\xC3\xA9\xFF";
        const size_t L = strlen(letters), tokens = llm_rng_below(&rng, 60);
        for (size_t c = 0; c < L; c++) { /* most letters can stand anywhere */
            const char rest[3] = {'#', '#', letters[c]};
            if (llm_rng_below(&rng, 8) > 0) linear_add(&w, letters + c, 1);
            if (llm_rng_below(&rng, 8) > 0) linear_add(&w, rest, 3);
        }
        for (size_t t = 0; t < tokens; t++) {
            char text[12] = "##";
            const size_t from = llm_rng_below(&rng, 3) ? 2 : 0, size = 1 + llm_rng_below(&rng, 8);
            for (size_t i = 0; i < size; i++) text[from + i] = letters[llm_rng_below(&rng, L)];
            linear_add(&w, text, from + size);
        }
        linear_build(&w, &l);
        for (size_t q = 0; q < 200; q++) {
            char word[40];
            const size_t size = llm_rng_below(&rng, q % 2 ? 12 : 41);
            for (size_t i = 0; i < size; i++)
                word[i] = llm_rng_below(&rng, 60) ? letters[llm_rng_below(&rng, L)] : 'z';
            known += linear_check(&l, &w, word, size) > 0;
        }
        llm_wordpiece_linear_free(&l);
        CHECK(!l.link && l.pops.size == 0);
        llm_wordpiece_free(&w);
    }
    CHECK(known > 10000 && known < 50000);
}

TEST(wordpiece_linear, "the example of the paper: a state pops what was read") {
    const char *token[8] = {"a", "abcdx", "##b", "##c", "##cdy", "##dz", "[UNK]", "##d"};
    llm_wordpiece w;
    llm_wordpiece_linear l;
    memset(&w, 0, sizeof w);
    for (size_t i = 0; i < 7; i++) linear_add(&w, token[i], strlen(token[i]));
    linear_build(&w, &l);
    uint32_t abcd = 0, cd = (uint32_t)w.start.cells, d = cd;
    for (size_t i = 0; i < 4; i++) {
        const unsigned char byte = (unsigned char)"abcd"[i];
        abcd = llm_wordpiece_linear_step(&w, abcd, byte);
        if (i >= 2) cd = llm_wordpiece_linear_step(&w, cd, byte);
    }
    d = llm_wordpiece_linear_step(&w, d, 'd');
    const llm_wordpiece_linear_link of_abcd = l.link[abcd], of_cd = l.link[cd];
    int pops[3];
    CHECK(of_abcd.count == 2 && of_abcd.fail == cd && of_cd.count == 1 && of_cd.fail == d);
    memcpy(pops, l.pops.data + of_abcd.at * sizeof(int), 2 * sizeof(int));
    memcpy(pops + 2, l.pops.data + of_cd.at * sizeof(int), sizeof(int));
    CHECK(pops[0] == 0 && pops[1] == 2 && pops[2] == 3); /* a ##b, and on with cd; then ##c */
    CHECK(l.link[d].fail == UINT32_MAX && l.link[d].count == 0);
    int ids[8];
    CHECK(llm_wordpiece_linear_encode(ids, &l, &w, "abcdz", 5) == 4 && ids[3] == 5);
    CHECK(llm_wordpiece_linear_encode(ids, &l, &w, "abcdy", 5) == 3 && ids[2] == 4);
    CHECK(llm_wordpiece_linear_encode(ids, &l, &w, "abcdx", 5) == 1 && ids[0] == 1);
    CHECK(llm_wordpiece_linear_encode(ids, &l, &w, "abcd", 4) == 1 && ids[0] == 6);
    CHECK(llm_wordpiece_linear_encode(ids, &l, &w, "abcz", 4) == 1 && ids[0] == 6);
    CHECK(llm_wordpiece_linear_encode(ids, &l, &w, "", 0) == 0);
    llm_wordpiece_linear_free(&l);
    llm_wordpiece_free(&w);
}

TEST(wordpiece_linear, "byte 0 is a letter like others") {
    const char zeros[16] = "##";
    llm_wordpiece w;
    llm_wordpiece_linear l;
    memset(&w, 0, sizeof w);
    linear_add(&w, zeros + 2, 1);  /* a word's begin */
    linear_add(&w, zeros, 3);      /* and its rest */
    linear_add(&w, zeros + 2, 14); /* long ones */
    linear_add(&w, zeros, 13);
    linear_add(&w, "a", 1);
    linear_build(&w, &l);
    CHECK(llm_wordpiece_linear_step(&w, 0, 0) == 1); /* the state that is nearest to none */
    for (size_t size = 1; size < 14; size++)
        CHECK(linear_check(&l, &w, zeros + 2, size) == (size < 12 ? size : size - 10));
    CHECK(linear_check(&l, &w, zeros + 2, 14) == 1);
    CHECK(linear_check(&l, &w, "a\0\0", 3) == 3 && linear_check(&l, &w, "a\0a", 3) == 0);
    llm_wordpiece_linear_free(&l);
    llm_wordpiece_free(&w);
}

TEST(wordpiece_linear, "pops holds what is put out, once, and nothing of states without a link") {
    llm_wordpiece w;
    llm_wordpiece_linear l;
    memset(&w, 0, sizeof w);
    linear_add(&w, "a", 1);
    linear_add(&w, "abb", 3);
    linear_build(&w, &l); /* a, abb and [UNK] pop themselves; ab would pop a, but ##b is missing */
    const uint32_t a = llm_wordpiece_linear_step(&w, 0, 'a');
    const uint32_t ab = llm_wordpiece_linear_step(&w, a, 'b');
    CHECK(l.link[a].count == 1 && l.link[ab].count == 0 && l.link[ab].fail == UINT32_MAX);
    CHECK(l.pops.size == 3 * sizeof(int));
    llm_wordpiece_linear_free(&l);
    llm_wordpiece_free(&w);
}

TEST(wordpiece_linear, "a state reads each byte once: at most two steps a byte") {
    llm_wordpiece w;
    llm_wordpiece_linear l;
    memset(&w, 0, sizeof w);
    char text[100];
    memset(text, 'a', sizeof text);
    linear_add(&w, "a", 1);
    linear_add(&w, "##a", 3);
    text[0] = text[1] = '#';
    text[99] = 'b';
    linear_add(&w, text, 100); /* ## and 97 a and b: the greedy form reads to the end each time */
    linear_build(&w, &l);
    memset(text, 'a', sizeof text);
    uint32_t state = 0;
    size_t steps = 0;
    for (size_t i = 0; i < 100 || state != w.start.cells; steps++) {
        const uint32_t next = /* nothing has a child by the end */
            i < 100 ? llm_wordpiece_linear_step(&w, state, (unsigned char)text[i]) : 0;
        i += next > 0;
        state = next > 0 ? next : l.link[state].fail;
        CHECK(state != UINT32_MAX);
    }
    CHECK(steps <= 200 && steps > 100);
    CHECK(linear_check(&l, &w, text, 100) == 100);
    llm_wordpiece_linear_free(&l);
    llm_wordpiece_free(&w);
}

TEST(wordpiece_linear, "words that are too long are unknown; no memory, no links") {
    llm_wordpiece w;
    llm_wordpiece_linear l;
    memset(&w, 0, sizeof w);
    char text[101];
    int ids[101], calls = 0;
    memset(text, 'a', sizeof text);
    linear_add(&w, "a", 1);
    linear_add(&w, "##a", 3);
    for (size_t i = 0; i < 80; i++) { /* so that pops grows more than once */
        char token[8];
        linear_add(&w, token, (size_t)snprintf(token, sizeof token, "##%zu", i));
    }
    memset(text + 2, '-', 60); /* ##---...: its beginnings pop more and more */
    text[0] = text[1] = '#';
    linear_add(&w, "##-", 3);
    linear_add(&w, text, 62);
    memset(text, 'a', sizeof text);
    linear_build(&w, &l);
    CHECK(llm_wordpiece_linear_encode(ids, &l, &w, text, 100) == 100);
    CHECK(llm_wordpiece_linear_encode(ids, &l, &w, text, 101) == 1 && ids[0] == w.unknown);
    llm_wordpiece_linear_free(&l);
    for (bool ok = false; !ok; calls++) {
        linear_calls = calls;
        ok = llm_wordpiece_linear_build(&l, &w);
        CHECK(ok == (linear_calls >= 0)); /* whatever fails is told */
        linear_calls = 1 << 30;
        CHECK(ok || (!l.link && l.pops.size == 0));
        if (ok) CHECK(linear_check(&l, &w, "aaa7a79", 7) == 6);
    }
    CHECK(calls > 4);
    llm_wordpiece_linear_free(&l);
    llm_wordpiece_free(&w);
}
