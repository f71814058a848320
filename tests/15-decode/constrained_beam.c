/* @constrained_beam */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_beam.h"

static size_t constrained_up(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* On exactly the memory that the comments ask for. */
static llm_beam_search constrained_run(const float *table, size_t V,
                                       const llm_beam_search_config *c,
                                       const llm_constrained_beam_phrases *p) {
    const size_t B = c->beams, P = p->count, N = B + B * (P + 1), M = p->start[P];
    const size_t kept = 3 * constrained_up(B * c->max_new * 4) + 5 * constrained_up(8 * B);
    const size_t run = constrained_up(B * V * 4) + constrained_up(B * 4) +
                       2 * constrained_up(B * 8) + constrained_up(B * P * 8);
    const size_t advance = constrained_up(B * V * 4) + constrained_up(B * V) +
                           constrained_up(N * 4) + 3 * constrained_up(N * 8) +
                           constrained_up(N * P * 8) + constrained_up(B * P * 8) +
                           constrained_up((M + 2) * 8) + constrained_up(B * 8);
    llm_arena arena = test_arena(kept + run + advance);
    llm_beam_search s;
    tiny_beam memory;
    llm_beam_search_model m = tiny_beam_model(&memory, table, V);
    const int prompt = 1;
    m.model.capacity = 1 + c->max_new;
    llm_beam_search_create(&s, c, &arena);
    llm_constrained_beam_run(&s, &prompt, 1, &m, p, c, &arena);
    CHECK(arena.used == kept);
    return s;
}

static bool constrained_says(const int *ids, size_t T, const int *phrase, size_t n) {
    for (size_t t = 0; t + n <= T; t++)
        if (memcmp(ids + t, phrase, n * sizeof(int)) == 0) return true;
    return false;
}

/* Two phrases without a common token: 3 4, and 2. */
static const int constrained_token[3] = {3, 4, 2};
static const size_t constrained_start[3] = {0, 2, 3};
static const llm_constrained_beam_phrases constrained_two = {constrained_token, constrained_start,
                                                             2};

TEST(constrained_beam, "a wide beam finds the best text of all that say the phrases; a small one "
                       "says them and is never better") {
    enum { V = 5, T = 4 };
    size_t worse = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        const float *table = tiny_beam_table(seed, V, 2.0f);
        double best = -1e30;
        for (size_t code = 0; code < 625; code++) {
            const int ids[T] = {(int)(code / 125), (int)(code / 25 % 5), (int)(code / 5 % 5),
                                (int)(code % 5)};
            if (!constrained_says(ids, T, constrained_token, 2)) continue;
            if (!constrained_says(ids, T, constrained_token + 2, 1)) continue;
            best = fmax(best, tiny_beam_logp(table, V, 1, ids, T));
        }
        for (size_t B = 4; B <= 1300; B *= 4) {
            llm_beam_search_config c = llm_beam_search_defaults(B, T);
            c.alpha = 0.0f;
            const llm_beam_search s = constrained_run(table, V, &c, &constrained_two);
            CHECK(s.ended > 0 && s.end_score[0] < best + 1e-5);
            if (B == 1024) CHECK_NEAR(s.end_score[0], best, 1e-5);
            worse += s.end_score[0] < best - 1e-3;
            for (size_t k = 0; k < s.ended; k++) {
                const int *ids = s.end_ids + k * T;
                CHECK(s.end_length[k] == T);
                CHECK(constrained_says(ids, T, constrained_token, 2));
                CHECK(constrained_says(ids, T, constrained_token + 2, 1));
                CHECK_NEAR(s.end_sum[k], tiny_beam_logp(table, V, 1, ids, T), 1e-5);
                for (size_t j = 0; j < k; j++)
                    CHECK(memcmp(ids, s.end_ids + j * T, T * sizeof(int)) != 0);
            }
        }
    }
    CHECK(worse > 0 && worse < 40);
}

TEST(constrained_beam, "a text ends only when all is said; without phrases it is a beam search") {
    enum { V = 6, T = 8 };
    const int stop = 0;
    const size_t none[1] = {0};
    const llm_constrained_beam_phrases nothing = {NULL, none, 0};
    double with = 0.0, without = 0.0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        const float *table = tiny_beam_table(seed, V, 1.5f);
        llm_beam_search_config c = llm_beam_search_defaults(8, T);
        c.stop = &stop, c.stops = 1, c.alpha = 0.0f;
        const llm_beam_search s = constrained_run(table, V, &c, &constrained_two);
        CHECK(s.ended > 0);
        for (size_t k = 0; k < s.ended; k++) {
            const int *ids = s.end_ids + k * T;
            const size_t n = s.end_length[k];
            CHECK(constrained_says(ids, n, constrained_token, 2));
            CHECK(constrained_says(ids, n, constrained_token + 2, 1));
            CHECK(n == T || ids[n - 1] == 0);
        }
        const llm_beam_search free_ = constrained_run(table, V, &c, &nothing);
        CHECK(free_.end_score[0] >= s.end_score[0]);
        with += (double)s.end_length[0], without += (double)free_.end_length[0];
        c.stops = 0; /* all texts of full length: the same beams */
        llm_arena arena = test_arena(1 << 16);
        llm_beam_search plain;
        tiny_beam memory;
        const llm_beam_search_model m = tiny_beam_model(&memory, table, V);
        const int prompt = 1;
        llm_beam_search_create(&plain, &c, &arena);
        llm_beam_search_run(&plain, &prompt, 1, &m, &c, &arena);
        const llm_beam_search same = constrained_run(table, V, &c, &nothing);
        CHECK(memcmp(same.end_ids, plain.end_ids, T * sizeof(int)) == 0);
        CHECK_NEAR(same.end_score[0], plain.end_score[0], 1e-5);
    }
    CHECK(with > without + 20.0);
}

TEST(constrained_beam, "how far the phrases are: begun, interrupted, begun again, shared tokens") {
    const int token[7] = {1, 2, 3, 1, 2, 5, 1};
    const size_t start[4] = {0, 3, 6, 7}; /* 1 2 3, 1 2 5, 1 */
    const llm_constrained_beam_phrases p = {token, start, 3};
    size_t at[3] = {0, 0, 0};
    CHECK(llm_constrained_beam_next(at, 4, &p) == 0);
    CHECK(llm_constrained_beam_next(at, 1, &p) == 1); /* all three wait for it: the first moves */
    CHECK(at[0] == 1 && at[1] == 0 && at[2] == 0);
    size_t one[3] = {1, 0, 1};
    CHECK(llm_constrained_beam_next(one, 2, &p) == 3 && one[0] == 2 && one[2] == 1);
    CHECK(llm_constrained_beam_next(one, 1, &p) == 2 && one[0] == 0 && one[1] == 1);
    size_t begun[3] = {2, 0, 1}; /* 1 2 and then 2: nothing waits for it */
    CHECK(llm_constrained_beam_next(begun, 2, &p) == 1 && begun[0] == 0 && begun[1] == 0);
    const size_t single[2] = {0, 2};
    const int ab[2] = {7, 8};
    const llm_constrained_beam_phrases two = {ab, single, 1};
    size_t again[1] = {1}; /* 7, and 7 again: it begins anew */
    CHECK(llm_constrained_beam_next(again, 7, &two) == 1);
    CHECK(llm_constrained_beam_next(again, 8, &two) == 2);
    CHECK(llm_constrained_beam_next(again, 7, &two) == 2); /* met is met */
}

TEST(constrained_beam, "the phrase that is farthest moves, and what is said does not begin again") {
    const int token[3] = {2, 1, 2};
    const size_t start[3] = {0, 1, 3}; /* 2, and 1 2 */
    const llm_constrained_beam_phrases p = {token, start, 2};
    size_t at[2] = {0, 1};
    CHECK(llm_constrained_beam_next(at, 2, &p) == 2 && at[0] == 0 && at[1] == 2);
    size_t all[2] = {1, 2};
    CHECK(llm_constrained_beam_next(all, 1, &p) == 3 && all[0] == 1 && all[1] == 2);
}

TEST(constrained_beam, "stop tokens take no place from others before all is said; bad prompts") {
    enum { V = 4, B = 2, T = 3 };
    const float logits[V] = {5.0f, 3.0f, 1.0f, 4.0f};
    const int stop[2] = {0, 3}, token = 2, prompt = 1;
    const size_t start[2] = {0, 1};
    const llm_constrained_beam_phrases p = {&token, start, 1};
    llm_beam_search_config c = llm_beam_search_defaults(B, T);
    c.stop = stop, c.stops = 2;
    llm_arena arena = test_arena(1 << 14);
    llm_beam_search s;
    size_t at[B] = {0, 0};
    llm_beam_search_create(&s, &c, &arena);
    llm_constrained_beam_advance(&s, at, logits, V, &p, &c, &arena);
    CHECK(s.live == 2 && s.ids[0] == 1 && s.ids[T] == 2 && at[0] == 0 && at[1] == 1 && s.open);
    tiny_beam memory;
    llm_beam_search_model m = tiny_beam_model(&memory, tiny_beam_table(1, V, 1.0f), V);
    llm_beam_search_create(&s, &c, &arena);
    CHECK_ASSERTS(llm_constrained_beam_run(&s, &prompt, 0, &m, &p, &c, &arena));
    m.model.capacity = T;
    CHECK_ASSERTS(llm_constrained_beam_run(&s, &prompt, 1, &m, &p, &c, &arena));
}
