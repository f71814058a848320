/* @mlm_span */
#include "../test.h"

#include "../../llm.h"

TEST(mlm_span, "lengths follow the cut geometric law; 3.8 in the mean for SpanBERT's") {
    const size_t most[4] = {10, 1, 3, 10};
    const float p[4] = {0.2f, 0.2f, 0.9f, 0.01f};
    const double limit[4] = {27.9, 1e-9, 13.8, 27.9}; /* chi-square at 0.001 */
    llm_rng rng = llm_rng_seed(1);
    for (size_t k = 0; k < 4; k++) {
        enum { MANY = 20000 };
        size_t seen[11] = {0};
        double mean = 0.0, chi = 0.0, norm = 0.0, want = 0.0;
        for (size_t i = 0; i < MANY; i++) {
            const size_t l = llm_mlm_span_length(p[k], most[k], &rng);
            CHECK(l >= 1 && l <= most[k]);
            seen[l]++;
            mean += (double)l / MANY;
        }
        for (size_t l = 1; l <= most[k]; l++) norm += pow(1.0 - (double)p[k], (double)l - 1.0);
        for (size_t l = 1; l <= most[k]; l++) {
            const double each = pow(1.0 - (double)p[k], (double)l - 1.0) / norm;
            const double off = (double)seen[l] - MANY * each;
            chi += off * off / (MANY * each);
            want += each * (double)l;
        }
        CHECK(chi < limit[k]);
        if (k == 0) CHECK_NEAR(want, 3.797, 0.001);
        CHECK_NEAR(mean, want, 0.08);
    }
    CHECK_ASSERTS(llm_mlm_span_length(0.0f, 3, &rng));
    CHECK_ASSERTS(llm_mlm_span_length(1.0f, 3, &rng));
    CHECK_ASSERTS(llm_mlm_span_length(0.5f, 0, &rng));
}

enum { MANY = 20000, MASK = 4, FIRST = 5, VOCAB = 5000, MOST = 10 };
static int ids[MANY], label[MANY], word[MANY], was[MANY];
static bool special[MANY];

TEST(mlm_span, "15 of 100 tokens in runs that end before special ones, each with one fate; the "
               "fates are 80, 10, 10") {
    llm_rng rng = llm_rng_seed(2);
    const llm_mlm_config c = llm_mlm_defaults(MASK, FIRST, VOCAB);
    size_t real = 0, spans = 0, fate[3] = {0};
    for (size_t n = 0; n < MANY; n++) {
        special[n] = n % 40 == 0;
        real += !special[n];
        ids[n] = was[n] = FIRST + (int)(n % 7);
    }
    const size_t count = llm_mlm_span_mask(ids, label, special, NULL, MANY, 0.2f, MOST, &c, &rng);
    CHECK(count == (size_t)(0.15 * (double)real + 0.5));
    size_t again = 0;
    for (size_t n = 0; n < MANY;) {
        if (label[n] == LLM_CROSS_ENTROPY_IGNORE) {
            CHECK(ids[n] == was[n]);
            n++;
            continue;
        }
        size_t end = n, masked = 0, kept = 0;
        for (; end < MANY && label[end] != LLM_CROSS_ENTROPY_IGNORE; end++) {
            CHECK(!special[end] && label[end] == was[end]);
            masked += ids[end] == MASK, kept += ids[end] == was[end];
            CHECK(ids[end] == MASK || (ids[end] >= FIRST && ids[end] < VOCAB));
        }
        CHECK(end - n <= MOST);
        again += end - n, spans++;
        /* exchanged tokens are the same by chance once in 5000 times */
        const bool stayed = kept == end - n, covered = masked == end - n;
        CHECK(stayed || covered || (masked == 0 && kept <= 1));
        fate[covered ? 0 : stayed ? 2 : 1]++;
        n = end;
    }
    CHECK(again == count && spans > 700);
    /* longer ones fit less often between the others: somewhat below 3.8 */
    CHECK((double)count / (double)spans > 3.3 && (double)count / (double)spans < 3.8);
    const double n = (double)spans; /* four standard errors */
    CHECK_NEAR((double)fate[0] / n, 0.8, 4.0 * sqrt(0.16 / n));
    CHECK_NEAR((double)fate[1] / n, 0.1, 4.0 * sqrt(0.09 / n));
    CHECK_NEAR((double)fate[2] / n, 0.1, 4.0 * sqrt(0.09 / n));
    llm_mlm_config none = c;
    none.first = VOCAB;
    CHECK_ASSERTS(llm_mlm_span_mask(ids, label, special, NULL, 1, 0.2f, MOST, &none, &rng));
}

TEST(mlm_span, "words are whole, a span has at most so many of them, starts are uniform") {
    llm_rng rng = llm_rng_seed(3);
    const llm_mlm_config c = llm_mlm_defaults(MASK, FIRST, VOCAB);
    for (size_t n = 0; n < MANY; n++) {
        special[n] = n % 60 == 31; /* in the middle of a word: what follows it is a word's start */
        word[n] = (int)(n / 3);
        ids[n] = 9;
    }
    const size_t count = llm_mlm_span_mask(ids, label, special, word, MANY, 0.5f, 2, &c, &rng);
    CHECK(count > 2900 && count <= 2950);
    size_t spans = 0, length[7] = {0}, behind = 0;
    for (size_t n = 0; n < MANY; n++) {
        const bool on = label[n] != LLM_CROSS_ENTROPY_IGNORE;
        const bool before = n > 0 && label[n - 1] != LLM_CROSS_ENTROPY_IGNORE;
        if (n > 0 && word[n] == word[n - 1] && !special[n] && !special[n - 1]) CHECK(on == before);
        behind += on && n % 60 == 32;
        if (!on || before) continue;
        size_t end = n;
        while (end < MANY && label[end] != LLM_CROSS_ENTROPY_IGNORE) end++;
        CHECK(end - n <= 6);
        length[end - n]++, spans++;
    }
    CHECK(length[3] > 100 && length[6] > 100 && length[1] > 0 && spans > 500);
    CHECK(behind > 20); /* of 333 ends of words that a special token has cut off */

    for (size_t round = 0; round < 200; round++) { /* the first word is whole, too */
        int row[6] = {9, 9, 9, 9, 9, 9}, asked[6];
        const int words[6] = {0, 0, 1, 1, 2, 2};
        const bool none[6] = {false};
        llm_mlm_config half = c;
        half.chosen = 0.5f;
        llm_mlm_span_mask(row, asked, none, words, 6, 0.5f, 2, &half, &rng);
        for (size_t n = 0; n < 6; n += 2) CHECK(asked[n] == asked[n + 1]);
    }

    /* a row of 9, one token covered: all starts equally often */
    size_t seen[9] = {0};
    double chi = 0.0;
    const bool plain[9] = {false};
    for (size_t i = 0; i < 9000; i++) {
        int row[9] = {9, 9, 9, 9, 9, 9, 9, 9, 9}, asked[9];
        CHECK(llm_mlm_span_mask(row, asked, plain, NULL, 9, 0.2f, MOST, &c, &rng) == 1);
        for (size_t n = 0; n < 9; n++) seen[n] += asked[n] == 9;
    }
    for (size_t n = 0; n < 9; n++)
        chi += ((double)seen[n] - 1000.0) * ((double)seen[n] - 1000.0) / 1000.0;
    CHECK(chi < 26.1); /* 8 degrees of freedom: 0.001 */
}

TEST(mlm_span, "spans do not touch; where none fits it comes to an end") {
    llm_rng rng = llm_rng_seed(4);
    llm_mlm_config c = llm_mlm_defaults(MASK, FIRST, VOCAB);
    c.chosen = 1.0f;
    for (size_t round = 0; round < 200; round++) { /* single tokens: never two beside each other */
        for (size_t n = 0; n < 30; n++) ids[n] = 9, special[n] = n == 11;
        const size_t count = llm_mlm_span_mask(ids, label, special, NULL, 30, 0.2f, 1, &c, &rng);
        CHECK(count >= 10 && count <= 15);
        for (size_t n = 1; n < 30; n++)
            CHECK(label[n] == LLM_CROSS_ENTROPY_IGNORE || label[n - 1] == LLM_CROSS_ENTROPY_IGNORE);
    }
    for (size_t n = 0; n < 30; n++) ids[n] = 9, special[n] = false, word[n] = 0;
    c.chosen = 0.5f; /* one word of 30 tokens is more than 15: 20 N draws */
    llm_rng same = rng;
    CHECK(llm_mlm_span_mask(ids, label, special, word, 30, 0.2f, 1, &c, &rng) == 0);
    for (size_t draw = 0; draw < 20 * 30; draw++) {
        llm_mlm_span_length(0.2f, 1, &same);
        llm_rng_below(&same, 30);
    }
    CHECK(llm_rng_u32(&rng) == llm_rng_u32(&same));
    for (size_t n = 0; n < 30; n++) special[n] = true;
    same = rng; /* nothing to be covered, nothing drawn */
    CHECK(llm_mlm_span_mask(ids, label, special, NULL, 30, 0.2f, 1, &c, &rng) == 0);
    CHECK(llm_mlm_span_mask(ids, label, special, NULL, 0, 0.2f, 1, &c, &rng) == 0);
    for (size_t n = 0; n < 30; n++) CHECK(ids[n] == 9 && label[n] == LLM_CROSS_ENTROPY_IGNORE);
    CHECK(llm_rng_u32(&rng) == llm_rng_u32(&same));
    c.chosen = 1.0f, c.masked = c.random = 0.0f; /* all stay, for the smallest fate, too */
    special[0] = false;
    for (size_t i = 0; i < 4; i++) rng.word[i] = 0; /* length, start, fate */
    rng.used = 0;
    CHECK(llm_mlm_span_mask(ids, label, special, NULL, 1, 0.2f, 1, &c, &rng) == 1);
    CHECK(ids[0] == 9 && label[0] == 9);
}
