/* @attn_mask */
#include "../test.h"

#include "../../llm.h"

/* The rules of the golden file over 12 positions, and their parts. */
static const size_t attn_mask_texts[6] = {0, 3, 4, 4, 10, 12}; /* text 2 is empty */
static const size_t attn_mask_length[1] = {9};
typedef struct {
    llm_attn_mask causal, window, prefix, packed, keys, mistral, prefix_lm, packed_causal, nested;
    llm_attn_mask part;
    size_t document[12];
    bool present[12];
} attn_mask_rules;

static void attn_mask_fill(attn_mask_rules *r) {
    r->causal = llm_attn_mask_make(LLM_ATTN_MASK_CAUSAL, 0, 0);
    r->window = llm_attn_mask_make(LLM_ATTN_MASK_WINDOW, 0, 3);
    r->prefix = llm_attn_mask_make(LLM_ATTN_MASK_PREFIX, 0, 5);
    r->packed = llm_attn_mask_make(LLM_ATTN_MASK_DOCUMENT, 0, 0);
    llm_attn_mask_documents(r->document, attn_mask_texts, 5);
    r->packed.document = r->document;
    r->keys = llm_attn_mask_make(LLM_ATTN_MASK_KEYS, 0, 0);
    llm_attn_mask_from_padding(r->present, attn_mask_length, 1, 12, false);
    r->keys.present = r->present;
    r->mistral = llm_attn_mask_join(LLM_ATTN_MASK_AND, &r->causal, &r->window);
    r->prefix_lm = llm_attn_mask_join(LLM_ATTN_MASK_OR, &r->causal, &r->prefix);
    r->packed_causal = llm_attn_mask_join(LLM_ATTN_MASK_AND, &r->causal, &r->packed);
    r->part = llm_attn_mask_join(LLM_ATTN_MASK_OR, &r->packed_causal, &r->prefix);
    r->nested = llm_attn_mask_join(LLM_ATTN_MASK_AND, &r->part, &r->keys);
}

TEST(attn_mask, "tables and tile classes equal FlexAttention's create_mask and create_block_mask") {
    attn_mask_rules r;
    attn_mask_fill(&r);
    const llm_attn_mask *rule[9] = {&r.causal,  &r.window,    &r.prefix,        &r.packed, &r.keys,
                                    &r.mistral, &r.prefix_lm, &r.packed_causal, &r.nested};
    const char *name[9] = {"causal",  "window",    "prefix",        "packed", "keys",
                           "mistral", "prefix_lm", "packed_causal", "nested"};
    const size_t tiles[3][2] = {{2, 3}, {4, 2}, {6, 12}};
    enum { T = 12 };
    for (size_t m = 0; m < 9; m++) {
        bool table[T * T];
        float bias[T * T], *want = golden("%s/allowed", name[m]);
        llm_attn_mask_dense_bool(table, rule[m], T, T);
        llm_attn_mask_dense_additive(bias, rule[m], T, T);
        for (size_t i = 0; i < T * T; i++) {
            CHECK(table[i] == (want[i] == 1.0f));
            CHECK(bias[i] == (want[i] == 1.0f ? 0.0f : -INFINITY));
        }
        for (size_t t = 0; t < 3; t++) {
            const size_t high = tiles[t][0], wide = tiles[t][1], R = T / high, C = T / wide;
            const float *kind = golden("%s/%zux%zu", name[m], high, wide);
            size_t first[T + 1], column[T * T], at = 0;
            bool full[T * T];
            const size_t count =
                llm_attn_mask_blocks(first, column, full, rule[m], T, T, high, wide);
            CHECK(first[R] == count);
            for (size_t row = 0; row < R; row++) {
                CHECK(first[row] == at);
                for (size_t c = 0; c < C; c++) {
                    const int got =
                        llm_attn_mask_tile(rule[m], row * high, c * wide, high, wide, T, T);
                    CHECK(got == (int)kind[row * C + c]);
                    if (got == LLM_ATTN_MASK_EMPTY) continue;
                    CHECK(column[at] == c && full[at] == (got == LLM_ATTN_MASK_FULL));
                    at++;
                }
            }
            CHECK(at == count);
            memset(first, 0xff, sizeof first); /* counting only */
            CHECK(llm_attn_mask_blocks(first, NULL, NULL, rule[m], T, T, high, wide) == count);
            CHECK(first[R] == count);
        }
    }
}

TEST(attn_mask, "causal with padding, a cache and a window equals transformers") {
    const size_t lengths[3][2] = {{5, 3}, {5, 3}, {6, 7}}, queries[3] = {5, 5, 2},
                 keys[3] = {5, 5, 7};
    const char *name[3] = {"right", "left", "cached"};
    for (size_t c = 0; c < 3; c++) {
        const size_t Tq = queries[c], Tk = keys[c];
        const float *want = golden("transformers/%s/allowed", name[c]);
        bool present[2 * 7];
        llm_attn_mask_from_padding(present, lengths[c], 2, Tk, c > 0);
        for (size_t b = 0; b < 2; b++) {
            const llm_attn_mask causal = llm_attn_mask_make(LLM_ATTN_MASK_CAUSAL, Tk - Tq, 0);
            llm_attn_mask there = llm_attn_mask_make(LLM_ATTN_MASK_KEYS, 0, 0);
            there.present = present + b * Tk;
            const llm_attn_mask both = llm_attn_mask_join(LLM_ATTN_MASK_AND, &causal, &there);
            for (size_t i = 0; i < Tq; i++)
                for (size_t j = 0; j < Tk; j++)
                    CHECK(llm_attn_mask_allowed(&both, i, j) ==
                          (want[(b * Tq + i) * Tk + j] == 1.0f));
        }
    }
    const float *want = golden("transformers/sliding/allowed");
    for (size_t first = 0; first < 7; first++) { /* also the rows of a decoder: query 0 at first */
        const llm_attn_mask causal = llm_attn_mask_make(LLM_ATTN_MASK_CAUSAL, first, 0);
        const llm_attn_mask window = llm_attn_mask_make(LLM_ATTN_MASK_WINDOW, first, 3);
        const llm_attn_mask both = llm_attn_mask_join(LLM_ATTN_MASK_AND, &causal, &window);
        for (size_t i = 0; i + first < 7; i++)
            for (size_t j = 0; j < 7; j++)
                CHECK(llm_attn_mask_allowed(&both, i, j) == (want[(i + first) * 7 + j] == 1.0f));
    }
    attn_mask_rules r;
    attn_mask_fill(&r);
    r.packed.first = 6; /* documents too are those of the query's position */
    for (size_t i = 0; i < 6; i++)
        for (size_t j = 0; j < 12; j++)
            CHECK(llm_attn_mask_allowed(&r.packed, i, j) == (r.document[i + 6] == r.document[j]));
}

TEST(attn_mask, "tile classes equal brute force for random rules, ragged edges included") {
    llm_rng rng = llm_rng_seed(8);
    for (int round = 0; round < 60; round++) {
        enum { MOST = 23 };
        const size_t Tq = 1 + llm_rng_below(&rng, MOST), Tk = 1 + llm_rng_below(&rng, MOST);
        const size_t high = 1 + llm_rng_below(&rng, 7), wide = 1 + llm_rng_below(&rng, 7);
        bool present[MOST], full[MOST * MOST];
        size_t first[MOST + 1], column[MOST * MOST];
        for (size_t j = 0; j < Tk; j++) present[j] = llm_rng_uniform(&rng) < 0.8f;
        llm_attn_mask a = llm_attn_mask_make(LLM_ATTN_MASK_KEYS, 0, 0);
        a.present = present;
        const llm_attn_mask b = llm_attn_mask_make(LLM_ATTN_MASK_CAUSAL, llm_rng_below(&rng, 9), 0);
        const llm_attn_mask c = llm_attn_mask_make(LLM_ATTN_MASK_WINDOW, 0, llm_rng_below(&rng, 9));
        const llm_attn_mask ab = llm_attn_mask_join(
            llm_rng_below(&rng, 2) ? LLM_ATTN_MASK_AND : LLM_ATTN_MASK_OR, &a, &b);
        const llm_attn_mask m = llm_attn_mask_join(
            llm_rng_below(&rng, 2) ? LLM_ATTN_MASK_AND : LLM_ATTN_MASK_OR, &ab, &c);
        llm_attn_mask_blocks(first, column, full, &m, Tq, Tk, high, wide);
        size_t at = 0;
        for (size_t i = 0; i < Tq; i += high) {
            CHECK(first[i / high] == at);
            for (size_t j = 0; j < Tk; j += wide) {
                size_t pairs = 0, yes = 0;
                for (size_t r = i; r < i + high; r++)
                    for (size_t k = j; k < j + wide; k++)
                        if (r < Tq && k < Tk) pairs++, yes += llm_attn_mask_allowed(&m, r, k);
                if (yes == 0) continue;
                CHECK(column[at] == j / wide && full[at] == (yes == pairs));
                at++;
            }
        }
        CHECK(first[(Tq + high - 1) / high] == at);
    }
}

/* out (T,D) of softmax attention over random scores; wrong: weights are zeroed after softmax. */
static double attn_mask_attend(float *out, const float *s, const float *v, const llm_attn_mask *m,
                               size_t T, size_t D, bool wrong) {
    float *p = floats(T * T), *bias = zeros(T * T);
    double least = 1.0;
    if (!wrong) llm_attn_mask_dense_additive(bias, m, T, T);
    for (size_t i = 0; i < T * T; i++) p[i] = s[i] + bias[i];
    llm_softmax_forward(p, p, T, T, 1.0f);
    for (size_t i = 0; i < T; i++) {
        double sum = 0.0;
        for (size_t j = 0; j < T; j++) {
            if (wrong && !llm_attn_mask_allowed(m, i, j)) p[i * T + j] = 0.0f;
            sum += (double)p[i * T + j];
        }
        least = sum < least ? sum : least;
        for (size_t d = 0; d < D; d++) {
            out[i * D + d] = 0.0f;
            for (size_t j = 0; j < T; j++) out[i * D + d] += p[i * T + j] * v[j * D + d];
        }
    }
    return least;
}

TEST(attn_mask, "a masked key is not felt, bit for bit; zeroing weights after softmax is felt") {
    enum { T = 12, D = 3 };
    attn_mask_rules r;
    attn_mask_fill(&r);
    for (uint64_t seed = 1; seed <= 5; seed++) {
        float s[T * T], v[T * D], out[T * D], again[T * D], wrong[T * D], gap = 0.0f;
        llm_rng rng = llm_rng_seed(seed);
        llm_rng_normal_fill(&rng, s, T * T);
        llm_rng_normal_fill(&rng, v, T * D);
        attn_mask_attend(out, s, v, &r.keys, T, D, false);
        for (size_t i = 0; i < T; i++)
            for (size_t j = 9; j < T; j++) s[i * T + j] += 3.0f; /* the padded keys change */
        for (size_t i = 9 * D; i < T * D; i++) v[i] = 1e6f;
        attn_mask_attend(again, s, v, &r.keys, T, D, false);
        CHECK(memcmp(again, out, sizeof out) == 0);
        /* seeds 1..45: the least row sum is 0.10 at most, outputs move by 0.43 or more */
        CHECK(attn_mask_attend(wrong, s, v, &r.keys, T, D, true) < 0.5);
        for (size_t i = 0; i < T * D; i++) gap = fmaxf(gap, fabsf(wrong[i] - out[i]));
        CHECK(gap > 0.2f);
    }
}

TEST(attn_mask, "no restriction, nothing at all, and what the programmer must not ask") {
    const llm_attn_mask all = llm_attn_mask_make(LLM_ATTN_MASK_ALL, 0, 0);
    const llm_attn_mask none = llm_attn_mask_make(LLM_ATTN_MASK_PREFIX, 0, 0);
    size_t first[3], document[4];
    CHECK(llm_attn_mask_allowed(&all, 3, 1000));
    CHECK(llm_attn_mask_tile(&all, 0, 0, 4, 4, 3, 5) == LLM_ATTN_MASK_FULL);
    CHECK(llm_attn_mask_blocks(first, NULL, NULL, &none, 4, 4, 2, 2) == 0);
    CHECK(first[0] == 0 && first[1] == 0 && first[2] == 0);
    CHECK(llm_attn_mask_blocks(first, NULL, NULL, &all, 0, 4, 2, 2) == 0 && first[0] == 0);
    CHECK_ASSERTS(llm_attn_mask_make(-1, 0, 0));
    CHECK_ASSERTS(llm_attn_mask_make(LLM_ATTN_MASK_OR + 1, 0, 0));
    CHECK_ASSERTS(llm_attn_mask_join(LLM_ATTN_MASK_KEYS, &all, &all));
    CHECK_ASSERTS(llm_attn_mask_blocks(first, NULL, NULL, &all, 4, 4, 0, 2));
    CHECK_ASSERTS(llm_attn_mask_blocks(first, NULL, NULL, &all, 4, 4, 2, 0));
    const size_t late[2] = {1, 4}, back[3] = {0, 3, 2}, length[1] = {5};
    bool present[4];
    CHECK_ASSERTS(llm_attn_mask_documents(document, late, 1));
    CHECK_ASSERTS(llm_attn_mask_documents(document, back, 2));
    CHECK_ASSERTS(llm_attn_mask_from_padding(present, length, 1, 4, false));
    CHECK(!all.document && !all.present && !all.a && !all.b && all.first == 0 && all.size == 0);
    const llm_attn_mask either = llm_attn_mask_join(LLM_ATTN_MASK_OR, &all, &none);
    CHECK(either.first == 0 && either.size == 0 && either.a == &all && either.b == &none);
    const size_t texts[3] = {0, 1, 3};
    size_t *exact = (size_t *)test_memory(3, sizeof *exact); /* nothing is written behind it */
    llm_attn_mask_documents(exact, texts, 2);
    CHECK(exact[0] == 0 && exact[1] == 1 && exact[2] == 1);
    const size_t edge[2] = {0, 4};
    bool two[8];
    llm_attn_mask_from_padding(two, edge, 2, 4, true);
    for (size_t i = 0; i < 8; i++) CHECK(two[i] == (i >= 4));
}
