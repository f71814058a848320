/* @decoding */
#include "../test.h"

#include "../../llm.h"

#include "../tiny_litter.h"

enum { V = 9, ROWS = 6, ROOM = 20, PAD = 0 };

/* A model whose logits are table[before][last], the last two tokens; 0 stands before the first. It
 * counts what it is asked. */
typedef struct {
    const float *table;
    size_t state[ROWS][2], turns, rows, tokens;
} decoding_table;

static void decoding_step(void *context, float *logits, const int *ids, const size_t *count,
                          const size_t *row, size_t rows, size_t n) {
    decoding_table *m = (decoding_table *)context;
    m->turns++;
    m->rows += rows;
    size_t longest = 0;
    for (size_t i = 0; i < rows; i++) {
        CHECK(count[i] > 0 && count[i] <= n && row[i] < ROWS && (i == 0 || row[i] > row[i - 1]));
        longest = count[i] > longest ? count[i] : longest;
        size_t *state = m->state[row[i]];
        for (size_t t = 0; t < n; t++) {
            if (t >= count[i]) CHECK(ids[i * n + t] == PAD);
            if (t >= count[i]) continue;
            state[0] = state[1];
            state[1] = (size_t)ids[i * n + t];
            m->tokens++;
        }
        memcpy(logits + i * V, m->table + (state[0] * V + state[1]) * V, V * sizeof(float));
    }
    CHECK(n == longest);
}

static llm_decoding_model decoding_model(decoding_table *m) {
    memset(m, 0, sizeof *m);
    m->table = golden("model/table");
    llm_decoding_model model;
    model.V = V, model.capacity = ROOM;
    model.context = m;
    model.step = decoding_step;
    return model;
}

static int decoding_greedy(void *context, float *logits, size_t n_logits, const int *ids, size_t n,
                           llm_rng *rng) {
    (void)context, (void)ids, (void)n, (void)rng;
    const int best = llm_greedy_pick(logits, n_logits);
    for (size_t v = 0; v < n_logits; v++) /* what a filter might do */
        if ((int)v != best) logits[v] -= 1.0f;
    return best;
}

static int decoding_draw(void *context, float *logits, size_t n_logits, const int *ids, size_t n,
                         llm_rng *rng) {
    (void)context, (void)ids, (void)n;
    return llm_sampling_draw(logits, n_logits, rng);
}

static llm_decoding_picker decoding_picker(int (*pick)(void *, float *, size_t, const int *, size_t,
                                                       llm_rng *)) {
    llm_decoding_picker p;
    p.context = NULL;
    p.pick = pick;
    return p;
}

/* The rows of the golden prompts. */
static void decoding_rows(llm_decoding_row *rows) {
    const size_t *length = as_sizes(golden("prompts/length"), ROWS);
    const int *ids = as_ints(golden("prompts/ids"), 16);
    for (size_t b = 0; b < ROWS; b++) {
        int *room = (int *)test_memory(ROOM, sizeof(int));
        memcpy(room, ids, length[b] * sizeof(int));
        rows[b] = llm_decoding_begin(room, length[b], 100 + b);
        rows[b].logprob = floats(ROOM);
        ids += length[b];
    }
}

/* Runs on exactly the scratch that the comment asks for. */
static size_t decoding_run(llm_decoding_row *rows, size_t n, const llm_decoding_model *model,
                           int (*pick)(void *, float *, size_t, const int *, size_t, llm_rng *),
                           const llm_decoding_config *c) {
    size_t longest = 0;
    for (size_t b = 0; b < n; b++)
        if (rows[b].length - rows[b].seen > longest) longest = rows[b].length - rows[b].seen;
    const size_t parts[5] = {n * sizeof(size_t), n * sizeof(size_t), n * V * sizeof(float),
                             V * sizeof(float), n * longest * sizeof(int)};
    size_t bytes = 0;
    for (size_t i = 0; i < 5; i++) bytes += (parts[i] + 63) / 64 * 64;
    llm_arena arena;
    CHECK(llm_arena_create(&arena, bytes));
    const llm_decoding_picker picker = decoding_picker(pick);
    const size_t written = llm_decoding_run(rows, n, model, &picker, c, &arena);
    CHECK(arena.used == 0 && arena.peak == bytes);
    llm_arena_destroy(&arena);
    return written;
}

TEST(decoding,
     "equals transformers' generate: greedy, ragged batch, stop tokens, least, log-probs") {
    const int stops[2] = {2, 6};
    const struct {
        const char *name;
        size_t stops, least, most;
    } runs[5] = {{"free", 0, 0, 12},
                 {"stop", 1, 0, 12},
                 {"stops", 2, 0, 12},
                 {"least", 2, 5, 12},
                 {"one", 1, 0, 1}};
    for (size_t r = 0; r < 5; r++) {
        size_t total = 0;
        const size_t *count = as_sizes(golden("%s/count", runs[r].name), ROWS);
        const int *want = as_ints(golden_n(&total, "%s/ids", runs[r].name), total);
        const float *want_logprob = golden("%s/logprob", runs[r].name);
        want = as_ints(golden("%s/ids", runs[r].name), total);
        llm_decoding_config c = llm_decoding_defaults(runs[r].most);
        c.stop = stops, c.stops = runs[r].stops, c.min_new = runs[r].least, c.pad = PAD;
        decoding_table table;
        const llm_decoding_model model = decoding_model(&table);
        llm_decoding_row rows[ROWS];
        decoding_rows(rows);
        CHECK(decoding_run(rows, ROWS, &model, decoding_greedy, &c) == total);
        size_t most = 0;
        for (size_t b = 0; b < ROWS; b++) {
            const llm_decoding_row *row = &rows[b];
            CHECK(row->length - row->prompt == count[b] && row->seen == row->length - 1);
            for (size_t t = 0; t < count[b]; t++) CHECK(row->ids[row->prompt + t] == want[t]);
            CHECK_ALL_NEAR(row->logprob + row->prompt, want_logprob, count[b], 2e-6f);
            for (size_t t = 0; t < row->prompt; t++) CHECK(isnan(row->logprob[t]));
            const int last = row->ids[row->length - 1];
            bool stopped = false;
            for (size_t s = 0; s < c.stops; s++) stopped = stopped || last == stops[s];
            CHECK(row->end == (stopped ? LLM_DECODING_STOP : LLM_DECODING_BUDGET));
            want += count[b], want_logprob += count[b];
            most = count[b] > most ? count[b] : most;
        }
        /* ended rows are not computed: one turn for each token, and the prompts at once */
        CHECK(table.turns == most && table.rows == total && table.tokens == total - ROWS + 16);
    }
}

TEST(decoding,
     "a drawn text is the same alone, in a batch, in another order, and after interruptions") {
    const int stop[1] = {2};
    llm_decoding_config c = llm_decoding_defaults(10);
    c.stop = stop, c.stops = 1, c.seed = 7;
    decoding_table table;
    llm_decoding_model model = decoding_model(&table);
    llm_decoding_row rows[ROWS], again[ROWS], turned[ROWS];
    decoding_rows(rows);
    decoding_run(rows, ROWS, &model, decoding_draw, &c);

    model = decoding_model(&table);
    decoding_rows(turned);
    for (size_t b = 0; b < ROWS / 2; b++) {
        const llm_decoding_row swap = turned[b];
        turned[b] = turned[ROWS - 1 - b], turned[ROWS - 1 - b] = swap;
    }
    decoding_run(turned, ROWS, &model, decoding_draw, &c);
    decoding_rows(again);
    for (size_t b = 0; b < ROWS; b++) {
        model =
            decoding_model(&table); /* alone, and every two tokens stopped, saved and restored */
        for (size_t most = 2; most <= 10; most += 2) {
            c.max_new = most;
            if (most > 2) again[b].seen = 0, again[b].end = LLM_DECODING_RUNNING;
            memset(table.state, 0, sizeof table.state);
            decoding_run(&again[b], 1, &model, decoding_draw, &c);
            if (again[b].end == LLM_DECODING_STOP) break;
        }
        const llm_decoding_row *other = &turned[ROWS - 1 - b];
        CHECK(again[b].length == rows[b].length && other->length == rows[b].length);
        CHECK(again[b].end == rows[b].end && other->end == rows[b].end);
        CHECK(memcmp(again[b].ids, rows[b].ids, rows[b].length * sizeof(int)) == 0);
        CHECK(memcmp(other->ids, rows[b].ids, rows[b].length * sizeof(int)) == 0);
    }

    /* going on where the model still knows the text: no token is fed twice */
    model = decoding_model(&table);
    decoding_rows(again);
    c.stops = 0, c.max_new = 3;
    CHECK(decoding_run(again, ROWS, &model, decoding_draw, &c) == 3 * ROWS);
    c.max_new = 7;
    for (size_t b = 0; b < ROWS; b++) again[b].end = LLM_DECODING_RUNNING;
    CHECK(decoding_run(again, ROWS, &model, decoding_draw, &c) == 4 * ROWS);
    CHECK(table.tokens == 16 + 6 * ROWS);

    c.seed = 8; /* another seed, other texts; and another stream with the same prompt */
    model = decoding_model(&table);
    decoding_rows(turned);
    memcpy(turned[3].ids, turned[0].ids, sizeof(int));
    turned[3].prompt = turned[3].length = 1;
    decoding_run(turned, ROWS, &model, decoding_draw, &c);
    size_t same = 0;
    for (size_t b = 0; b < ROWS; b++)
        same += memcmp(turned[b].ids, again[b].ids, again[b].length * sizeof(int)) == 0;
    CHECK(same == 0 && memcmp(turned[3].ids, turned[0].ids, 8 * sizeof(int)) != 0);
}

TEST(decoding, "recorded log-probabilities are those of one parallel pass, raw or processed") {
    llm_decoding_config c = llm_decoding_defaults(8);
    for (int processed = 0; processed < 2; processed++) {
        decoding_table table;
        const llm_decoding_model model = decoding_model(&table);
        llm_decoding_row rows[ROWS];
        decoding_rows(rows);
        c.processed = processed;
        decoding_run(rows, ROWS, &model, decoding_greedy, &c);
        for (size_t b = 0; b < ROWS; b++) {
            double got = 0.0, want = 0.0;
            for (size_t t = rows[b].prompt; t < rows[b].length; t++) {
                const size_t before = t > 1 ? (size_t)rows[b].ids[t - 2] : 0;
                const float *z = table.table + (before * V + (size_t)rows[b].ids[t - 1]) * V;
                double total = 0.0;
                for (size_t v = 0; v < V; v++) /* the picker takes 1 from all but the best */
                    total +=
                        exp((double)z[v] - (processed && (int)v != rows[b].ids[t] ? 1.0 : 0.0));
                want += (double)z[rows[b].ids[t]] - log(total);
                got += (double)rows[b].logprob[t];
            }
            CHECK_NEAR(got, want, 1e-5);
        }
    }
}

static bool decoding_listener(void *context, size_t row, int token) {
    size_t *heard = (size_t *)context; /* row 1 has enough after two tokens */
    CHECK(token >= 0 && token < V);
    return row != 1 || ++*heard < 2;
}

static int decoding_none(void *context, float *logits, size_t n_logits, const int *ids, size_t n,
                         llm_rng *rng) {
    (void)context, (void)logits, (void)n_logits, (void)rng;
    return n > 5 ? -1 : ids[n - 1]; /* repeats the last token, and gives up at length 6 */
}

static int decoding_beyond(void *context, float *logits, size_t n_logits, const int *ids, size_t n,
                           llm_rng *rng) {
    (void)context, (void)logits, (void)ids, (void)n, (void)rng;
    return (int)n_logits;
}

TEST(decoding,
     "every end: budget 0, empty prompt, full, listener, failing picker, stop before all") {
    decoding_table table;
    llm_decoding_model model = decoding_model(&table);
    llm_decoding_row rows[ROWS];
    decoding_rows(rows);
    llm_decoding_config c = llm_decoding_defaults(0);
    CHECK(decoding_run(rows, ROWS, &model, decoding_greedy, &c) == 0 && table.turns == 0);
    for (size_t b = 0; b < ROWS; b++) CHECK(rows[b].end == LLM_DECODING_BUDGET);

    decoding_rows(rows); /* one empty, the others to the end of the room */
    rows[2].length = rows[2].prompt = 0;
    for (size_t b = 0; b < ROWS; b++) rows[b].logprob = NULL;
    c.max_new = 1000;
    CHECK(decoding_run(rows, ROWS, &model, decoding_greedy, &c) == 5 * ROOM - 14);
    for (size_t b = 0; b < ROWS; b++) {
        CHECK(rows[b].end == (b == 2 ? LLM_DECODING_FAILED : LLM_DECODING_FULL));
        CHECK(rows[b].length == (b == 2 ? 0 : ROOM));
    }
    model = decoding_model(&table); /* a prompt that fills the model: nothing to be done */
    model.capacity = 5;
    decoding_rows(rows);
    CHECK(decoding_run(rows + 5, 1, &model, decoding_greedy, &c) == 0 && table.turns == 0);
    CHECK(rows[5].end == LLM_DECODING_FULL && rows[5].length == 5);
    model.capacity = 6;
    rows[5].end = LLM_DECODING_RUNNING;
    CHECK(decoding_run(rows + 5, 1, &model, decoding_greedy, &c) == 1);

    model = decoding_model(&table);
    decoding_rows(rows);
    size_t heard = 0;
    c.listener = decoding_listener, c.listener_context = &heard, c.max_new = 4;
    CHECK(decoding_run(rows, ROWS, &model, decoding_greedy, &c) == 4 * ROWS - 2);
    CHECK(rows[1].end == LLM_DECODING_HEARD && rows[1].length == rows[1].prompt + 2);
    CHECK(rows[0].end == LLM_DECODING_BUDGET);
    const int stop[2] = {rows[1].ids[5], PAD}; /* that second token is a stop token: it wins */
    CHECK(stop[0] != rows[1].ids[4]);
    model = decoding_model(&table);
    decoding_rows(rows);
    heard = 0;
    c.stop = stop, c.stops = 1;
    decoding_run(rows, ROWS, &model, decoding_greedy, &c);
    CHECK(rows[1].end == LLM_DECODING_STOP && heard == 2);

    decoding_rows(rows);
    c = llm_decoding_defaults(100);
    CHECK(decoding_run(rows, ROWS, &model, decoding_none, &c) == 6 * 6 - 16);
    for (size_t b = 0; b < ROWS; b++) {
        CHECK(rows[b].end == LLM_DECODING_FAILED && rows[b].length == 6);
        for (size_t t = rows[b].prompt; t < 6; t++) CHECK(rows[b].ids[t] == rows[b].ids[t - 1]);
    }
    CHECK(decoding_run(rows, 0, &model, decoding_none, &c) == 0);
    CHECK(decoding_run(rows, ROWS, &model, decoding_none, &c) == 0); /* all have ended */

    decoding_rows(rows);
    CHECK_ASSERTS(decoding_run(rows, 1, &model, decoding_beyond, &c));
    rows[0].seen = 2;
    CHECK_ASSERTS(decoding_run(rows, 1, &model, decoding_greedy, &c));
    rows[0].seen = 1; /* nothing is new: there is no row of logits to pick from */
    CHECK_ASSERTS(decoding_run(rows, 1, &model, decoding_greedy, &c));
    rows[0].seen = 0, rows[0].prompt = 2;
    CHECK_ASSERTS(decoding_run(rows, 1, &model, decoding_greedy, &c));
}

TEST(decoding, "streams: one word for each seed, row and step, none twice, uniform") {
    enum { N = 12, CELLS = 16 };
    uint32_t word[N * N * N];
    size_t count = 0, cell[CELLS] = {0};
    for (uint64_t i = 0; i < N * N * N; i++) {
        const uint64_t big = (uint64_t)1 << 33; /* upper halves count, too */
        const uint64_t seed = i % N + (i % N > 5 ? big : 0);
        const uint64_t stream = i / N % N + (i / N % N > 5 ? big : 0);
        llm_rng rng = llm_decoding_rng(seed, stream, i / N / N + (i / N / N > 5 ? big : 0));
        word[i] = llm_rng_u32(&rng);
        cell[word[i] >> 28]++;
        for (uint64_t k = 0; k < i; k++) count += word[k] == word[i];
    }
    CHECK(count == 0);
    double chi2 = 0.0;
    const double expect = (double)(N * N * N) / CELLS;
    for (size_t k = 0; k < CELLS; k++) chi2 += pow((double)cell[k] - expect, 2.0) / expect;
    CHECK(chi2 < 37.7); /* 15 degrees of freedom: p = 0.001 */
    size_t names = 0;
    const size_t *name = as_sizes(golden_n(&names, "streams/name"), 6 * 8); /* in 32-bit halves */
    const size_t *key = as_sizes(golden("streams/key"), 4 * 8);             /* in 16-bit quarters */
    CHECK(names == 6 * 8);
    for (size_t i = 0; i < 8; i++) {
        uint64_t part[3];
        for (size_t k = 0; k < 3; k++)
            part[k] = (uint64_t)name[6 * i + 2 * k] << 32 | name[6 * i + 2 * k + 1];
        const llm_rng rng = llm_decoding_rng(part[0], part[1], part[2]);
        for (size_t k = 0; k < 4; k++)
            CHECK(((rng.key[k / 2] >> (16 * (k % 2))) & 0xFFFF) == key[4 * i + k]);
    }
    llm_rng a = llm_decoding_rng(3, 4, 5), b = llm_decoding_rng(3, 4, 5);
    for (size_t i = 0; i < 9; i++) CHECK(llm_rng_u32(&a) == llm_rng_u32(&b));
}

TEST(decoding,
     "the top tokens are the head of the sorted row, ties to the lower, -inf at the end") {
    const float z[7] = {1, 3, -INFINITY, 3, 0, 2, 1};
    const int want[7] = {1, 3, 5, 0, 6, 4, 2};
    const double lse = log(2 * exp(3.0) + exp(2.0) + 2 * exp(1.0) + 1.0);
    for (size_t n = 0; n <= 7; n++) {
        int *ids = (int *)test_memory(n, sizeof(int)); /* exactly that long */
        float *logprob = floats(n);
        llm_decoding_top(ids, logprob, z, 7, n);
        for (size_t i = 0; i < n; i++) {
            CHECK(ids[i] == want[i]);
            if (i < 6) CHECK_NEAR(logprob[i], (double)z[want[i]] - lse, 1e-6);
            if (i == 6) CHECK(logprob[i] == -INFINITY);
        }
    }
    int ids[8];
    float logprob[8];
    CHECK_ASSERTS(llm_decoding_top(ids, logprob, z, 7, 8));
}

static bool decoding_defaults(void) {
    llm_decoding_config (*volatile make)(size_t) = llm_decoding_defaults;
    const llm_decoding_config c = make(5);
    return c.max_new == 5 && c.min_new == 0 && !c.stop && c.stops == 0 && c.pad == 0 &&
           c.seed == 0 && !c.processed && !c.listener && !c.listener_context;
}

static bool decoding_new_row(void) {
    llm_decoding_row (*volatile make)(int *, size_t, uint64_t) = llm_decoding_begin;
    int ids[2];
    const llm_decoding_row r = make(ids, 2, 7);
    return r.ids == ids && r.prompt == 2 && r.length == 2 && r.seen == 0 && r.stream == 7 &&
           !r.logprob && r.end == LLM_DECODING_RUNNING;
}

TEST(decoding, "the defaults and a new row set every field") {
    CHECK(tiny_litter(decoding_defaults));
    CHECK(tiny_litter(decoding_new_row));
}
