/* @medusa_tree */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_speculative.h"

static size_t tree_up(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* ---- a Transformer of attention layers that reads trees through its cache ---- */

enum { V = 7, C = 8, L = 2, H = 1, HQ = 2, D = 4, ROOM = 80 };

typedef struct {
    llm_kv_cache cache;
    llm_arena arena;
    float embed[V * C], place[ROOM * C], q[L][HQ * D * C], k[L][H * D * C], v[L][H * D * C];
    float out[L][C * HQ * D], head[V * C];
    size_t last;
} tree_net;

static void tree_net_pass(void *context, float *logits, const int *ids, const int *parent,
                          size_t n) {
    tree_net *m = (tree_net *)context;
    const size_t length = m->cache.length[0], mark = m->arena.used;
    int *up = (int *)llm_arena_take(&m->arena, n, sizeof(int));
    size_t *depth = (size_t *)llm_arena_take(&m->arena, n, sizeof(size_t));
    float *x = llm_arena_floats(&m->arena, n * C), *y = llm_arena_floats(&m->arena, n * C);
    float *q = llm_arena_floats(&m->arena, n * HQ * D),
          *o = llm_arena_floats(&m->arena, n * HQ * D);
    float *k = llm_arena_floats(&m->arena, n * D), *v = llm_arena_floats(&m->arena, n * D);
    for (size_t i = 0; i < n; i++) {
        up[i] = parent ? parent[i] : (int)i - 1;
        depth[i] = up[i] < 0 ? length : depth[up[i]] + 1;
        for (size_t c = 0; c < C; c++)
            x[i * C + c] = m->embed[(size_t)ids[i] * C + c] + m->place[depth[i] * C + c];
    }
    for (size_t l = 0; l < L; l++) {
        llm_matmul_forward(k, x, m->k[l], NULL, n, C, D); /* one head: (1,n,D) as it is */
        llm_matmul_forward(v, x, m->v[l], NULL, n, C, D);
        for (size_t h = 0; h < HQ; h++)
            llm_matmul_forward(q + h * n * D, x, m->q[l] + h * D * C, NULL, n, C, D);
        llm_kv_cache_append(&m->cache, l, k, v, n);
        llm_medusa_tree_attend(o, &m->cache, l, 0, q, HQ, up, n, &m->arena);
        for (size_t i = 0; i < n; i++)
            for (size_t h = 0; h < HQ; h++)
                memcpy(q + (i * HQ + h) * D, o + (h * n + i) * D, D * sizeof(float));
        llm_matmul_forward(y, q, m->out[l], NULL, n, HQ * D, C);
        for (size_t i = 0; i < n * C; i++) x[i] = tanhf(x[i] + y[i]);
    }
    llm_matmul_forward(logits, x, m->head, NULL, n, C, V);
    m->last = n;
    if (!parent) llm_kv_cache_advance(&m->cache, NULL, n);
    m->arena.used = mark;
}
static void tree_net_keep(void *context, const size_t *slot, size_t n) {
    tree_net *m = (tree_net *)context;
    const size_t length = m->cache.length[0];
    size_t kept[ROOM];
    for (size_t t = 0; t < length; t++) kept[t] = t;
    for (size_t i = 0; i < n; i++) kept[length + i] = length + slot[i];
    llm_kv_cache_advance(&m->cache, NULL, m->last);
    llm_kv_cache_keep(&m->cache, 0, kept, length + n);
}
static void tree_net_rollback(void *context, size_t n) {
    llm_kv_cache_rollback(&((tree_net *)context)->cache, 0, n);
}
static llm_speculative_model tree_net_model(tree_net *m, uint64_t seed) {
    llm_rng rng = llm_rng_seed(seed);
    m->arena = test_arena(1 << 16);
    llm_kv_cache_create(&m->cache, L, 1, H, ROOM, D, &m->arena);
    float *const part[3] = {m->embed, m->place, &m->q[0][0]};
    const size_t size[3] = {V * C, ROOM * C,
                            sizeof m->q / 4 + sizeof m->k / 4 + sizeof m->v / 4 +
                                sizeof m->out / 4 + V * C};
    for (size_t i = 0; i < 3; i++) llm_rng_normal_fill(&rng, part[i], size[i]);
    llm_speculative_model model;
    model.V = V, model.capacity = ROOM;
    model.context = m;
    model.pass = tree_net_pass;
    model.keep = tree_net_keep;
    model.rollback = tree_net_rollback;
    return model;
}
static tree_net *tree_net_new(void) { return (tree_net *)test_memory(1, sizeof(tree_net)); }

/* Logits reach 10: 5e-5 is 40 of their roundings. */
TEST(medusa_tree, "logits of a tree equal separate runs of each line; the kept line goes on") {
    enum { N = 12, TEXT = 5 };
    for (uint64_t seed = 1; seed <= 10; seed++) {
        llm_rng rng = llm_rng_seed(seed + 100);
        int text[TEXT], ids[N], parent[N], line[TEXT + N + 1];
        float tree[N * V], one[(TEXT + N + 1) * V];
        for (size_t i = 0; i < TEXT; i++) text[i] = (int)llm_rng_below(&rng, V);
        for (size_t i = 0; i < N; i++) {
            ids[i] = (int)llm_rng_below(&rng, V);
            parent[i] = (int)llm_rng_below(&rng, i + 1) - 1;
        }
        tree_net *a = tree_net_new();
        const llm_speculative_model m = tree_net_model(a, seed);
        m.pass(m.context, one, text, NULL, TEXT);
        m.pass(m.context, tree, ids, parent, N);
        for (size_t i = 0; i < N; i++) {
            size_t path[N], depth = 0;
            for (int at = (int)i; at >= 0; at = parent[at]) depth++;
            size_t back = depth;
            for (int at = (int)i; at >= 0; at = parent[at]) path[--back] = (size_t)at;
            memcpy(line, text, sizeof text);
            for (size_t k = 0; k < depth; k++) line[TEXT + k] = ids[path[k]];
            line[TEXT + depth] = 3;
            tree_net *alone = tree_net_new();
            const llm_speculative_model other = tree_net_model(alone, seed);
            other.pass(other.context, one, line, NULL, TEXT + depth + 1);
            CHECK_ALL_NEAR(tree + i * V, one + (TEXT + depth - 1) * V, V, 5e-5f);
            tree_net *again = tree_net_new(); /* keep the line, then one token more */
            const llm_speculative_model kept = tree_net_model(again, seed);
            float next[TEXT * V], dropped[N * V];
            kept.pass(kept.context, next, text, NULL, TEXT);
            kept.pass(kept.context, dropped, ids, parent, N);
            kept.keep(kept.context, path, depth);
            kept.pass(kept.context, next, line + TEXT + depth, NULL, 1);
            CHECK_ALL_NEAR(next, one + (TEXT + depth) * V, V, 5e-5f);
        }
    }
}

TEST(medusa_tree,
     "attention in a tree equals its formula on exactly its scratch; wrong sizes assert") {
    enum { N = 5, T = 3, D2 = 3, H2 = 2, HQ2 = 4 };
    llm_rng rng = llm_rng_seed(2);
    llm_arena arena = test_arena(llm_kv_cache_bytes(2, 2, H2, T + N, D2));
    llm_arena scratch = test_arena(tree_up((T + N) * 4) + tree_up((T + N) * 8));
    llm_kv_cache cache;
    llm_kv_cache_create(&cache, 2, 2, H2, T + N, D2, &arena);
    const size_t l = 1, b = 1;
    cache.length[0] = 1, cache.length[1] = T;
    for (size_t i = 0; i < 2 * 2 * 2 * H2 * (T + N) * D2; i++)
        cache.memory[i] = llm_rng_normal(&rng);
    const int parent[N] = {-1, 0, 0, 2, -1};
    const bool sees[N][N] = {
        {1, 0, 0, 0, 0}, {1, 1, 0, 0, 0}, {1, 0, 1, 0, 0}, {1, 0, 1, 1, 0}, {0, 0, 0, 0, 1}};
    float q[HQ2 * N * D2], out[HQ2 * N * D2];
    llm_rng_normal_fill(&rng, q, HQ2 * N * D2);
    llm_medusa_tree_attend(out, &cache, l, b, q, HQ2, parent, N, &scratch);
    for (size_t h = 0; h < HQ2; h++)
        for (size_t i = 0; i < N; i++) {
            const float *k = llm_kv_cache_keys(&cache, l, b, h / 2);
            const float *v = llm_kv_cache_values(&cache, l, b, h / 2);
            double sum = 0.0, o[D2] = {0.0};
            for (size_t t = 0; t < T + N; t++) {
                if (t >= T && !sees[i][t - T]) continue;
                const double w = exp(dot(q + (h * N + i) * D2, k + t * D2, D2) / sqrt(3.0));
                sum += w;
                for (size_t d = 0; d < D2; d++) o[d] += w * (double)v[t * D2 + d];
            }
            for (size_t d = 0; d < D2; d++) CHECK_NEAR(out[(h * N + i) * D2 + d], o[d] / sum, 1e-5);
        }
    CHECK(scratch.used == 0);
    llm_arena none = test_arena(tree_up(T * 4) + tree_up(T * 8)), room = test_arena(1024);
    llm_medusa_tree_attend(NULL, &cache, l, b, NULL, HQ2, NULL, 0, &none); /* an empty tree */
    CHECK(none.used == 0);
    CHECK_ASSERTS(llm_medusa_tree_attend(out, &cache, l, b, q, 3, parent, N, &room));
    cache.length[1] = T + 1; /* no room for the last node */
    CHECK_ASSERTS(llm_medusa_tree_attend(out, &cache, l, b, q, HQ2, parent, N, &room));
    cache.length[1] = T, cache.H = 0;
    CHECK_ASSERTS(llm_medusa_tree_attend(out, &cache, l, b, q, HQ2, parent, N, &room));
}

/* ---- the shape ---- */

TEST(medusa_tree, "the tree has the n most probable nodes of all, and its expected length") {
    enum { K = 3, S = 3 };
    llm_rng rng = llm_rng_seed(3);
    for (size_t round = 0; round < 50; round++) {
        float hits[K * S];
        for (size_t k = 0; k < K; k++) { /* falling, with sum below 1 */
            float left = 1.0f;
            for (size_t s = 0; s < S; s++)
                left -= hits[k * S + s] = left * llm_rng_uniform(&rng) * 0.7f;
            for (size_t a = 0; a < S; a++)
                for (size_t c = 0; c + 1 < S; c++)
                    if (hits[k * S + c] < hits[k * S + c + 1]) {
                        const float swap = hits[k * S + c];
                        hits[k * S + c] = hits[k * S + c + 1], hits[k * S + c + 1] = swap;
                    }
        }
        double all[39], expected = 0.0;
        size_t count = 0;
        for (size_t a = 0; a < S; a++) {
            all[count++] = (double)hits[a];
            for (size_t c = 0; c < S; c++) {
                all[count++] = (double)hits[a] * (double)hits[S + c];
                for (size_t e = 0; e < S; e++)
                    all[count++] = (double)hits[a] * (double)hits[S + c] * (double)hits[2 * S + e];
            }
        }
        for (size_t i = 0; i < count; i++) /* largest first */
            for (size_t k = i + 1; k < count; k++)
                if (all[k] > all[i]) {
                    const double swap = all[i];
                    all[i] = all[k], all[k] = swap;
                }
        for (size_t n = 1; n <= 42; n++) {
            int parent[42], rank[42] = {0};
            llm_arena arena = test_arena(3 * tree_up(n * 8));
            const size_t got =
                llm_medusa_tree_choose(&expected, parent, rank, n, hits, K, S, &arena);
            CHECK(got == (n < 40 ? n : 40) && arena.used == 0);
            CHECK(parent[0] == -1 && rank[0] == -1);
            double want = 1.0;
            for (size_t i = 0; i + 1 < got; i++) want += all[i];
            CHECK_NEAR(expected, want, 1e-9);
            for (size_t i = 1; i < got; i++) { /* brothers have different ranks */
                CHECK(parent[i] >= 0 && parent[i] < (int)i && rank[i] >= 0 && rank[i] < S);
                for (size_t k = 1; k < i; k++) CHECK(parent[k] != parent[i] || rank[k] != rank[i]);
            }
        }
    }
    const float none[2] = {0.5f, 0.0f};
    int parent[4], rank[4];
    llm_arena arena = test_arena(256);
    CHECK(llm_medusa_tree_choose(NULL, parent, rank, 4, none, 1, 2, &arena) == 2);
    CHECK_ASSERTS(llm_medusa_tree_choose(NULL, parent, rank, 0, none, 1, 2, &arena));
}

TEST(medusa_tree, "typical acceptance: the longest line of typical tokens; not the model's law") {
    enum { N = 9, W = 4 };
    llm_rng rng = llm_rng_seed(4);
    for (size_t round = 0; round < 500; round++) {
        int ids[N], parent[N];
        float p[N * W];
        const size_t n = 1 + llm_rng_below(&rng, N);
        const float eps = 0.3f, delta = 0.6f;
        for (size_t i = 0; i < n; i++) {
            ids[i] = (int)llm_rng_below(&rng, W);
            parent[i] = i > 0 ? (int)llm_rng_below(&rng, i) : -1;
        }
        llm_rng_normal_fill(&rng, p, n * W);
        llm_softmax_forward(p, p, n, W, 1.0f);
        size_t path[N], want = 1, found = 0;
        for (size_t i = 0; i < n; i++) {
            size_t depth = 1;
            bool good = true;
            for (int at = (int)i; at > 0; at = parent[at], depth++) {
                const float *row = p + (size_t)parent[at] * W;
                double entropy = 0.0;
                for (size_t v = 0; v < W; v++) entropy -= (double)row[v] * log((double)row[v]);
                good =
                    good && (double)row[ids[at]] > fmin((double)eps, (double)delta * exp(-entropy));
            }
            if (good && depth > want) want = depth, found = i;
        }
        llm_arena arena = test_arena(tree_up(n * 8));
        CHECK(llm_medusa_tree_typical(path, ids, parent, n, p, W, eps, delta, &arena) == want);
        CHECK(path[want - 1] == found && path[0] == 0 && arena.used == 0);
        for (size_t i = 1; i < want; i++) CHECK((size_t)parent[path[i]] == path[i - 1]);
    }
    /* a draft of 0.6 is always taken where its share should be 0.6 */
    const float p[2 * 2] = {0.6f, 0.4f, 0.5f, 0.5f};
    const int ids[2] = {0, 0}, parent[2] = {-1, 0};
    size_t path[2];
    llm_arena arena = test_arena(64);
    CHECK(llm_medusa_tree_typical(path, ids, parent, 2, p, 2, 0.3f, 0.6f, &arena) == 2);
    CHECK(llm_medusa_tree_typical(path, ids, parent, 2, p, 2, 0.6f, 9.0f, &arena) == 1); /* not > */
}

/* ---- the loop ---- */

enum { HEADS = 3, GUESSES = 3 };
typedef struct {
    tiny_speculative base; /* first, so that both models have one context */
    llm_rng rng;
    const float *hits; /* (HEADS,GUESSES) how often the guess of a rank is right */
} tree_guesser;

/* Guesses from the truth: at rank s with probability hits_k(s), else wrong ones. */
static void tree_guess(void *context, int *top, size_t slot) {
    tree_guesser *g = (tree_guesser *)context;
    const size_t W = g->base.V;
    CHECK(slot < g->base.last);
    /* the last two tokens at that slot: greedy decoding from there */
    size_t a = g->base.before[slot], b = (size_t)g->base.node[slot];
    for (size_t k = 0; k <= HEADS; k++) {
        const size_t truth = (size_t)llm_greedy_pick(g->base.table + (a * W + b) * W, W);
        if (k > 0) {
            const float u = llm_rng_uniform(&g->rng), *h = g->hits + (k - 1) * GUESSES;
            float below = 0.0f;
            for (size_t s = 0; s < GUESSES; s++) {
                const bool here = u >= below && u < below + h[s];
                below += h[s];
                top[(k - 1) * GUESSES + s] =
                    here ? (int)truth : (int)((truth + 1 + s) % W); /* wrong, and all different */
            }
        }
        a = b, b = truth;
    }
}

static void tree_guess_zeros(void *context, int *top, size_t slot) {
    (void)context, (void)slot;
    memset(top, 0, HEADS * GUESSES * sizeof(int));
}

TEST(medusa_tree, "the text is greedy decoding's; tokens a pass as the chances say") {
    enum { W = 11, T = 400 };
    const float hits[HEADS * GUESSES] = {0.6f, 0.2f, 0.1f, 0.5f, 0.15f, 0.1f, 0.4f, 0.1f, 0.1f};
    for (size_t nodes = 1; nodes <= 16; nodes += 5) {
        int parent[16], rank[16];
        double expected = 0.0, passes = 0.0;
        llm_arena arena = test_arena(512);
        llm_medusa_tree_choose(&expected, parent, rank, nodes, hits, HEADS, GUESSES, &arena);
        for (uint64_t seed = 1; seed <= 20; seed++) {
            const float *table = tiny_speculative_table(seed, W, NULL, 1.0f);
            tree_guesser *g = (tree_guesser *)test_memory(1, sizeof *g);
            llm_medusa_model m;
            m.model = tiny_speculative_model(&g->base, table, W);
            m.model.capacity = T + 3 + nodes;
            m.K = HEADS, m.S = GUESSES, m.guess = tree_guess;
            g->rng = llm_rng_seed(seed);
            g->hits = hits;
            int ids[T + 3] = {1, 2, (int)(seed % W)}, want[T + 3] = {1, 2, (int)(seed % W)};
            for (size_t t = 3; t < T + 3; t++)
                want[t] =
                    llm_greedy_pick(table + ((size_t)want[t - 2] * W + (size_t)want[t - 1]) * W, W);
            llm_arena room =
                test_arena(tree_up((3 + nodes) * W * 4) + tree_up(HEADS * GUESSES * 4) +
                           2 * tree_up(nodes * 4) + tree_up(nodes * 8));
            const size_t turns = llm_medusa_tree_run(ids, 3, T, &m, parent, rank, nodes, &room);
            CHECK(memcmp(ids, want, sizeof ids) == 0 && room.used == 0);
            CHECK(turns + 1 == g->base.passes);
            if (nodes == 1) CHECK(turns == T);
            passes += (double)turns;
        }
        /* a pass has 1 to 4 tokens, so a deviation below 1.5; the last of a text is cut */
        CHECK_NEAR(20.0 * T / passes, expected, 3.0 * 1.5 / sqrt(passes) + 0.01);
        if (nodes > 1) CHECK(expected > 1.5);
        tree_guesser *g = (tree_guesser *)test_memory(1, sizeof *g);
        llm_medusa_model m;
        m.model = tiny_speculative_model(&g->base, hits, W);
        m.model.capacity = 4 + nodes;
        m.K = HEADS, m.S = GUESSES, m.guess = tree_guess;
        int ids[8] = {0};
        CHECK_ASSERTS(llm_medusa_tree_run(ids, 0, 1, &m, parent, rank, nodes, &arena));
        CHECK_ASSERTS(llm_medusa_tree_run(ids, 1, 4, &m, parent, rank, nodes, &arena));
        CHECK_ASSERTS(llm_medusa_tree_run(ids, 1, 2, &m, parent, rank, 0, &arena));
        float *table = tiny_speculative_table(1, W, NULL, 1.0f);
        llm_arena room = test_arena(1 << 12);
        g->base.table = table, g->hits = hits;
        llm_medusa_tree_run(ids, 1, 2, &m, parent, rank, nodes, &room); /* a prompt of one token */
        CHECK(ids[1] == llm_greedy_pick(table, W));
        CHECK(ids[2] == llm_greedy_pick(table + (size_t)ids[1] * W, W));
        table[3] = NAN;
        g->base.length = 0, m.guess = tree_guess_zeros;
        CHECK_ASSERTS(llm_medusa_tree_run(ids, 1, 2, &m, parent, rank, nodes, &room));
    }
}
