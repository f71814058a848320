/* @beam_search_diverse */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_beam.h"

enum { V = 7, T = 6 };
static size_t diverse_up(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* group (G) <- the search on exactly the memory that the comments ask for. */
static tiny_beam diverse_run(llm_beam_search *group, size_t G, float lambda, const int *prompt,
                             size_t n, const float *table, const llm_beam_search_config *c) {
    const size_t B = c->beams, K = (c->stops > 1 ? 1 + c->stops : 2) * B;
    const size_t advance = 2 * diverse_up(B * V * 4) + diverse_up(K * 8) + diverse_up(B * 8);
    llm_arena room = test_arena(G * (3 * diverse_up(B * T * 4) + 5 * diverse_up(8 * B)));
    llm_arena arena = test_arena(diverse_up(G * B * V * 4) + diverse_up(V * 4) +
                                 diverse_up(G * B * 4) + 3 * diverse_up(G * B * 8) + advance);
    for (size_t g = 0; g < G; g++) llm_beam_search_create(&group[g], c, &room);
    tiny_beam memory;
    llm_beam_search_model m = tiny_beam_model(&memory, table, V);
    if (c->max_new == T) m.model.capacity = n + T;
    llm_beam_search_diverse(group, G, lambda, prompt, n, &m, c, &arena);
    CHECK(arena.used == 0);
    return memory;
}

TEST(beam_search_diverse, "texts and scores equal the paper's algorithm written with lists") {
    const float *table = golden("model/table");
    for (size_t i = 0; i < 10; i++) {
        size_t n = 0, G = 0, total = 0;
        const float *prompt = golden_n(&n, "%zu/prompt", i), *how = golden("%zu/how", i);
        llm_beam_search_config c = llm_beam_search_defaults((size_t)how[1], T);
        c.alpha = how[3];
        const float *stop = golden_n(&c.stops, "%zu/stop", i);
        c.stop = as_ints(stop, c.stops);
        llm_beam_search group[4];
        diverse_run(group, (size_t)how[0], how[2], as_ints(prompt, n), n, table, &c);
        const float *count = golden_n(&G, "%zu/count", i), *size = golden("%zu/size", i);
        const float *ids = golden("%zu/ids", i), *want = golden_n(&total, "%zu/score", i);
        for (size_t g = 0; g < G; g++) {
            CHECK(group[g].ended == (size_t)count[g]);
            for (size_t k = 0; k < group[g].ended; k++) {
                CHECK(group[g].end_length[k] == (size_t)*size++);
                for (size_t t = 0; t < group[g].end_length[k]; t++)
                    CHECK(group[g].end_ids[k * T + t] == (int)*ids++);
                CHECK_NEAR(group[g].end_score[k], *want++, 2e-6);
            }
        }
    }
}

TEST(beam_search_diverse, "without a charge all groups are one beam search; a huge one: no token "
                          "twice in a step") {
    const int prompt = 1;
    for (uint64_t seed = 1; seed < 20; seed++) {
        const float *table = tiny_beam_table(seed, V, 2.0f);
        llm_beam_search_config c = llm_beam_search_defaults(2, T);
        llm_beam_search group[3], one;
        diverse_run(group, 3, 0.0f, &prompt, 1, table, &c);
        const tiny_beam alone = diverse_run(&one, 1, 9.0f, &prompt, 1, table, &c);
        CHECK(alone.turns == T && alone.rows == 1 + 2 * (T - 1));
        for (size_t g = 0; g < 3; g++) {
            CHECK(memcmp(group[g].end_ids, one.end_ids, 2 * T * sizeof(int)) == 0);
            CHECK_NEAR(group[g].end_sum[0], tiny_beam_logp(table, V, 1, group[g].end_ids, T), 1e-5);
        }
        c.beams = 1;
        diverse_run(group, 3, 1e4f, &prompt, 1, table, &c);
        for (size_t t = 0; t + 1 < T; t++) /* the last tokens end texts and are not counted */
            for (size_t g = 0; g < 3; g++)
                for (size_t h = 0; h < g; h++) CHECK(group[g].end_ids[t] != group[h].end_ids[t]);
    }
    llm_beam_search group[1];
    llm_beam_search_config c = llm_beam_search_defaults(1, 64);
    CHECK_ASSERTS(diverse_run(group, 1, 0.0f, &prompt, 1, tiny_beam_table(1, V, 1.0f), &c));
    c.max_new = T;
    CHECK_ASSERTS(diverse_run(group, 0, 0.0f, &prompt, 1, tiny_beam_table(1, V, 1.0f), &c));
    CHECK_ASSERTS(diverse_run(group, 1, 0.0f, &prompt, 0, tiny_beam_table(1, V, 1.0f), &c));
}

TEST(beam_search_diverse, "where nothing is charged, last bits of the probabilities still rank") {
    const int prompt = 1;
    for (size_t i = 0; i < 16; i++) { /* log p between -1 and -1/2: an ulp of 2^-24 */
        float *table = floats(V * V * V);
        for (size_t k = 0; k < V * V * V; k++)
            table[k] = k % V == 0 ? -0x1p-24f : k % V == 1 ? 0.0f : -5.0f - 0.25f * (float)i;
        const llm_beam_search_config c = llm_beam_search_defaults(1, T);
        llm_beam_search group[1];
        diverse_run(group, 1, 1.0f, &prompt, 1, table, &c);
        CHECK(group[0].end_ids[0] == 1);
    }
}
