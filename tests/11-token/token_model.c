/* @token_model */
#include "../test.h"
#include "../tiny_hostile.h"

#include "../../llm.h"
#include "../arena.h"
#include "../tiny_parts.h"

/* The model of a file. */
static llm_token_model model_of(const char *text) {
    llm_token_model m = llm_token_model_empty();
    llm_error error;
    llm_added_tokens none;
    memset(&none, 0, sizeof none);
    llm_json j = tiny_parts_json(text);
    if (!llm_token_model_json_read(&m, &j, llm_json_get(&j, j.node, "model"), &none, &error))
        test_fail(__FILE__, __LINE__, "%s", error.message);
    llm_json_free(&j);
    return m;
}

/* The ids of a word and where they end, in memory of exactly the size that is asked for. */
static size_t model_word(int **ids, size_t **end, const llm_token_model *m, const char *text,
                         size_t size) {
    const size_t scratch = llm_token_model_scratch(m, size);
    llm_arena arena = test_arena(scratch);
    *ids = (int *)test_memory(size + 1, sizeof **ids);
    *end = (size_t *)test_memory(size + 1, sizeof **end);
    const size_t count = llm_token_model_word(*ids, *end, m, text, size, &arena);
    CHECK(arena.used == 0 && count <= size);
    return count;
}

static size_t model_answer(uint32_t *out, const char *text, size_t size, const void *context) {
    const llm_token_model *m = (const llm_token_model *)context;
    int *ids;
    size_t *end, n = 0;
    if (size == 0 || tiny_parts_old(text, size)) return 0;
    const size_t *place = tiny_parts_places(text, size);
    const size_t count = model_word(&ids, &end, m, text, size);
    for (size_t i = 0; i < count; i++) {
        tiny_parts_put(out, &n, (size_t)ids[i]);
        const bool inside = end[i] < size && place[end[i]] == place[end[i] - 1]; /* a character */
        tiny_parts_put(out, &n, place[end[i]] + inside);
    }
    return n;
}

TEST(token_model, "1,800 words get the ids of tokenizers, which end where its do") {
    static const char *const name[4] = {"fallback", "lost", "wordpiece", "unigram"};
    for (size_t k = 0; k < 4; k++) {
        char hash[32];
        snprintf(hash, sizeof hash, "hash/%s", name[k]);
        llm_token_model m = model_of(tiny_parts_file(name[k]));
        tiny_hostile_check(hash, 9, model_answer, &m);
        if (k == 1) {
            m.fuse = true;
            tiny_hostile_check("hash/fused", 9, model_answer, &m);
        }
        llm_token_model_free(&m);
    }
}

static void model_is(const llm_token_model *m, const char *text, size_t n, const int *want,
                     const size_t *want_end) {
    int *ids;
    size_t *end;
    const size_t size = strlen(text);
    char *exact = (char *)test_memory(size, 1); /* without the 0 */
    memcpy(exact, text, size);
    const size_t count = model_word(&ids, &end, m, exact, size);
    bool same = count == n;
    for (size_t i = 0; i < n && same; i++) same = ids[i] == want[i] && end[i] == want_end[i];
    if (!same) test_fail(__FILE__, __LINE__, "\"%s\": %zu ids, the first %d", text, count, ids[0]);
}

TEST(token_model, "by hand: fused, apart, dropped, whole words; broken bytes are unknown") {
    static const char file[] =
        "{\"model\":{\"type\":\"BPE\",\"unk_token\":\"?\",\"vocab\":{\"?\":0,"
        "\"a\":1,\"b\":2,\"ab\":3,\"abab\":4},\"merges\":[\"a b\"]}}";
    llm_token_model m = model_of(file);
    static const int apart[5] = {1, 0, 0, 3, 0};
    static const size_t apart_end[5] = {1, 3, 4, 6, 7};
    model_is(&m, "a\xC3\xA9xab\xFF", 5, apart, apart_end);
    m.fuse = true;
    static const int fused[4] = {1, 0, 3, 0};
    static const size_t fused_end[4] = {1, 4, 6, 7};
    model_is(&m, "a\xC3\xA9xab\xFF", 4, fused, fused_end);
    m.unknown = -1;
    static const int dropped[2] = {1, 3};
    static const size_t dropped_end[2] = {1, 6};
    model_is(&m, "a\xC3\xA9xab\xFF", 2, dropped, dropped_end);
    model_is(&m, "xyz", 0, dropped, dropped_end);
    static const int merged[2] = {3, 3};
    static const size_t merged_end[2] = {2, 4};
    model_is(&m, "abab", 2, merged, merged_end);
    m.ignore_merges = true;
    static const int whole[1] = {4};
    static const size_t whole_end[1] = {4};
    model_is(&m, "abab", 1, whole, whole_end);
    m.kind = LLM_TOKEN_MODEL_WORDS;
    m.ignore_merges = false;
    model_is(&m, "abab", 1, whole, whole_end);
    model_is(&m, "ba", 0, whole, whole_end);
    m.unknown = 0;
    static const int lost[1] = {0};
    static const size_t lost_end[1] = {2};
    model_is(&m, "ba", 1, lost, lost_end);
    CHECK(llm_token_model_table(&m)->count == 5);
    llm_token_model_free(&m);
    CHECK(m.unknown == -1 && m.bpe.token.count == 0 && m.bpe.byte_id[7] == -1);
}

TEST(token_model, "tokens with the id 0, and what breaks off at the end") {
    static const char file[] = "{\"model\":{\"type\":\"BPE\",\"unk_token\":\"?\",\"vocab\":{"
                               "\"a\":0,\"b\":1,\"ab\":2,\"?\":3},\"merges\":[\"a b\"]}}";
    llm_token_model m = model_of(file);
    static const int apart[4] = {3, 0, 3, 3};
    static const size_t apart_end[4] = {1, 2, 3, 4};
    model_is(&m, "xaz\xC3", 4, apart, apart_end);
    m.fuse = true;
    static const int fused[5] = {3, 0, 3, 2, 3};
    static const size_t fused_end[5] = {2, 3, 4, 6, 7};
    model_is(&m, "xyazab\xE4", 5, fused, fused_end);
    m.unknown = -1;
    static const int dropped[2] = {1, 0};
    static const size_t dropped_end[2] = {1, 3};
    model_is(&m, "bxa", 2, dropped, dropped_end);
    static const int joined[1] = {2}; /* what is left stands side by side, and merges */
    static const size_t joined_end[1] = {3};
    model_is(&m, "axb", 1, joined, joined_end);
    m.ignore_merges = true;
    static const int whole[1] = {0};
    static const size_t whole_end[1] = {1};
    model_is(&m, "a", 1, whole, whole_end);
    m.kind = LLM_TOKEN_MODEL_WORDS;
    model_is(&m, "a", 1, whole, whole_end);
    m.kind = LLM_TOKEN_MODEL_BPE; /* bytes: here tokens without a text of their own */
    m.ignore_merges = false;
    m.fallback = true;
    for (int b = 0; b < 256; b++) m.bpe.byte_id[b] = 3;
    static const int bytes[4] = {0, 3, 3, 2};
    static const size_t bytes_end[4] = {1, 2, 3, 5};
    model_is(&m,
             "a\xC3\xA9"
             "ab",
             4, bytes, bytes_end);
    llm_token_model_free(&m);
}

TEST(token_model, "an unknown token that a text spells is a token like others") {
    static const char file[] = "{\"model\":{\"type\":\"BPE\",\"unk_token\":\"?\",\"fuse_unk\":true,"
                               "\"vocab\":{\"?\":0,\"a\":1},\"merges\":[]}}";
    llm_token_model m = model_of(file);
    static const int ids[4] = {0, 0, 0, 1};
    static const size_t end[4] = {1, 2, 4, 5};
    model_is(&m, "??xya", 4, ids, end);
    llm_token_model_free(&m);
}
