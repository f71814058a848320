/* @lookahead */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_speculative.h"

static size_t lookahead_up(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* Runs on exactly the memory that the comments ask for. */
static size_t lookahead_run(int *ids, size_t n, size_t max, const llm_speculative_model *m,
                            size_t W, size_t N, size_t G, const llm_sampling_step *chain,
                            size_t steps, llm_rng *rng) {
    const size_t V = m->V, M = 1 + (N - 1) * (G + W);
    const size_t kept =
        lookahead_up((N - 1) * W * 4) + lookahead_up((N - 1) * V * G * 4) + lookahead_up(V * 8);
    llm_arena arena =
        test_arena(kept + lookahead_up(M * V * 4) + lookahead_up(n * V * 4) +
                   2 * lookahead_up(M * 4) + lookahead_up(M * 8) + lookahead_up((N + V) * 4) + 64);
    llm_lookahead s;
    llm_lookahead_create(&s, V, W, N, G, ids, n, &arena);
    CHECK(arena.used == kept && llm_lookahead_size(&s) == M);
    llm_speculative_model exact = *m;
    exact.capacity = n + max + N;
    const size_t passes = llm_lookahead_run(ids, n, max, &s, &exact, chain, steps, rng, &arena);
    CHECK(arena.used == kept);
    return passes;
}

TEST(lookahead, "the text is greedy decoding's, 200 prompts, several windows") {
    enum { V = 7, T = 60 };
    const llm_sampling_step greedy[1] = {{LLM_SAMPLING_TEMPERATURE, 0.0f}};
    llm_rng rng = llm_rng_seed(1);
    size_t fewer = 0;
    for (uint64_t prompt = 0; prompt < 200; prompt++) {
        const float *table = tiny_speculative_table(1 + prompt / 10, V, NULL, 1.0f);
        int want[T], ids[T];
        const size_t n = 1 + prompt % 4;
        for (size_t t = 0; t < n; t++) want[t] = ids[t] = (int)llm_rng_below(&rng, V);
        for (size_t t = n; t < T; t++)
            want[t] = llm_greedy_pick(
                table + ((t > 1 ? (size_t)want[t - 2] : 0) * V + (size_t)want[t - 1]) * V, V);
        tiny_speculative memory;
        const llm_speculative_model m = tiny_speculative_model(&memory, table, V);
        const size_t W = 1 + prompt % 5, N = 2 + prompt % 3, G = prompt % 4;
        const size_t passes = lookahead_run(ids, n, T - n, &m, W, N, G, greedy, 1, &rng);
        CHECK(memcmp(ids, want, sizeof ids) == 0);
        CHECK(passes <= T - n && passes * N >= T - n);
        if (G == 0) CHECK(passes == T - n);
        CHECK(memory.passes == passes + (n > 1));
        fewer += passes < T - n;
        CHECK(memory.length >= T - 1 && memcmp(memory.text, ids, (T - 1) * sizeof(int)) == 0);
    }
    CHECK(fewer > 100);
}

TEST(lookahead, "drawn texts have the model's joint law") {
    enum { V = 4, RUNS = 40000 };
    const float *table = tiny_speculative_table(8, V, NULL, 0.8f);
    const llm_sampling_step chain[2] = {{LLM_SAMPLING_TEMPERATURE, 0.9f},
                                        {LLM_SAMPLING_TOP_P, 0.9f}};
    for (size_t steps = 0; steps <= 2; steps += 2) {
        double joint[V * V * V];
        size_t count[V * V * V] = {0}, passes = 0;
        tiny_speculative_joint(joint, table, V, 2, chain, steps);
        llm_rng rng = llm_rng_seed(3 + steps);
        tiny_speculative memory;
        const llm_speculative_model m = tiny_speculative_model(&memory, table, V);
        llm_arena arena = test_arena(1 << 14);
        llm_lookahead s; /* kept: each text is drawn with the pool that those before it filled */
        const int two = 2;
        llm_lookahead_create(&s, V, 2, 3, 2, &two, 1, &arena);
        for (size_t run = 0; run < RUNS; run++) {
            int ids[4] = {2};
            memory.length = 0;
            passes += llm_lookahead_run(ids, 1, 3, &s, &m, chain, steps, &rng, &arena);
            count[((size_t)ids[1] * V + (size_t)ids[2]) * V + (size_t)ids[3]]++;
        }
        CHECK(tiny_speculative_chi(count, joint, V * V * V, RUNS) < 3.09);
        CHECK(passes < 3 * RUNS - RUNS / 4); /* drafts were accepted */
    }
}

TEST(lookahead, "Jacobi: greedy's tokens after at most m rounds; one round where places decide") {
    enum { V = 7, M = 9 };
    for (uint64_t seed = 1; seed < 60; seed++) {
        const float *table = tiny_speculative_table(seed, V, NULL, 1.0f);
        tiny_speculative memory;
        const llm_speculative_model m = tiny_speculative_model(&memory, table, V);
        const int text[3] = {1, 5, 3};
        int y[M], want[M + 2] = {1, 5};
        float logits[2 * V];
        m.pass(m.context, logits, text, NULL, 1); /* the newest token is not read */
        for (size_t t = 2; t < M + 2; t++)
            want[t] =
                llm_greedy_pick(table + ((size_t)want[t - 2] * V + (size_t)want[t - 1]) * V, V);
        for (size_t i = 0; i < M; i++) y[i] = (int)(seed % V);
        llm_arena arena = test_arena(lookahead_up(M * V * 4) + lookahead_up(M * 4));
        const size_t rounds = llm_lookahead_jacobi(y, M, 5, &m, &arena);
        CHECK(memcmp(y, want + 2, sizeof y) == 0 && rounds <= M && memory.length == 1);
        CHECK(memory.passes == rounds + 2 && arena.used == 0);
        CHECK(llm_lookahead_jacobi(y, M, 5, &m, &arena) == 0); /* nothing to change any more */
        CHECK(llm_lookahead_jacobi(y, 0, 5, &m, &arena) == 0);
        y[0] = (want[2] + 1) % V;
        CHECK(llm_lookahead_jacobi(y, 1, 5, &m, &arena) == 1 && y[0] == want[2]);
    }
    float *flat = floats(V * V * V); /* the same law everywhere */
    for (size_t i = 0; i < V * V * V; i++) flat[i] = i % V == 4 ? 1.0f : 0.0f;
    tiny_speculative memory;
    const llm_speculative_model m = tiny_speculative_model(&memory, flat, V);
    int y[M] = {0};
    llm_arena arena = test_arena(4096);
    CHECK(llm_lookahead_jacobi(y, M, 2, &m, &arena) == 1);
    for (size_t i = 0; i < M; i++) CHECK(y[i] == 4);
}

TEST(lookahead, "the layout: depths, and logits of each node equal those of its line alone") {
    enum { V = 6, W = 4, N = 4, G = 3 };
    const float *table = tiny_speculative_table(5, V, NULL, 1.0f);
    const int text[5] = {1, 2, 3, 4, 5}, grams[4][3] = {{1, 2, 3}, {4, 4, 4}, {5, 0, 1}, {2, 2, 2}};
    llm_arena arena = test_arena(8192);
    llm_lookahead s;
    llm_lookahead_create(&s, V, W, N, G, text, 5, &arena);
    int ids[64], parent[64], line[64];
    CHECK(llm_lookahead_layout(ids, parent, &s, 2) == 1); /* an empty pool */
    for (size_t k = 0; k < 4; k++) llm_lookahead_add(&s, 2, grams[k]);
    for (size_t k = 1; k < 4; k++) llm_lookahead_add(&s, 2, grams[k]); /* known */
    CHECK(s.count[2] == 4 && s.count[1] == 0);
    const size_t window = llm_lookahead_layout(ids, parent, &s, 2), n = window + (N - 1) * W;
    CHECK(window == 1 + 3 * G && n == llm_lookahead_size(&s) && ids[0] == 2);
    const int want[9] = {2, 2, 2, 4, 4, 4, 5, 0, 1}; /* the oldest was replaced */
    CHECK(memcmp(ids + 1, want, sizeof want) == 0);
    tiny_speculative memory, alone;
    const llm_speculative_model m = tiny_speculative_model(&memory, table, V);
    float *logits = floats(n * V), *one = floats(64 * V);
    m.pass(m.context, logits, text, NULL, 2);
    m.pass(m.context, logits, ids, parent, n);
    for (size_t i = 0; i < n; i++) {
        size_t depth = 1;
        for (int up = parent[i]; up >= 0; up = parent[up]) depth++;
        if (i >= window) {
            const size_t l = (i - window) / W, j = (i - window) % W;
            CHECK(depth == 2 + j + l && ids[i] == text[(j + l) % 5]);
        } else {
            CHECK(depth == (i == 0 ? 1 : 2 + (i - 1) % 3));
        }
        size_t at = depth;
        for (int up = (int)i; up >= 0; up = parent[up]) line[--at] = ids[up];
        const llm_speculative_model a = tiny_speculative_model(&alone, table, V);
        a.pass(a.context, one, text, NULL, 2);
        a.pass(a.context, one, line, NULL, depth);
        CHECK(memcmp(one + (depth - 1) * V, logits + i * V, V * sizeof(float)) == 0);
    }
    float level[W * V]; /* the next level and the n-grams that fall out */
    for (size_t j = 0; j < W; j++)
        for (size_t v = 0; v < V; v++) level[j * V + v] = v == j + 1 ? 1.0f : 0.0f;
    level[3 * V] = NAN; /* the last column stays */
    llm_lookahead_advance(&s, level, &arena);
    const int after[(N - 1) * W] = {2, 3, 4, 4, 3, 4, 5, 5, 1, 2, 3, 1};
    CHECK(memcmp(s.level, after, sizeof after) == 0);
    CHECK(s.count[1] == 1 && s.count[2] == 5 && s.count[3] == 1 && s.count[4] == 0);
    const int gram[3] = {2, 3, 1};
    CHECK(memcmp(s.pool + 1 * G * 3, gram, sizeof gram) == 0);
}

TEST(lookahead, "a pass moves the window on by the logits of its own last level; the pool is what "
                "was added") {
    enum { V = 6, W = 3, N = 4, G = 2, L = N - 1 };
    for (uint64_t seed = 1; seed <= 20; seed++) {
        const float *table = tiny_speculative_table(seed, V, NULL, 1.0f);
        const llm_sampling_step greedy[1] = {{LLM_SAMPLING_TEMPERATURE, 0.0f}};
        const int text[3] = {4, 1, 3}, gram[2][L] = {{0, 0, 0}, {5, 2, 2}};
        int ids[4], node[64], parent[64], level[L * W];
        llm_arena arena = test_arena(1 << 13);
        memset(arena.memory, 0, arena.size); /* the first n-gram is what stands there already */
        llm_lookahead s;
        llm_lookahead_create(&s, V, W, N, G, text, 3, &arena);
        for (size_t k = 0; k < 2; k++) llm_lookahead_add(&s, 3, gram[k]);
        CHECK(s.count[3] == 2);
        memcpy(level, s.level, sizeof level);
        const size_t last = llm_lookahead_layout(node, parent, &s, 3) + (L - 1) * W;
        tiny_speculative memory;
        const llm_speculative_model m = tiny_speculative_model(&memory, table, V);
        llm_rng rng = llm_rng_seed(1);
        memcpy(ids, text, sizeof text);
        CHECK(llm_lookahead_run(ids, 3, 1, &s, &m, greedy, 1, &rng, &arena) == 1);
        CHECK(memcmp(s.level, level + W, (L - 1) * W * sizeof(int)) == 0);
        for (size_t j = 0; j < W; j++) {
            const size_t up = (size_t)node[parent[last + j]], at = (size_t)node[last + j];
            CHECK(s.level[(L - 1) * W + j] == llm_greedy_pick(table + (up * V + at) * V, V));
        }
    }
}

TEST(lookahead, "drawing along the tree ends at a node without the child, and reads n nodes") {
    enum { V = 2 };
    const int tree[3] = {0, 1, 1}, behind[3] = {-1, 0, 1};
    int *ids = (int *)test_memory(3, sizeof(int)), *parent = (int *)test_memory(3, sizeof(int));
    memcpy(ids, tree, sizeof tree), memcpy(parent, behind, sizeof behind);
    float *p = zeros(3 * V);
    llm_rng rng = llm_rng_seed(1);
    for (size_t most = 0; most <= 3; most++) { /* so many nodes say 1, the others 0 */
        for (size_t i = 0; i < 3; i++) p[i * V] = i >= most, p[i * V + 1] = i < most;
        size_t path[3];
        int next = -1;
        const size_t want = most < 2 ? most + 1 : 3;
        CHECK(llm_lookahead_verify(path, &next, ids, parent, 3, p, V, &rng) == want);
        for (size_t i = 0; i < want; i++) CHECK(path[i] == i);
        CHECK(next == (most == 3));
    }
}

/* A model of random logits that depend on the whole text. */
static void lookahead_hash_pass(void *context, float *logits, const int *ids, const int *parent,
                                size_t n) {
    tiny_speculative *m = (tiny_speculative *)context;
    uint64_t name[256], text = 1;
    for (size_t t = 0; t < m->length; t++) text = text * 31 + (uint64_t)m->text[t] + 1;
    for (size_t i = 0; i < n; i++) {
        const int up = parent ? parent[i] : (int)i - 1;
        name[i] = (up >= 0 ? name[up] : text) * 31 + (uint64_t)ids[i] + 1;
        llm_rng rng = llm_rng_seed(name[i]);
        llm_rng_normal_fill(&rng, logits + i * m->V, m->V);
        m->node[i] = ids[i];
    }
    m->last = n;
}

TEST(lookahead,
     "text that repeats itself takes few passes, unpredictable text one for each token") {
    enum { V = 30, T = 200 };
    const llm_sampling_step greedy[1] = {{LLM_SAMPLING_TEMPERATURE, 0.0f}};
    double passes[2] = {0.0, 0.0};
    for (size_t kind = 0; kind < 2; kind++)
        for (uint64_t seed = 1; seed <= 5; seed++) {
            const float *table = kind ? NULL : tiny_speculative_table(seed, V, NULL, 1.0f);
            tiny_speculative memory;
            llm_speculative_model m = tiny_speculative_model(&memory, table, kind ? 10 * V : V);
            if (kind) m.pass = lookahead_hash_pass;
            llm_rng rng = llm_rng_seed(seed);
            int ids[T + 1] = {(int)seed};
            passes[kind] +=
                (double)lookahead_run(ids, 1, T, &m, 7, 4, 5, greedy, 1, &rng) / (5 * T);
        }
    CHECK(passes[0] < 0.8);  /* 0.62 */
    CHECK(passes[1] > 0.95); /* 0.99 */
}

TEST(lookahead, "wrong sizes assert") {
    llm_arena arena = test_arena(1 << 14);
    llm_lookahead s;
    const int text[1] = {0};
    CHECK_ASSERTS(llm_lookahead_create(&s, 3, 2, 1, 1, text, 1, &arena));
    CHECK_ASSERTS(llm_lookahead_create(&s, 3, 0, 2, 1, text, 1, &arena));
    CHECK_ASSERTS(llm_lookahead_create(&s, 3, 2, 2, 1, text, 0, &arena));
    tiny_speculative memory;
    const float *table = tiny_speculative_table(1, 3, NULL, 1.0f);
    llm_speculative_model m = tiny_speculative_model(&memory, table, 3);
    llm_rng rng = llm_rng_seed(1);
    int ids[TINY_SPECULATIVE_ROOM] = {0};
    llm_lookahead_create(&s, 3, 2, 2, 1, text, 1, &arena);
    CHECK_ASSERTS(llm_lookahead_run(ids, 0, 1, &s, &m, NULL, 0, &rng, &arena));
    CHECK_ASSERTS(
        llm_lookahead_run(ids, 1, TINY_SPECULATIVE_ROOM - 2, &s, &m, NULL, 0, &rng, &arena));
    m.V = 4;
    CHECK_ASSERTS(llm_lookahead_run(ids, 1, 1, &s, &m, NULL, 0, &rng, &arena));
}
