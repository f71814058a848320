/* @llama */
#include "../test.h"

#include "../../llm.h"

#include "../tiny_llama.h"
#include "../tiny_rounded.h"

static const struct {
    const char *name;
    size_t head;
} families[7] = {{"llama", 4}, {"llama3", 4}, {"mistral", 4}, {"qwen2", 4},
                 {"qwen3", 8}, {"gemma2", 8}, {"gpt2", 4}};

static const char *ll_config(const char *family) {
    static char text[2000];
    size_t n;
    const float *x = golden_n(&n, "%s/config", family);
    CHECK(n < sizeof text);
    for (size_t i = 0; i < n; i++) text[i] = (char)x[i];
    text[n] = 0;
    return text;
}

static void ll_ids(int *ids, const char *family) {
    const float *x = golden("%s/ids", family);
    for (size_t i = 0; i < 62; i++) ids[i] = (int)x[i];
}

/* Logits behind tokens 0, 5 and 11, in passes of `pass` tokens, and at the end of the 62. */
static void ll_logits(llm_llama *m, const char *family, size_t pass) {
    int ids[62];
    const float *want = golden("%s/logits", family), *last = golden("%s/last", family);
    ll_ids(ids, family);
    m->length = 0;
    for (size_t at = 0, check = 0; at < 12; check++) {
        const size_t end = check == 0 ? 1 : check == 1 ? 6 : 12;
        for (size_t n; at < end; at += n) {
            n = end - at < pass ? end - at : pass;
            llm_llama_forward(m, ids + at, n);
        }
        CHECK_ALL_NEAR(m->logits, want + check * 24, 24, 1e-4);
    }
    for (size_t at = 12, n; at < 62; at += n) {
        n = 62 - at < pass ? 62 - at : pass;
        llm_llama_forward(m, ids + at, n);
    }
    CHECK_ALL_NEAR(m->logits, last, 24, 1e-4);
    CHECK(m->length == 62);
}

TEST(llama, "seven families from safetensors: transformers' logits, one token at a time and many") {
    static const llm_safetensors_dtype dtype[3] = {LLM_SAFETENSORS_F32, LLM_SAFETENSORS_BF16,
                                                   LLM_SAFETENSORS_F16};
    for (size_t f = 0; f < 7; f++) {
        tiny_llama tiny;
        tiny_llama_make(&tiny, families[f].name, families[f].head);
        for (size_t k = 0; k < 3; k++) {
            llm_llama m;
            llm_error e;
            const char *dir = tiny_llama_directory(&tiny, ll_config(families[f].name), dtype[k]);
            if (!llm_llama_open(&m, dir, 62, 7, &e)) test_fail(__FILE__, __LINE__, "%s", e.message);
            const size_t used = m.memory.used;
            ll_logits(&m, families[f].name, 62); /* in chunks of 7 */
            ll_logits(&m, families[f].name, 1);
            CHECK(m.memory.used == used);
            llm_llama_close(&m);
        }
    }
}

TEST(llama,
     "the same from GGUF: rows in another order, 1 added to Gemma's norms, stretched rotations") {
    for (size_t f = 0; f < 7; f++) {
        tiny_llama tiny;
        llm_llama m;
        llm_error e;
        llm_buffer pair = {NULL, 0, 0};
        size_t pairs = 0;
        const size_t head = families[f].head;
        const bool stretched = strcmp(families[f].name, "llama3") == 0;
        float plain[4], slow[4];
        tiny_llama_make(&tiny, families[f].name, head);
        tiny_llama_pairs(&pair, &pairs, families[f].name, head);
        llm_yarn_config rope = llm_yarn_defaults(LLM_YARN_LLAMA3, head, 100.0, 4.0, 32.0);
        llm_yarn_inv_freq(slow, &rope);
        llm_rope_inv_freq(plain, head, 100.0f);
        for (size_t i = 0; i < head / 2; i++) plain[i] /= slow[i];
        const char *path = tiny_llama_path("m.gguf");
        tiny_llama_gguf(path, &tiny, families[f].name, head, &pair, pairs,
                        stretched ? plain : NULL);
        if (!llm_llama_open(&m, path, 62, 7, &e)) test_fail(__FILE__, __LINE__, "%s", e.message);
        if (f == 5) m.file.config.scale = (float)(1.0 / sqrt(12.0)); /* no pair says 12 */
        ll_logits(&m, families[f].name, 62);
        llm_llama_close(&m);
        llm_buffer_free(&pair);
    }
}

TEST(llama, "50 tokens by greedy choice are transformers'") {
    for (size_t f = 0; f < 7; f++) {
        tiny_llama tiny;
        llm_llama m;
        llm_error e;
        int want[62], ids[62];
        tiny_llama_make(&tiny, families[f].name, families[f].head);
        const char *dir =
            tiny_llama_directory(&tiny, ll_config(families[f].name), LLM_SAFETENSORS_BF16);
        CHECK(llm_llama_open(&m, dir, 62, 62, &e));
        ll_ids(want, families[f].name);
        memcpy(ids, want, sizeof ids);
        llm_llama_forward(&m, ids, 12);
        for (size_t t = 12; t < 62; t++) {
            size_t best = 0;
            for (size_t v = 1; v < 24; v++) best = m.logits[v] > m.logits[best] ? v : best;
            ids[t] = (int)best;
            CHECK(ids[t] == want[t]);
            llm_llama_forward(&m, &ids[t], 1);
        }
        CHECK_ASSERTS(llm_llama_forward(&m, ids, 1)); /* no room */
        m.length = 40;                                /* forgotten tokens can be read again */
        llm_llama_forward(&m, ids + 40, 22);
        CHECK_ALL_NEAR(m.logits, golden("%s/last", families[f].name), 24, 1e-4);
        m.length = 0;
        ids[0] = 24;
        CHECK_ASSERTS(llm_llama_forward(&m, ids, 1));
        ids[0] = -1;
        CHECK_ASSERTS(llm_llama_forward(&m, ids, 1));
        CHECK_ASSERTS(llm_llama_forward(&m, ids, 0));
        llm_llama_close(&m);
    }
}

TEST(llama, "a pass gives the logits behind each of its last tokens, in chunks of any size") {
    for (size_t f = 0; f < 7; f++) {
        tiny_llama tiny;
        llm_llama m;
        llm_error e;
        int ids[62];
        const float *want = golden("%s/logits", families[f].name);
        tiny_llama_make(&tiny, families[f].name, families[f].head);
        const char *dir =
            tiny_llama_directory(&tiny, ll_config(families[f].name), LLM_SAFETENSORS_F32);
        ll_ids(ids, families[f].name);
        for (size_t chunk = 1; chunk <= 13; chunk += 1 + chunk / 3) { /* 1 2 3 5 7 10 */
            CHECK(llm_llama_open(&m, dir, 62, chunk, &e));
            const size_t used = m.memory.used;
            for (size_t k = 0; k <= 12; k++) {
                float *rows = floats((k + 1) * 24);
                m.length = 0;
                m.logits[0] = 9.0f;
                llm_llama_pass(&m, rows, ids, 12, k);
                CHECK(m.length == 12 && m.memory.used == used && m.logits[0] == 9.0f);
                for (size_t i = 0; i < 3; i++) {
                    const size_t place = i == 0 ? 0 : i == 1 ? 5 : 11;
                    if (place + k >= 12)
                        CHECK_ALL_NEAR(rows + (place + k - 12) * 24, want + i * 24, 24, 1e-4);
                }
                for (size_t i = 0; i < 24; i++) CHECK(isnan(rows[k * 24 + i])); /* no row more */
            }
            CHECK_ASSERTS(llm_llama_pass(&m, m.logits, ids, 2, 3));
            llm_llama_close(&m);
        }
    }
}

/* What an arena takes for n numbers. */
static size_t ll_room(size_t n) { return (n + 15) / 16 * 64; }

/* The most scratch at once of a pass of n tokens: attention's or the MLP's beside the pass's
 * own. */
static size_t ll_scratch(const llm_llama_config *c, size_t n, size_t context) {
    const size_t C = c->width, Q = c->heads * c->head, K = c->kv_heads * c->head;
    const size_t mlp = ll_room(n * C) + 2 * ll_room(n * c->hidden);
    const size_t attention = ll_room(n * C) + 2 * ll_room(n * Q) + 2 * ll_room(n * K) +
                             ll_room(c->heads * (context + c->head));
    const size_t turns = c->family == LLM_LLAMA_CONFIG_GPT2 ? 0 : 2 * ll_room(n * (c->head / 2));
    return ll_room(n * C) + turns + ll_room(C) + ll_room(n) + (attention > mlp ? attention : mlp);
}

/* A model with a table of so many places is asked for one more. */
static bool lacking(size_t places, llm_error *e) {
    llm_llama m;
    memset(&m, 0, sizeof m);
    m.file.config.context = m.file.places.rows = places;
    return llm_llama_create(&m, places + 1, 1, e);
}

TEST(llama, "there is memory for models of any proportions, and a pass takes what it needs") {
    for (size_t large = 0; large < 7; large++) {
        llm_llama m;
        llm_error e;
        memset(&m, 0, sizeof m);
        llm_llama_config *c = &m.file.config;
        c->vocab = large == 0 ? 1000 : 5, c->width = large == 1 ? 200 : 3;
        c->hidden = large == 2 ? 300 : 0, c->heads = large == 3 ? 50 : 1;
        c->kv_heads = large == 4 ? 50 : 1, c->head = large == 5 ? 400 : 2;
        c->layers = large == 6 ? 40 : 1;
        if (large == 0)
            CHECK_FAILS(lacking(1, &e), e, "a context of 2 tokens, the model has positions for 1");
        if (large == 0)
            CHECK_FAILS(lacking(7, &e), e, "a context of 8 tokens, the model has positions for 7");
        const size_t chunk = 600, context = 70, K = c->kv_heads * c->head;
        CHECK(llm_llama_create(&m, context, chunk, &e));
        CHECK(m.memory.used == ll_room(c->vocab) + 2 * ll_room(c->layers * context * K));
        CHECK(m.memory.size - m.memory.used >= ll_scratch(c, chunk, context));
        llm_arena_destroy(&m.memory);
    }
    for (size_t f = 0; f < 7; f++) {
        tiny_llama tiny;
        llm_llama m;
        llm_error e;
        int ids[62];
        tiny_llama_make(&tiny, families[f].name, families[f].head);
        ll_ids(ids, families[f].name);
        const char *dir =
            tiny_llama_directory(&tiny, ll_config(families[f].name), LLM_SAFETENSORS_F32);
        CHECK(llm_llama_open(&m, dir, 20, 9, &e));
        llm_llama_forward(&m, ids, 9);
        CHECK(m.memory.peak - m.memory.used == ll_scratch(&m.file.config, 9, 20));
        CHECK_ASSERTS(llm_llama_pass(&m, m.logits, ids, 0, 0));
        llm_llama_close(&m);
    }
}

TEST(llama, "caps below 1 and scores of a hundred; a sublayer's norm stays within its rows") {
    tiny_llama tiny;
    llm_llama m;
    llm_error e;
    enum { H = 4, HKV = 2, D = 4, N = 3, CONTEXT = 5 };
    float q[N * H * D], out[N * H * D], plain[24];
    tiny_llama_make(&tiny, "llama", D);
    const char *dir = tiny_llama_directory(&tiny, ll_config("llama"), LLM_SAFETENSORS_F32);
    CHECK(llm_llama_open(&m, dir, CONTEXT, N, &e));
    const int ids[N] = {1, 7, 3};
    llm_llama_forward(&m, ids, N);
    memcpy(plain, m.logits, sizeof plain);
    m.length = 0, m.file.config.logit_cap = 0.5f;
    llm_llama_forward(&m, ids, N);
    for (size_t v = 0; v < 24; v++) CHECK_NEAR(m.logits[v], 0.5f * tanhf(plain[v] / 0.5f), 1e-6);

    llm_rng rng = llm_rng_seed(1);
    llm_llama half; /* the same with keys and values in 16 bits */
    memset(&half, 0, sizeof half);
    half.file.config = m.file.config, half.file.config.logit_cap = 0.0f;
    CHECK(llm_llama_create_as(&half, N, N, LLM_LLAMA_CACHE_BF16, &e));
    float *numbers = floats(2 * N * HKV * D); /* keys and values of both layers */
    llm_rng_normal_fill(&rng, numbers, 2 * N * HKV * D);
    llm_llama_cache_write(&half.keys, 0, numbers, 2 * N * HKV * D);
    llm_rng_normal_fill(&rng, numbers, 2 * N * HKV * D);
    llm_llama_cache_write(&half.values, 0, numbers, 2 * N * HKV * D);
    llm_rng_normal_fill(&rng, q, N * H * D);
    m.length = 0;
    for (size_t k = 0; k < 3; k++) {
        llm_llama *at = k == 2 ? &half : &m;
        const double cap = k == 0 ? 0.5 : 0.0, scale = k == 1 ? 60.0 : 1.0;
        at->file.config.score_cap = (float)cap, at->file.config.scale = (float)scale;
        const size_t used = at->memory.used;
        llm_llama_attend(out, q, at, 1, N);
        CHECK(at->memory.used == used);
        for (size_t i = 0; i < N * H; i++) {
            const size_t t = i / H, from = (at->context * HKV + i % H / (H / HKV)) * D;
            double p[N], sum = 0.0, most = -1e300;
            float row[D];
            for (size_t j = 0; j <= t; j++) {
                const float *key = llm_llama_cache_read(row, &at->keys, from + j * HKV * D, D);
                p[j] = scale * dot(q + i * D, key, D);
                if (cap > 0.0) p[j] = cap * tanh(p[j] / cap);
                most = fmax(most, p[j]);
            }
            for (size_t j = 0; j <= t; j++) sum += exp(p[j] - most);
            for (size_t d = 0; d < D; d++) {
                double want = 0.0;
                for (size_t j = 0; j <= t; j++)
                    want +=
                        exp(p[j] - most) / sum *
                        (double)llm_llama_cache_read(row, &at->values, from + j * HKV * D, D)[d];
                CHECK_NEAR(out[i * D + d], want, 1e-4);
            }
        }
    }
    llm_arena_destroy(&half.memory);
    float *x = zeros(2 * 16), *f = floats(2 * 16), norm[16]; /* nothing behind them */
    for (size_t i = 0; i < 32; i++) f[i] = i % 2 ? 3.0f : -3.0f, norm[i % 16] = 2.0f;
    llm_llama_mlp_add(x, f, norm, 2, &m.file.config);
    for (size_t i = 0; i < 32; i++) CHECK_NEAR(x[i], i % 2 ? 2.0f : -2.0f, 1e-5);
    llm_llama_close(&m);
}

TEST(llama, "what cannot be opened says why") {
    tiny_llama tiny;
    llm_llama m;
    llm_error e;
    tiny_llama_make(&tiny, "llama", 4);
    const char *dir = tiny_llama_directory(&tiny, ll_config("llama"), LLM_SAFETENSORS_F32);
    CHECK_FAILS(llm_llama_open(&m, dir, SIZE_MAX / 8, 1, &e), e, "no memory for a key-value cache");
    tiny_llama_make(&tiny, "gpt2", 4);
    dir = tiny_llama_directory(&tiny, ll_config("gpt2"), LLM_SAFETENSORS_F32);
    CHECK_FAILS(llm_llama_open(&m, dir, 65, 1, &e), e,
                "a context of 65 tokens, the model has positions for 64");
    CHECK(llm_llama_open(&m, dir, 64, 1, &e));
    llm_llama_close(&m);
    dir = tiny_llama_directory(&tiny, ll_config("llama"), LLM_SAFETENSORS_F32);
    CHECK_FAILS(llm_llama_open(&m, dir, 9, 1, &e), e, "no tensor model.embed_tokens.weight");
    CHECK_FAILS(llm_llama_open(&m, test_path("no"), 9, 1, &e), e, "config.json: cannot be opened");
    CHECK_FAILS(llm_llama_open(&m, test_path("no.gguf"), 9, 1, &e), e, "no.gguf: cannot be opened");
    tiny_llama_make(&tiny, "llama", 4);
    dir = tiny_llama_directory(&tiny, ll_config("llama"), LLM_SAFETENSORS_F32);
    CHECK_ASSERTS(llm_llama_open(&m, dir, 9, 0, &e));
}

TEST(llama, "each product of attention, and the head, rounds what it gets if the settings say so") {
    enum { WIDE = 64, VOCAB = 32 };
    static const int part[4] = {LLM_LLAMA_NAMES_Q, LLM_LLAMA_NAMES_K, LLM_LLAMA_NAMES_V,
                                LLM_LLAMA_NAMES_O};
    static const int ids[2] = {3, 5};
    llm_rng rng = llm_rng_seed(7);
    for (int k = 0; k < 6; k++) { /* one matrix in Q8_0, at last none */
        llm_llama m;
        llm_llama_file_layer layer;
        llm_stored_matrix coded, plain;
        llm_error e;
        float one[WIDE], inv_freq[16], exact[VOCAB];
        memset(&m, 0, sizeof m);
        memset(&layer, 0, sizeof layer);
        for (int i = 0; i < WIDE; i++) one[i] = 1.0f;
        for (int i = 0; i < 16; i++) inv_freq[i] = 1.0f / (float)(i + 1);
        llm_llama_config *c = &m.file.config;
        c->vocab = VOCAB, c->context = 8, c->width = c->hidden = WIDE, c->layers = 1;
        c->heads = c->kv_heads = 2, c->head = 32, c->eps = 1e-5f, c->scale = 1.0f;
        c->rope = llm_yarn_defaults(LLM_YARN_NONE, 32, 100.0, 1.0, 8.0);
        m.file.layer = &layer, m.file.norm = one, m.file.inv_freq = inv_freq;
        layer.vector[LLM_LLAMA_NAMES_NORM1] = layer.vector[LLM_LLAMA_NAMES_NORM2] = one;
        for (int i = 0; i < 4; i++) {
            tiny_rounded_matrix(&coded, &plain, WIDE, WIDE, &rng);
            layer.matrix[part[i]] = i == k ? coded : plain;
        }
        for (int i = LLM_LLAMA_NAMES_GATE; i <= LLM_LLAMA_NAMES_DOWN; i++)
            tiny_rounded_matrix(&coded, &layer.matrix[i], WIDE, WIDE, &rng);
        tiny_rounded_matrix(&coded, &plain, VOCAB, WIDE, &rng);
        m.file.embed = plain, m.file.head = k == 4 ? coded : plain;
        CHECK(llm_llama_create(&m, 8, 8, &e));
        for (int i = 0; i < 2; i++) llm_llama_forward(&m, ids + i, 1);
        memcpy(exact, m.logits, sizeof exact);
        m.length = 0, c->rounded = true;
        for (int i = 0; i < 2; i++) llm_llama_forward(&m, ids + i, 1);
        tiny_rounded_check(m.logits, exact, VOCAB, k < 5);
        llm_arena_destroy(&m.memory);
    }
}
