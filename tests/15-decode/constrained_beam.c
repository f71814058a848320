/* @constrained_beam */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_beam.h"

static size_t constrained_up(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* The bytes that the comments ask for: of one generation, and of what is kept. */
static size_t constrained_scratch(size_t B, size_t live, size_t V, size_t P, size_t M) {
    const size_t N = B + live * (P + 1);
    return constrained_up(live * V * 4) + constrained_up(live * V) + constrained_up(N * 4) +
           3 * constrained_up(N * 8) + constrained_up(N * P * 8) + constrained_up(B * P * 8) +
           constrained_up((M + 1) * 8) + constrained_up(B * 8);
}
static size_t constrained_kept(size_t B, size_t T) {
    return 3 * constrained_up(B * T * 4) + 5 * constrained_up(8 * B);
}

/* On exactly that memory. */
static llm_beam_search constrained_run(const float *table, size_t V,
                                       const llm_beam_search_config *c,
                                       const llm_constrained_beam_phrases *p) {
    const size_t B = c->beams, P = p->count, kept = constrained_kept(B, c->max_new);
    const size_t run = constrained_up(B * V * 4) + constrained_up(B * 4) +
                       2 * constrained_up(B * 8) + constrained_up(B * P * 8);
    llm_arena arena = test_arena(kept + run + constrained_scratch(B, B, V, P, p->start[P]));
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
    const float alike[V] = {0.0f, 0.0f, 0.0f, 0.0f}; /* of equals the first come first */
    at[0] = 1, c.stops = 0;
    llm_beam_search_create(&s, &c, &arena);
    llm_constrained_beam_advance(&s, at, alike, V, &p, &c, &arena);
    CHECK(s.live == 2 && s.ids[0] == 0 && s.ids[T] == 1);
    c.stops = 2;
    tiny_beam memory;
    llm_beam_search_model m = tiny_beam_model(&memory, tiny_beam_table(1, V, 1.0f), V);
    llm_beam_search_create(&s, &c, &arena);
    CHECK_ASSERTS(llm_constrained_beam_run(&s, &prompt, 0, &m, &p, &c, &arena));
    m.model.capacity = T;
    CHECK_ASSERTS(llm_constrained_beam_run(&s, &prompt, 1, &m, &p, &c, &arena));
}

/* All continuations of the texts under way, text after text. */
typedef struct {
    double logp;
    size_t met;
    bool may, candidate, dealt;
} constrained_pair;

/* The best candidate that is not dealt yet and, with room (banks), whose bank has some; n if there
 * is none. */
static size_t constrained_best(const constrained_pair *pair, size_t n, const size_t *room) {
    size_t best = n;
    for (size_t i = 0; i < n; i++)
        if (pair[i].candidate && !pair[i].dealt && (!room || room[pair[i].met] > 0) &&
            (best == n || pair[i].logp > pair[best].logp))
            best = i;
    return best;
}

TEST(constrained_beam, "one generation by its definition: who is a candidate, who ends, what each "
                       "bank gets, in which order") {
    size_t ended = 0, full = 0, none = 0, early = 0, spare = 0;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        const size_t V = 5 + llm_rng_below(&rng, 4), P = llm_rng_below(&rng, 4);
        const size_t live = 1 + llm_rng_below(&rng, 4), B = live + llm_rng_below(&rng, 10);
        const size_t before = llm_rng_below(&rng, 4), n = live * V;
        int token[9], stop[2];
        size_t start[4] = {0};
        for (size_t i = 0; i < P; i++) start[i + 1] = start[i] + 1 + llm_rng_below(&rng, 3);
        const size_t M = start[P];
        for (size_t i = 0; i < M; i++) token[i] = (int)llm_rng_below(&rng, V);
        for (size_t i = 0; i < 2; i++) stop[i] = (int)llm_rng_below(&rng, V);
        const llm_constrained_beam_phrases p = {token, start, P};
        llm_beam_search_config c =
            llm_beam_search_defaults(B, before + 1 + (llm_rng_below(&rng, 5) > 0));
        c.stop = stop, c.stops = llm_rng_below(&rng, 3), c.alpha = 0.0f;

        const size_t T = c.max_new, kept = constrained_kept(B, T);
        llm_arena arena = test_arena(kept + constrained_scratch(B, live, V, P, M));
        llm_beam_search s;
        llm_beam_search_create(&s, &c, &arena);
        s.live = live, s.length = before;
        int *ids = (int *)test_memory(live * T, sizeof(int));
        size_t *at = (size_t *)test_memory(B * P, sizeof(size_t));
        for (size_t b = 0; b < live; b++) {
            s.sum[b] = -6.0 * (double)llm_rng_uniform(&rng);
            for (size_t t = 0; t < before; t++)
                ids[b * T + t] = s.ids[b * T + t] = (int)llm_rng_below(&rng, V);
            const bool all = llm_rng_below(&rng, 3) == 0;
            for (size_t i = 0; i < P; i++) {
                const size_t length = start[i + 1] - start[i];
                at[b * P + i] = all ? length : llm_rng_below(&rng, length + 1);
            }
        }
        float *logits = floats(n);
        const size_t open = llm_rng_below(&rng, 3) ? 6 : 2; /* of 7 tokens, others are banned */
        for (size_t i = 0; i < n; i++)
            logits[i] = llm_rng_below(&rng, 7) < open ? 2.0f * llm_rng_normal(&rng) : -INFINITY;
        for (size_t b = 0; b < live; b++) logits[b * V + V - 1] = 0.5f * (float)b;

        constrained_pair *pair = (constrained_pair *)test_memory(n, sizeof *pair);
        size_t *then = (size_t *)test_memory(n * P, sizeof(size_t));
        for (size_t b = 0; b < live; b++) {
            double total = 0.0;
            size_t said = 0;
            for (size_t v = 0; v < V; v++) total += exp((double)logits[b * V + v]);
            for (size_t i = 0; i < P; i++) said += at[b * P + i];
            for (size_t v = 0; v < V; v++) {
                const size_t k = b * V + v;
                pair[k].logp = s.sum[b] + (double)logits[k] - log(total);
                pair[k].may = logits[k] > -INFINITY;
                for (size_t i = 0; i < c.stops; i++)
                    if (stop[i] == (int)v && said < M) pair[k].may = false;
                memcpy(then + k * P, at + b * P, P * sizeof(size_t));
                pair[k].met = llm_constrained_beam_next(then + k * P, (int)v, &p);
            }
        }
        for (size_t k = 0; k < n; k++) {
            size_t better = 0, of_its_text = 0;
            bool moves = false;
            for (size_t j = 0; j < n; j++) {
                const bool before_it = pair[j].may && pair[j].logp > pair[k].logp;
                better += before_it, of_its_text += before_it && j / V == k / V;
            }
            for (size_t i = 0; i < P; i++) {
                const size_t have = at[k / V * P + i];
                if (start[i] + have < start[i + 1])
                    moves = moves || token[start[i] + have] == (int)(k % V);
            }
            pair[k].candidate = pair[k].may && (better < B || of_its_text == 0 || moves);
        }

        llm_constrained_beam_advance(&s, at, logits, V, &p, &c, &arena);
        CHECK(arena.used == kept && s.length == before + 1);
        size_t ends = 0, next = 0, room[10];
        for (size_t k = constrained_best(pair, n, NULL); k < n;
             k = constrained_best(pair, n, NULL)) { /* those that end leave */
            pair[k].dealt = true;
            bool stops = before + 1 == T;
            for (size_t i = 0; i < c.stops; i++) stops = stops || stop[i] == (int)(k % V);
            if (!stops) continue;
            pair[k].candidate = false;
            if (pair[k].met < M || ends == B) continue;
            CHECK_NEAR(s.end_sum[ends], pair[k].logp, 1e-5);
            CHECK(s.end_length[ends] == before + 1);
            CHECK(memcmp(s.end_ids + ends * T, ids + k / V * T, before * sizeof(int)) == 0);
            CHECK(s.end_ids[ends * T + before] == (int)(k % V));
            ends++;
        }
        CHECK(s.ended == ends);
        for (size_t k = 0; k < n; k++) pair[k].dealt = false;
        for (size_t m = 0; m <= M; m++) room[m] = B / (M + 1);
        room[M] += B - B / (M + 1) * (M + 1);
        for (size_t rest = 0; next < B; next++) {
            size_t k = rest ? n : constrained_best(pair, n, room);
            if (k == n) k = constrained_best(pair, n, NULL), rest = 1;
            if (k == n) break;
            pair[k].dealt = true;
            if (!rest) room[pair[k].met]--;
            spare += rest;
            CHECK(next < s.live && s.parent[next] == k / V);
            CHECK_NEAR(s.sum[next], pair[k].logp, 1e-5);
            CHECK(memcmp(s.ids + next * T, ids + k / V * T, before * sizeof(int)) == 0);
            CHECK(s.ids[next * T + before] == (int)(k % V));
            CHECK(memcmp(at + next * P, then + k * P, P * sizeof(size_t)) == 0);
        }
        CHECK(s.live == next && s.open == (next > 0));
        ended += ends > 0, full += next == B, none += next == 0;
        early += ends > 0 && before + 1 < T;
    }
    CHECK(ended > 50 && full > 50 && none > 50 && early > 50 && spare > 50);
}

TEST(constrained_beam, "a text whose logits are NaN has no continuation") {
    enum { V = 3, B = 2, T = 3 };
    const float logits[V] = {NAN, NAN, NAN};
    const int token = 1;
    const size_t start[2] = {0, 1};
    const llm_constrained_beam_phrases p = {&token, start, 1};
    const llm_beam_search_config c = llm_beam_search_defaults(B, T);
    llm_arena arena = test_arena(1 << 14);
    llm_beam_search s;
    size_t at[B] = {0, 0};
    llm_beam_search_create(&s, &c, &arena);
    llm_constrained_beam_advance(&s, at, logits, V, &p, &c, &arena);
    CHECK(s.live == 0 && s.ended == 0 && !s.open);
}
