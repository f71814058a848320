/* @eos */
#include "../test.h"

/* realloc that fails once, after a number of calls */
static int eos_calls = 1 << 30;
static void *eos_realloc(void *p, size_t size) {
    return eos_calls-- != 0 ? realloc(p, size) : NULL;
}
#define realloc eos_realloc

#include "../../llm.h"

TEST(eos, "a document gets one EOS, a cut one none") {
    int ids[5] = {3, 4, 5, 6, 7};
    CHECK(llm_eos_append(ids, 0, 5, 9) == 1 && ids[0] == 9);
    ids[0] = 3;
    CHECK(llm_eos_append(ids, 4, 5, 9) == 5 && ids[4] == 9 && ids[3] == 6);
    CHECK(llm_eos_append(ids, 5, 5, 9) == 5); /* it is there, and there is no room */
    CHECK(llm_eos_append(ids, 3, 5, 5) == 3); /* it is there */
    CHECK(llm_eos_append(ids, 1, 5, 3) == 1 && ids[1] == 4);
    CHECK(llm_eos_append(ids, 5, 4, 8) == 4 && ids[3] == 6);
    CHECK(llm_eos_append(ids, 4, 4, 8) == 4 && ids[3] == 6);
    CHECK(llm_eos_append(ids, 0, 0, 8) == 0 && ids[0] == 3);
}

/* The whole text searched: the earliest end of a stop string, of those the longest; returns how
 * many bytes may be shown. */
static size_t eos_search(const char *text, size_t size, const char *const *strings, size_t count,
                         bool *found) {
    *found = false;
    for (size_t end = 1; end <= size; end++) {
        size_t longest = 0;
        for (size_t k = 0; k < count; k++) {
            const size_t n = strlen(strings[k]);
            if (n <= end && n > longest && memcmp(text + end - n, strings[k], n) == 0) longest = n;
        }
        *found = longest > 0;
        if (*found) return end - longest;
    }
    return size;
}

/* What was held back at this point must be the beginning of a string, and everything else is
 * out. */
static void eos_watch(const llm_eos_stop *s, const llm_buffer *out, const char *text, size_t size,
                      const char *const *strings, size_t count) {
    size_t longest = 0;
    for (size_t k = 0; k < count; k++)
        for (size_t n = 1; n < strlen(strings[k]) && n <= size; n++)
            if (memcmp(text + size - n, strings[k], n) == 0 && n > longest) longest = n;
    CHECK(!s->found && out->size == size - longest && s->held.size == longest);
}

TEST(eos, "stop strings: every split of the text gives what a search of all of it gives") {
    static const char *const list[6][4] = {
        {"ab", "abab", "bb", "b"},
        {"aab", "aaaab", "ba", "aba"},
        {"abcabd", "bca", "cc", "abcabcab"},
        {"aaa", "baab", "aabaa", "bbbb"},
        {"\n\nUser", "\n\n\n", "</s>", "ser:"},
        {"abb", "abb", "bbabb", "cab"},
    };
    llm_rng rng = llm_rng_seed(3);
    size_t hits = 0;
    for (int round = 0; round < 3000; round++) {
        const char *const *strings = list[round % 6];
        const size_t count = 1 + llm_rng_below(&rng, 4), size = llm_rng_below(&rng, 14);
        const char *letters = round % 6 == 4 ? "\nUser:<" : "abc";
        char text[16];
        for (size_t i = 0; i < size; i++)
            text[i] = letters[llm_rng_below(&rng, round % 6 == 4 ? 7 : 2 + (round % 6 == 2))];
        if (round % 6 == 4 && size > 8) memcpy(text + size - 7, "\n\nUser:", 7);
        bool found;
        const size_t shown = eos_search(text, size, strings, count, &found);
        hits += found;
        llm_eos_stop s;
        memset(&s, 0, sizeof s);
        for (size_t k = 0; k < count; k++)
            CHECK(llm_eos_stop_add(&s, strings[k], strlen(strings[k])));
        for (unsigned split = 0; split < 64; split++) { /* twice over the same list */
            llm_buffer out = {NULL, 0, 0};
            for (size_t at = 0; at < size;) {
                size_t n = 1;
                while (at + n < size && (split * 2654435761u >> (at + n)) % 2) n++;
                CHECK(llm_eos_stop_feed(&s, &out, text + at, n));
                at += n;
                if (!s.found) eos_watch(&s, &out, text, at, strings, count);
            }
            CHECK(s.found == found);
            CHECK(llm_eos_check(1, 5, NULL, 0, &s, 9) == (found ? LLM_EOS_STRING : LLM_EOS_NONE));
            CHECK(llm_eos_stop_feed(&s, &out, "xyz", found ? 3 : 0));
            CHECK(llm_eos_stop_flush(&s, &out) && !s.found && s.held.size == 0);
            CHECK(out.size == shown && (shown == 0 || memcmp(out.data, text, shown) == 0));
            llm_buffer_free(&out);
        }
        llm_eos_stop_free(&s);
        CHECK(!s.list.data && !s.text.data && !s.back.data && !s.held.data && !s.found);
    }
    CHECK(hits > 500 && hits < 2900);
    llm_eos_stop none;
    memset(&none, 0, sizeof none);
    CHECK_ASSERTS(llm_eos_stop_add(&none, "", 0));
    llm_buffer out = {NULL, 0, 0};
    CHECK(llm_eos_stop_feed(&none, &out, "a\0b", 3) && out.size == 3 && !none.found);
    CHECK(llm_eos_stop_add(&none, "\0", 1)); /* any byte is one */
    CHECK(llm_eos_stop_feed(&none, &out, "a\0b", 3) && out.size == 4 && none.found);
    llm_eos_stop_free(&none);
    CHECK(!none.found);
    llm_buffer_free(&out);
}

TEST(eos, "a stop string of n bytes costs n steps to prepare and a text of m bytes 2 m") {
    enum { LONG = 300000 };
    char *text = (char *)test_memory(LONG + 2, 1);
    memset(text, 'a', LONG + 1);
    text[LONG] = 'b';
    llm_eos_stop s;
    llm_buffer out = {NULL, 0, 0};
    memset(&s, 0, sizeof s);
    CHECK(llm_eos_stop_add(&s, text + LONG / 2, LONG / 2 + 1)); /* a .. a b */
    CHECK(llm_eos_stop_feed(&s, &out, text, LONG) && !s.found && out.size == LONG / 2);
    CHECK(llm_eos_stop_feed(&s, &out, "ab", 2) && s.found && out.size == LONG / 2 + 1);
    llm_eos_stop_free(&s);
    llm_buffer_free(&out);
}

TEST(eos, "when memory is out, it says so and nothing leaks") {
    int failed = 0;
    for (int calls = 0; calls < 12; calls++) {
        llm_eos_stop s;
        llm_buffer out = {NULL, 0, 0};
        memset(&s, 0, sizeof s);
        eos_calls = calls;
        const bool ok = llm_eos_stop_add(&s, "abc", 3) && llm_eos_stop_feed(&s, &out, "xxab", 4) &&
                        llm_eos_stop_flush(&s, &out);
        eos_calls = 1 << 30;
        failed += !ok;
        CHECK(!ok || (out.size == 4 && memcmp(out.data, "xxab", 4) == 0));
        llm_eos_stop_free(&s);
        llm_buffer_free(&out);
    }
    CHECK(failed == 5); /* text, back, list, held, out */
}

TEST(eos, "the reasons in their order, and no EOS before there are enough tokens") {
    const int eos[2] = {4, 2};
    llm_eos_stop s;
    memset(&s, 0, sizeof s);
    CHECK(llm_eos_check(2, 3, eos, 2, &s, 9) == LLM_EOS_TOKEN);
    CHECK(llm_eos_check(4, 1, eos, 2, NULL, 1) == LLM_EOS_TOKEN);
    CHECK(llm_eos_check(4, 0, eos, 2, NULL, 1) == LLM_EOS_NONE); /* nothing is written yet */
    CHECK(llm_eos_check(4, 0, eos, 2, NULL, 0) == LLM_EOS_MOST);
    CHECK(llm_eos_check(2, 3, eos, 1, NULL, 4) == LLM_EOS_NONE);
    CHECK(llm_eos_check(2, 4, eos, 1, NULL, 4) == LLM_EOS_MOST);
    CHECK(llm_eos_check(3, 5, eos, 2, &s, 4) == LLM_EOS_MOST);
    s.found = true;
    CHECK(llm_eos_check(3, 5, eos, 2, &s, 4) == LLM_EOS_STRING);
    CHECK(llm_eos_check(4, 5, eos, 2, &s, 4) == LLM_EOS_TOKEN);
    for (size_t n = 0; n < 4; n++) {
        float logits[5] = {0, 1, 2, 3, 4};
        llm_eos_suppress(logits, eos, 2, n, 2);
        for (int v = 0; v < 5; v++)
            CHECK(logits[v] == (n < 2 && (v == 2 || v == 4) ? -INFINITY : (float)v));
    }
}

enum { V = 5, EOS = 4, MOST = 40 };

/* first (V), transition (V,V): at random, with an end that comes after about 10 tokens. */
static void eos_chain(double *first, double *transition, llm_rng *rng) {
    for (size_t a = 0; a <= V; a++) {
        double *row = a < V ? transition + a * V : first, sum = 0.0;
        for (size_t b = 0; b < V; b++) {
            row[b] = (double)llm_rng_uniform(rng) + 0.05;
            if (b == EOS) row[b] *= a < V ? 0.4 : 0.1;
            sum += row[b];
        }
        for (size_t b = 0; b < V; b++) row[b] /= sum;
    }
}
/* A token by the row's probabilities. */
static int eos_draw(const double *row, llm_rng *rng) {
    double u = (double)llm_rng_uniform(rng);
    for (int b = 0; b < V - 1; b++)
        if ((u -= row[b]) < 0.0) return b;
    return V - 1;
}
/* A text by the chain, without its EOS; returns its length, at most MOST. */
static size_t eos_text(int *text, const double *first, const double *transition, llm_rng *rng) {
    size_t n = 0;
    for (int b = eos_draw(first, rng); b != EOS; b = eos_draw(transition + b * V, rng)) {
        text[n++] = b;
        if (n == MOST) break;
    }
    return n;
}

TEST(eos, "the law of the length: one state is geometric, and the mean is that of (I - Q)^-1") {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    double p[2001];
    const double first[2] = {0.75, 0.25}, one[4] = {0.9, 0.1, NAN, NAN};
    const size_t mark = arena.used;
    llm_eos_length_dist(p, first, one, 2, 1, 8, &arena);
    CHECK(arena.used == mark);
    CHECK_NEAR(p[0], 0.25, 1e-15);
    for (int n = 1; n < 8; n++) CHECK_NEAR(p[n], 0.75 * pow(0.9, n - 1) * 0.1, 1e-15);
    CHECK_NEAR(p[8], 0.75 * pow(0.9, 7), 1e-15);
    llm_eos_length_dist(p, first, one, 2, 1, 0, &arena);
    CHECK(p[0] == 1.0);
    llm_eos_length_dist(p, first, one, 2, 1, 2000, &arena);
    CHECK(p[2000] >= 0.0 && p[2000] < 1e-14);

    for (uint64_t seed = 1; seed <= 5; seed++) {
        double start[V], transition[V * V], m[V - 1][V], mean = 0.0, law = 0.0;
        llm_rng rng = llm_rng_seed(seed);
        eos_chain(start, transition, &rng);
        for (size_t b = 0; b < V; b++) transition[EOS * V + b] = NAN; /* not read */
        llm_eos_length_dist(p, start, transition, V, EOS, 2000, &arena);
        for (int n = 0; n <= 2000; n++) law += n * p[n];
        for (size_t a = 0; a < V - 1; a++) { /* (I - Q) m = 1: the tokens still to come from each */
            for (size_t b = 0; b < V - 1; b++) m[a][b] = (a == b) - transition[a * V + b];
            m[a][V - 1] = 1.0;
        }
        for (size_t k = 0; k < V - 1; k++)
            for (size_t a = 0; a < V - 1; a++) {
                const double f = m[a][k] / m[k][k];
                for (size_t b = 0; b < V && a != k; b++) m[a][b] -= f * m[k][b];
            }
        for (size_t a = 0; a < V - 1; a++) mean += start[a] * m[a][V - 1] / m[a][a];
        CHECK_NEAR(law, mean, 1e-9);
    }
    llm_arena_destroy(&arena);
}

/* chi-square of 4000 lengths with 15 bins, 14 degrees of freedom; over seeds 1..80 it was between 5
 * and 29; above 45 has a probability of 4e-5 */
TEST(eos, "lengths drawn from a chain follow the law") {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    for (uint64_t seed = 1; seed <= 4; seed++) {
        enum { BINS = 15, TEXTS = 4000 };
        double first[V], transition[V * V], p[BINS], count[BINS] = {0}, chi = 0.0;
        int text[MOST];
        llm_rng rng = llm_rng_seed(seed);
        eos_chain(first, transition, &rng);
        llm_eos_length_dist(p, first, transition, V, EOS, BINS - 1, &arena);
        for (int k = 0; k < TEXTS; k++) {
            const size_t n = eos_text(text, first, transition, &rng);
            count[n < BINS - 1 ? n : BINS - 1] += 1.0;
        }
        for (int n = 0; n < BINS; n++) {
            const double want = p[n] * TEXTS;
            CHECK(want > 5.0);
            chi += (count[n] - want) * (count[n] - want) / want;
        }
        CHECK(chi < 45.0);
    }
    llm_arena_destroy(&arena);
}

/* A bigram model, counts plus 0.01, of 500 texts. Over seeds 1..80, with EOS the two means differed
 * by at most 2.8 standard errors; without, 0.998 of the samples or more hit the cap. */
TEST(eos, "trained with EOS, texts are as long as the data; without it, they never end") {
    enum { TEXTS = 500 };
    for (uint64_t seed = 1; seed <= 4; seed++) {
        double first[V], transition[V * V];
        llm_rng rng = llm_rng_seed(seed);
        eos_chain(first, transition, &rng);
        double begin[2][V], count[2][V * V], mean = 0.0, square = 0.0;
        for (size_t i = 0; i < 2 * V; i++) begin[i / V][i % V] = 0.01;
        for (size_t i = 0; i < 2 * V * V; i++) count[i / (V * V)][i % (V * V)] = 0.01;
        for (int k = 0; k < TEXTS; k++) {
            int text[MOST + 2];
            const size_t n = eos_text(text, first, transition, &rng);
            mean += (double)n / TEXTS, square += (double)(n * n) / TEXTS;
            for (size_t with = 0; with < 2; with++) {
                const size_t end = with ? llm_eos_append(text, n, MOST + 1, EOS) : n;
                for (size_t t = 0; t < end; t++)
                    (t == 0 ? begin[with] : count[with] + text[t - 1] * V)[text[t]] += 1.0;
            }
        }
        size_t capped = 0;
        double got[2] = {0.0, 0.0};
        for (size_t with = 0; with < 2; with++) {
            for (size_t a = 0; a <= V; a++) {
                double *row = a < V ? count[with] + a * V : begin[with], sum = 0.0;
                for (size_t b = 0; b < V; b++) sum += row[b];
                for (size_t b = 0; b < V; b++) row[b] /= sum;
            }
            for (int k = 0; k < TEXTS; k++) {
                int text[MOST];
                const size_t n = eos_text(text, begin[with], count[with], &rng);
                got[with] += (double)n / TEXTS;
                capped += !with && n == MOST;
            }
        }
        const double error = sqrt(2.0 * (square - mean * mean) / TEXTS);
        CHECK(fabs(got[1] - mean) < 4.0 * error);
        CHECK(capped > TEXTS * 95 / 100);
    }
}
