/* @sampling_text */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

enum { V = 30, PROMPT = 3, ROOM = 64 };
static const int text_stop[2] = {3, 7}, text_biased[3] = {5, 11, 0};
static const float text_bias[3] = {1.5f, -2.0f, -100.0f};

/* The two settings of the golden script. */
static llm_sampling_text_config text_settings(llm_sampling_text_order order, size_t i) {
    llm_sampling_text_config c = llm_sampling_text_defaults(order);
    c.repetition = i ? 1.125f : 1.25f, c.frequency = i ? -0.5f : 0.25f,
    c.presence = i ? 0.0f : 0.5f;
    c.no_ngram = i ? 3 : 2, c.last_n = i ? 64 : 6, c.dry.multiplier = i ? 0.5f : 0.8f;
    c.min_new = i ? 40 : 0;
    c.filter.temperature = i ? 0.75f : 1.5f, c.filter.top_k = i ? 12.0f : 20.0f;
    c.filter.top_p = i ? 0.95f : 0.9f, c.filter.min_p = i ? 0.0f : 0.05f;
    c.stop = text_stop, c.stops = 2;
    c.bias_token = text_biased, c.bias = text_bias, c.biases = 3;
    return c;
}

/* A state on exactly the memory that its comment asks for, and some for the filters. */
static llm_sampling_text *text_state(const llm_sampling_text_config *c, size_t prompt) {
    llm_sampling_text *s = (llm_sampling_text *)test_memory(1, sizeof *s);
    llm_arena *arena = (llm_arena *)test_memory(1, sizeof *arena);
    const size_t table = 2 * 256 + 128 + 256; /* 30 sizes twice, 30 ints, 64 ints */
    *arena = test_arena(2 * table + 1024);
    llm_sampling_text_create(s, c, V, ROOM, prompt, arena);
    CHECK(arena->used == 2 * table);
    return s;
}

TEST(sampling_text,
     "final distributions equal transformers' list and llama.cpp's and vLLM's rules") {
    const char *const name[3] = {"transformers", "llama", "api"};
    for (size_t order = 0; order < 3; order++)
        for (size_t i = 0; i < 2; i++) {
            const llm_sampling_text_config c = text_settings((llm_sampling_text_order)order, i);
            llm_sampling_text *s = text_state(&c, PROMPT);
            const size_t mark = s->arena->used;
            llm_rng rng = llm_rng_seed(1);
            for (size_t row = 0; row < 6; row++) { /* one state, text after text */
                size_t n = 0;
                const float *text = golden_n(&n, "%zu/text", row);
                float *z = golden("%zu/z", row), p[V];
                llm_sampling_text_penalize(z, V, s, as_ints(text, n), n);
                llm_sampling_text_filter(z, V, s, &rng);
                llm_softmax_forward(p, z, 1, V, 1.0f);
                CHECK_GOLDEN(p, V, 2e-6f, "%zu/%zu/%s", row, i, name[order]);
                CHECK(s->arena->used == mark);
            }
            llm_rng fresh = llm_rng_seed(1);
            CHECK(llm_rng_u32(&rng) == llm_rng_u32(&fresh)); /* without XTC nothing is drawn */
        }
}

TEST(sampling_text, "the defaults change nothing but what the model says") {
    for (size_t order = 0; order < 3; order++) {
        const llm_sampling_text_config c =
            llm_sampling_text_defaults((llm_sampling_text_order)order);
        CHECK(c.last_n == 64 && c.repetition == 1.0f);
        CHECK(c.dry.base == 1.75f && c.dry.multiplier == 0.0f);
        CHECK(c.xtc_threshold == 0.1f && c.order == (llm_sampling_text_order)order);
        llm_sampling_text *s = text_state(&c, 1);
        llm_rng a = llm_rng_seed(2), b = llm_rng_seed(2), fill = llm_rng_seed(3);
        int ids[40] = {1};
        for (size_t n = 1; n < 40; n++) {
            float z[V], w[V];
            llm_rng_normal_fill(&fill, z, V);
            memcpy(w, z, sizeof z);
            ids[n] = llm_sampling_text_pick(s, w, V, ids, n, &a);
            CHECK(memcmp(w, z, sizeof z) == 0 && ids[n] == llm_sampling_draw(z, V, &b));
        }
    }
}

TEST(sampling_text, "what counts: prompt and output, the last n of both, output alone") {
    const int ids[5] = {1, 1, 2, 1, 4}; /* the prompt is 1 1 2 */
    for (size_t order = 0; order < 3; order++) {
        llm_sampling_text_config c = llm_sampling_text_defaults((llm_sampling_text_order)order);
        c.last_n = 3, c.repetition = 2.0f, c.frequency = 0.25f, c.presence = 0.5f;
        llm_sampling_text *s = text_state(&c, 3);
        float z[V];
        for (size_t v = 0; v < V; v++) z[v] = 4.0f;
        llm_sampling_text_penalize(z, V, s, ids, 5);
        const float want[3][5] = {{4.0f, 2.0f, 2.0f, 4.0f, 2.0f},
                                  {4.0f, 1.25f, 1.25f, 4.0f, 1.25f},
                                  {4.0f, 1.25f, 2.0f, 4.0f, 1.25f}};
        for (size_t v = 0; v < 5; v++) CHECK(z[v] == want[order][v]);
        if (order != 2) continue;
        for (size_t v = 0; v < V; v++) z[v] = 4.0f;
        llm_sampling_text_penalize(z, V, s, ids, 4); /* a token was taken back */
        CHECK(z[4] == 4.0f && z[1] == 1.25f);
    }
}

TEST(sampling_text, "stop tokens wait; XTC stands before the temperature and needs its chance") {
    llm_sampling_text_config c = llm_sampling_text_defaults(LLM_SAMPLING_TEXT_LLAMA_CPP);
    c.stop = text_stop, c.stops = 2, c.min_new = 2;
    llm_sampling_text *s = text_state(&c, 1);
    const int ids[3] = {9, 9, 9};
    for (size_t n = 1; n <= 3; n++) {
        float z[V] = {0.0f};
        llm_sampling_text_penalize(z, V, s, ids, n);
        CHECK((z[3] == -INFINITY) == (n < 3) && (z[7] == -INFINITY) == (n < 3) && z[4] == 0.0f);
    }
    c = llm_sampling_text_defaults(LLM_SAMPLING_TEXT_LLAMA_CPP);
    c.xtc_threshold = 0.25f, c.xtc_chance = 1.0f, c.filter.temperature = 100.0f;
    s = text_state(&c, 1);
    llm_rng rng = llm_rng_seed(4);
    float z[V];
    for (size_t v = 0; v < V; v++) z[v] = v == 2 ? 5.0f : v == 9 ? 4.8f : 0.0f;
    llm_sampling_text_filter(z, V, s, &rng); /* at temperature 100 none would reach a quarter */
    CHECK(z[2] == -INFINITY && z[9] == 0.048f);
    for (size_t order = 0; order < 3; order += 2) { /* the others have none */
        c.order = (llm_sampling_text_order)order;
        s = text_state(&c, 1);
        for (size_t v = 0; v < V; v++) z[v] = v == 2 ? 5.0f : v == 9 ? 4.8f : 0.0f;
        llm_sampling_text_filter(z, V, s, &rng);
        CHECK(z[2] > -INFINITY);
    }
}

TEST(sampling_text, "no token twice with n-grams of 1; DRY charges what would go on repeating") {
    const int ids[7] = {1, 2, 3, 4, 1, 2, 3};
    for (size_t order = 0; order < 3; order++) {
        llm_sampling_text_config c = llm_sampling_text_defaults((llm_sampling_text_order)order);
        c.no_ngram = 1, c.dry.multiplier = 0.5f;
        llm_sampling_text *s = text_state(&c, 1);
        float z[V] = {0.0f};
        llm_sampling_text_penalize(z, V, s, ids, 7);
        for (size_t v = 0; v < V; v++) {
            const bool said = v >= 1 && v <= 4; /* 4 behind a run of 3, 1 beyond the free ones */
            const float llama = v == 4 ? -0.5f * 1.75f : 0.0f;
            CHECK(z[v] == (order == 0 ? (said ? -INFINITY : 0.0f) : order == 1 ? llama : 0.0f));
        }
    }
}

TEST(sampling_text, "the API's min-p stands in front of top-p and behind the temperature") {
    const float p[5] = {0.4f, 0.3f, 0.1f, 0.1f, 0.1f};
    for (size_t order = 0; order < 3; order++)
        for (size_t hot = 0; hot < 2; hot++)
            for (size_t k = 0; k < 2; k++) {
                llm_sampling_text_config c =
                    llm_sampling_text_defaults((llm_sampling_text_order)order);
                c.filter.min_p = 0.5f, c.filter.top_p = 0.5f;
                c.filter.temperature = hot ? 2.0f : 1.0f, c.filter.top_k = k ? 4.0f : 0.0f;
                llm_sampling_text *s = text_state(&c, 1);
                llm_rng rng = llm_rng_seed(1);
                float z[V];
                size_t kept = 0;
                for (size_t v = 0; v < V; v++) z[v] = v < 5 ? logf(p[v]) : -INFINITY;
                llm_sampling_text_filter(z, V, s, &rng);
                for (size_t v = 0; v < V; v++) kept += z[v] > -INFINITY;
                /* Of 0.4 and 0.3 alone the first is more than half, of all five it is not. Hot, the
                 * last three have half the first one's share: all stay, and two are half. */
                CHECK(kept == (order == 2 && !hot ? 1 : 2));
            }
    llm_sampling_text_config c = llm_sampling_text_defaults(LLM_SAMPLING_TEXT_API);
    c.filter.min_p = 0.45f, c.filter.temperature = 2.0f; /* sqrt(1/4) is above it, 1/4 below */
    llm_sampling_text *s = text_state(&c, 1);
    llm_rng rng = llm_rng_seed(1);
    float z[V];
    for (size_t v = 0; v < V; v++) z[v] = v < 5 ? logf(p[v]) : -INFINITY;
    llm_sampling_text_filter(z, V, s, &rng);
    CHECK(z[4] > -INFINITY);
}

TEST(sampling_text, "all eight filters; XTC stands behind the last of llama.cpp's") {
    for (size_t order = 0; order < 2; order++) {
        llm_sampling_text_config c = llm_sampling_text_defaults((llm_sampling_text_order)order);
        c.filter.temperature = 0.5f, c.filter.top_k = 20.0f, c.filter.top_p = 0.99f;
        c.filter.min_p = 0.01f, c.filter.typical = 0.99f, c.filter.epsilon = 1e-3f;
        c.filter.eta = 1e-3f, c.filter.top_n_sigma = 3.0f;
        llm_sampling_text *s = text_state(&c, 1);
        llm_sampling_step step[8];
        llm_rng rng = llm_rng_seed(5);
        float z[V], want[V];
        llm_rng_normal_fill(&rng, z, V);
        memcpy(want, z, sizeof z);
        CHECK(llm_sampling_preset(step, &c.filter, order == 1) == 8);
        llm_sampling_chain(want, V, step, 8, s->arena);
        llm_sampling_text_filter(z, V, s, &rng);
        CHECK(memcmp(z, want, sizeof z) == 0);
    }
    llm_sampling_text_config c = llm_sampling_text_defaults(LLM_SAMPLING_TEXT_LLAMA_CPP);
    c.filter.min_p = 0.5f, c.xtc_chance = 1.0f, c.xtc_threshold = 0.35f;
    llm_sampling_text *s = text_state(&c, 1);
    llm_rng rng = llm_rng_seed(5);
    float z[V]; /* 0.4 and 0.3 of all, 0.57 and 0.43 of what min-p leaves: both reach 0.35 */
    for (size_t v = 0; v < V; v++) z[v] = v < 2 ? logf(v ? 0.3f : 0.4f) : logf(0.3f / (V - 2));
    llm_sampling_text_filter(z, V, s, &rng);
    CHECK(z[0] == -INFINITY && z[1] > -INFINITY && z[2] == -INFINITY);
}

/* A model that always says the same, and the loop of @decoding. */
static void text_step(void *context, float *logits, const int *ids, const size_t *count,
                      const size_t *row, size_t rows, size_t n) {
    (void)context, (void)ids, (void)count, (void)row, (void)n;
    for (size_t i = 0; i < rows * V; i++) logits[i] = 1.0f - 0.25f * (float)(i % V);
}

TEST(sampling_text, "as a picker: greedy under a frequency penalty, and never a 2-gram twice") {
    for (size_t kind = 0; kind < 2; kind++) {
        llm_sampling_text_config c = llm_sampling_text_defaults(
            kind ? LLM_SAMPLING_TEXT_TRANSFORMERS : LLM_SAMPLING_TEXT_API);
        c.filter.temperature = 0.0f, c.frequency = 0.5f, c.no_ngram = 2;
        llm_sampling_text *s = text_state(&c, 1);
        llm_decoding_model model;
        model.V = V, model.capacity = ROOM, model.context = NULL, model.step = text_step;
        llm_decoding_picker picker;
        picker.context = s, picker.pick = llm_sampling_text_pick;
        const llm_decoding_config loop = llm_decoding_defaults(9);
        int ids[ROOM] = {20};
        llm_decoding_row row = llm_decoding_begin(ids, 1, 0);
        llm_arena arena = test_arena(4096);
        CHECK(llm_decoding_run(&row, 1, &model, &picker, &loop, &arena) == 9);
        /* 1, .75, .5, ..: each use takes 2 places; ties to the lower token */
        const int price[9] = {0, 1, 0, 2, 1, 3, 0, 2, 4};
        const int pairs[9] = {0, 0, 1, 0, 2, 0, 3, 0, 4};
        for (size_t t = 0; t < 9; t++) CHECK(ids[1 + t] == (kind ? pairs : price)[t]);
    }
}
