/* @llama_draft */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_llama.h"
#include "../tiny_speculative.h"

enum { V = 24 };

/* A tiny model of another family is another model: other shapes, other weights. With fewer tokens
 * than V, the last rows of its head are out of use. */
static void ld_open(llm_llama *m, const char *family, size_t head, size_t vocab, size_t context) {
    tiny_llama tiny;
    llm_error e;
    char config[600];
    snprintf(config, sizeof config,
             "{\"model_type\": \"%s\", \"vocab_size\": 24, \"hidden_size\": 16, "
             "\"intermediate_size\": 24, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, "
             "\"num_key_value_heads\": 2, \"head_dim\": %zu, \"max_position_embeddings\": 64, "
             "\"tie_word_embeddings\": %s}",
             family, head, strcmp(family, "qwen2") ? "false" : "true");
    tiny_llama_make(&tiny, family, head);
    const char *dir = tiny_llama_directory(&tiny, config, LLM_SAFETENSORS_F32);
    if (!llm_llama_file_open(&m->file, dir, &e)) test_fail(__FILE__, __LINE__, "%s", e.message);
    m->file.config.vocab = m->file.head.rows = m->file.embed.rows = vocab;
    CHECK(llm_llama_create(m, context, 5, &e));
}

static const int ld_prompt[4] = {3, 17, 5, 11};

/* Greedy or not, and with a penalty that counts the text. */
static llm_sampling_text_config ld_config(float temperature, float repetition) {
    llm_sampling_text_config c = llm_sampling_text_defaults(LLM_SAMPLING_TEXT_LLAMA_CPP);
    c.filter.temperature = temperature, c.filter.top_k = 4.0f;
    c.repetition = repetition;
    return c;
}

/* ids (n + most) <- greedy tokens behind the first n, as long as there is room. */
static size_t ld_greedy(int *ids, size_t n, size_t most, llm_llama *m, float repetition) {
    size_t end = n;
    m->length = 0;
    llm_llama_forward(m, ids, n);
    for (; end < n + most; end++) {
        float row[V];
        memcpy(row, m->logits, sizeof row);
        for (int v = 0; v < V; v++)
            for (size_t i = end > 64 ? end - 64 : 0; i < end; i++)
                if (ids[i] == v) {
                    row[v] = row[v] > 0.0f ? row[v] / repetition : row[v] * repetition;
                    break;
                }
        ids[end] = llm_greedy_pick(row, V);
        if (m->length == m->context) return end + 1 - n;
        llm_llama_forward(m, ids + end, 1);
    }
    return end - n;
}

TEST(llama_draft, "greedy text is the target's own, whatever drafts, as many, with a penalty, "
                  "from a prompt that is read whole or but for one") {
    static const struct {
        const char *family;
        size_t head, vocab, context;
    } drafts[] = {{"llama", 4, 24, 40}, {"qwen3", 8, 24, 40}, {"qwen3", 8, 17, 40},
                  {"qwen2", 4, 24, 11}, {"", 0, 0, 0},        {"mistral", 4, 24, 3}};
    llm_llama m;
    ld_open(&m, "llama", 4, V, 40);
    for (size_t k = 0; k < sizeof drafts / sizeof *drafts; k++) {
        llm_llama d;
        const bool some = *drafts[k].family != 0;
        if (some) ld_open(&d, drafts[k].family, drafts[k].head, drafts[k].vocab, drafts[k].context);
        for (size_t g = 0; g < 9; g++) {
            int want[64], ids[64];
            llm_arena arena = test_arena(1 << 16);
            llm_sampling_text chain;
            const float repetition = g % 2 ? 1.0f : 1.7f;
            const size_t most = g == 3 ? 60 : 20;
            const llm_sampling_text_config c = ld_config(0.0f, repetition);
            memcpy(want, ld_prompt, sizeof ld_prompt);
            const size_t count = ld_greedy(want, 4, most, &m, repetition);
            CHECK(count == (most == 60 ? 37 : 20)); /* the context ends; the last is not read */
            llm_sampling_text_create(&chain, &c, V, 40, 4, &arena);
            llm_llama_draft s = {&m, some ? &d : NULL, &chain, g, 0, 0};
            llm_rng rng = llm_rng_seed(1);
            memset(ids, 0xff, sizeof ids);
            memcpy(ids, ld_prompt, sizeof ld_prompt);
            m.length = d.length = 0;
            llm_llama_forward(&m, ids, 3 + g % 3 / 2);
            const size_t used = arena.used, room = m.memory.used;
            size_t L = 4, turns = 0;
            while (L < 4 + count) {
                const size_t drafted = s.drafted, before = s.accepted,
                             n = llm_llama_draft_turn(&s, ids, L, 4 + most - L, &rng);
                CHECK(n > 0 && n <= g + 1 && n == s.accepted - before + 1);
                if (k == 0 || k == 1 || k == 3) { /* as many as there is room for */
                    const size_t rooms[3] = {3 + most - L, 40 - L, drafts[k].context + 1 - L};
                    size_t want_g = L <= drafts[k].context ? g : 0;
                    for (int i = 0; i < 3; i++) want_g = rooms[i] < want_g ? rooms[i] : want_g;
                    CHECK(s.drafted - drafted == want_g);
                }
                L += n, turns++;
                CHECK(m.length == L - 1 && (!some || d.length < L));
                CHECK(arena.used == used && m.memory.used == room);
            }
            CHECK(L == 4 + count && !memcmp(ids, want, L * sizeof *ids));
            CHECK(turns + s.accepted == count && s.accepted <= s.drafted);
            if (k == 0) CHECK(s.accepted == s.drafted); /* its own draft is always right */
            if (k == 0 && most == 20) CHECK(turns == (20 + g) / (g + 1));
            if (k == 1 && g > 0) CHECK(s.accepted < s.drafted);
            if (k == 2) CHECK(s.drafted == 0); /* 17 is not in its vocabulary */
            if (k == 3 && g > 0) CHECK(s.drafted > 0 && d.length <= 11);
            if (k >= 4) CHECK(s.drafted == 0);
        }
        if (some) llm_llama_close(&d);
    }
    llm_llama_close(&m);
}

/* The law of three tokens behind the prompt, enumerated, and counts of runs of turns against it. */
static double ld_joint(size_t g, const llm_sampling_text_config *c, const char *family, size_t head,
                       size_t vocab, size_t runs, double *share) {
    static double joint[V * V * V];
    static size_t count[V * V * V];
    llm_llama m, d;
    int ids[16];
    llm_arena arena = test_arena(1 << 16);
    llm_sampling_text chain;
    llm_rng rng = llm_rng_seed(g);
    ld_open(&m, "llama", 4, V, 20);
    ld_open(&d, family, head, vocab, 20);
    memset(count, 0, sizeof count);
    memset(joint, 0, sizeof joint);
    for (size_t i = 0; i < V * V * V; i++) joint[i] = 1.0;
    memcpy(ids, ld_prompt, sizeof ld_prompt);
    for (size_t at = 0, texts = 1, rest = V * V; at < 3; at++, texts *= V, rest /= V) {
        for (size_t t = 0; t < texts; t++) {
            double sum = 0.0, p[V];
            float row[V], top[V];
            if (at > 0) ids[4] = (int)(at == 1 ? t : t / V);
            if (at > 1) ids[5] = (int)(t % V);
            m.length = 0;
            llm_llama_forward(&m, ids, 4 + at);
            for (int v = 0; v < V; v++) {
                bool used = false;
                for (size_t i = 0; i < 4 + at; i++) used = used || ids[i] == v;
                row[v] = m.logits[v];
                if (used) row[v] = row[v] > 0 ? row[v] / c->repetition : row[v] * c->repetition;
                top[v] = row[v];
            }
            for (int i = 0; i < 3; i++) top[llm_greedy_pick(top, V)] = -INFINITY;
            const float fourth = top[llm_greedy_pick(top, V)];
            for (int v = 0; v < V; v++) {
                p[v] = row[v] < fourth ? 0.0 : exp((double)(row[v] / c->filter.temperature));
                sum += p[v];
            }
            for (size_t v = 0; v < V; v++)
                for (size_t r = 0; r < rest; r++) joint[(t * V + v) * rest + r] *= p[v] / sum;
        }
    }
    llm_sampling_text_create(&chain, c, V, 20, 4, &arena);
    llm_llama_draft s = {&m, &d, &chain, g, 0, 0};
    for (size_t run = 0; run < runs; run++) {
        m.length = 3, d.length = run > 0 ? 3 : 0;
        for (size_t L = 4; L < 7;) L += llm_llama_draft_turn(&s, ids, L, 7 - L, &rng);
        CHECK(m.length == 6);
        count[((size_t)ids[4] * V + (size_t)ids[5]) * V + (size_t)ids[6]]++;
    }
    *share = (double)s.accepted / (double)s.drafted;
    llm_llama_close(&m), llm_llama_close(&d);
    return tiny_speculative_chi(count, joint, V * V * V, (double)runs);
}

TEST(llama_draft, "three tokens have the target's law, behind temperature, top-k and a penalty") {
    const llm_sampling_text_config c = ld_config(0.7f, 1.3f);
    double share;
    /* normal deviates: above 3.09 with probability 0.001 */
    CHECK(ld_joint(1, &c, "qwen3", 8, V, 1500, &share) < 3.09);
    CHECK(share > 0.02 && share < 0.9);
    CHECK(ld_joint(2, &c, "qwen2", 4, V, 1500, &share) < 3.09);
    CHECK(ld_joint(2, &c, "qwen2", 4, 18, 1500, &share) < 3.09);
    CHECK(share > 0.02 && share < 0.9);
    CHECK(ld_joint(3, &c, "llama", 4, V, 1500, &share) < 3.09 && share > 0.999);
}

TEST(llama_draft, "logits that are no numbers end the text, or the drafts, and not the program") {
    llm_llama m, d;
    int ids[20];
    llm_arena arena = test_arena(1 << 16);
    llm_sampling_text chain;
    llm_rng rng = llm_rng_seed(1);
    const llm_sampling_text_config c = ld_config(0.0f, 1.0f);
    ld_open(&m, "llama", 4, V, 20);
    ld_open(&d, "llama", 4, V, 20);
    llm_sampling_text_create(&chain, &c, V, 20, 4, &arena);
    llm_llama_draft s = {&m, &d, &chain, 3, 0, 0};
    const size_t used = arena.used;
    memcpy(ids, ld_prompt, sizeof ld_prompt);
    float *norm = d.file.norm, broken[16];
    for (int i = 0; i < 16; i++) broken[i] = NAN;
    d.file.norm = broken;
    m.length = 3, d.length = 0; /* what the cache holds does not matter here */
    llm_llama_forward(&m, ids + 3, 1);
    CHECK(llm_llama_draft_turn(&s, ids, 4, 9, &rng) == 1 && s.drafted == 0);
    d.file.norm = norm, d.length = 0;
    m.length = 3, m.file.norm = broken;
    CHECK(llm_llama_draft_turn(&s, ids, 4, 9, &rng) == 0 && s.accepted == 0);
    CHECK(m.length == 4 && d.length <= 4 && arena.used == used);
    for (int i = 0; i < V; i++) m.logits[i] = i == 7 ? 1.0f : 0.0f; /* good ones, broken behind */
    d.length = 0, ids[4] = -1;
    CHECK(llm_llama_draft_turn(&s, ids, 4, 9, &rng) == 1 && ids[4] == 7);
    CHECK(m.length == 4 && d.length <= 4);
    s.draft = NULL, m.length = 3, ids[4] = -7; /* broken, and nothing drafted: nothing is written */
    CHECK(llm_llama_draft_turn(&s, ids, 4, 9, &rng) == 0 && ids[4] == -7 && m.length == 4);
    m.length = 0; /* a text without a token */
    CHECK_ASSERTS(llm_llama_draft_turn(&s, ids, 0, 9, &rng));
    s.draft = &d, s.g = 0, m.length = d.length = 4; /* all is read, and nothing is to be drafted */
    CHECK_ASSERTS(llm_llama_draft_turn(&s, ids, 4, 9, &rng));
    s.g = 3, d.length = 0;
    m.length = 2;
    CHECK_ASSERTS(llm_llama_draft_turn(&s, ids, 4, 9, &rng));
    m.length = 4, d.length = 4;
    CHECK_ASSERTS(llm_llama_draft_turn(&s, ids, 4, 9, &rng));
    d.length = 0;
    CHECK_ASSERTS(llm_llama_draft_turn(&s, ids, 4, 0, &rng));
    m.length = 20;
    CHECK_ASSERTS(llm_llama_draft_turn(&s, ids, 21, 1, &rng));
    m.file.norm = d.file.norm, m.length = d.length = 0; /* a text of one token */
    CHECK(llm_llama_draft_turn(&s, ids, 1, 9, &rng) == 4 && s.accepted == 3);
    llm_llama_close(&m), llm_llama_close(&d);
}

/* Bytes, "ab" or another pair, and control tokens. */
static void ld_tokenizer(llm_tokenizer *t, const char *pair, int controls, const char *first) {
    llm_bpe bpe;
    llm_error e;
    CHECK(llm_bpe_create(&bpe));
    CHECK(llm_bpe_add(&bpe, bpe.byte_id[(unsigned char)pair[0]],
                      bpe.byte_id[(unsigned char)pair[1]]) == 256);
    llm_tokenizer_from_bpe(t, &bpe, LLM_PRE_TOKENIZE_GPT2);
    if (controls > 0) CHECK(llm_tokenizer_add_special(t, first, &e));
    if (controls > 1) CHECK(llm_tokenizer_add_special(t, "<|more|>", &e));
}

TEST(llama_draft, "tokenizers fit if the ids of both mean the same") {
    llm_tokenizer t[5];
    llm_error e;
    ld_tokenizer(&t[0], "ab", 1, "<|end|>");
    ld_tokenizer(&t[1], "ab", 2, "<|end|>");
    ld_tokenizer(&t[2], "ac", 1, "<|end|>");
    ld_tokenizer(&t[3], "ab", 1, "<|stop|>");
    ld_tokenizer(&t[4], "ab", 0, "");
    CHECK(llm_llama_draft_fits(&t[0], &t[0], &e) && llm_llama_draft_fits(&t[0], &t[1], &e));
    CHECK(llm_llama_draft_fits(&t[1], &t[0], &e) && llm_llama_draft_fits(&t[0], &t[4], &e));
    CHECK_FAILS(llm_llama_draft_fits(&t[0], &t[2], &e), e,
                "draft: token 256 twice is 'acac', of the model 'abab'");
    CHECK_FAILS(llm_llama_draft_fits(&t[3], &t[1], &e), e,
                "draft: token 257 twice is '<|end|><|end|>', of the model '<|stop|><|stop|>'");
    t[4].bpe.token.bytes.data[0] = 'Z'; /* its first token is another */
    CHECK_FAILS(llm_llama_draft_fits(&t[0], &t[4], &e), e,
                "draft: token 0 twice is 'ZZ', of the model '!!'");
    for (int i = 0; i < 5; i++) llm_tokenizer_free(&t[i]);
    const char *name[2] = {"<|a name of twenty-five|>", "<|a name of twenty five|>"};
    for (int i = 0; i < 2; i++) ld_tokenizer(&t[i], "ab", 1, name[i]);
    CHECK_FAILS(
        llm_llama_draft_fits(&t[0], &t[1], &e), e,
        "draft: token 257 twice is '<|a name of twenty five|><|a name of twe', of the model "
        "'<|a name of twenty-five|><|a name of twe'"); /* 40 bytes of each */
    for (int i = 0; i < 2; i++) {                      /* a first token that neither has */
        llm_tokenizer_free(&t[i]);
        ld_tokenizer(&t[i], "ab", 0, "");
        t[i].bpe.token.end[0] = 0;
    }
    CHECK(llm_llama_draft_fits(&t[0], &t[1], &e));
    for (int i = 0; i < 2; i++) llm_tokenizer_free(&t[i]);
}
