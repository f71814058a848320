/* @tokenizer_parts */
#include "../test.h"
#include "../tiny_hostile.h"

/* malloc and its like that fail once, after a number of calls */
static int parts_calls = 1 << 30;
static void *parts_malloc(size_t size) { return parts_calls-- != 0 ? malloc(size) : NULL; }
static void *parts_calloc(size_t n, size_t size) {
    return parts_calls-- != 0 ? calloc(n, size) : NULL;
}
static void *parts_realloc(void *p, size_t size) {
    return parts_calls-- != 0 ? realloc(p, size) : NULL;
}
#define malloc parts_malloc
#define calloc parts_calloc
#define realloc parts_realloc

#include "../../llm.h"
#include "../tiny_parts.h"

static const char parts_file[] =
    "{\"added_tokens\":[{\"id\":1,\"content\":\"<X>\",\"special\":true,\"normalized\":false},"
    "{\"id\":7,\"content\":\"AB\",\"single_word\":true,\"lstrip\":false,\"rstrip\":false},"
    "{\"id\":8,\"content\":\"\\u0001\",\"normalized\":true}],"
    "\"normalizer\":{\"type\":\"BertNormalizer\"},\"pre_tokenizer\":{\"type\":\"WhitespaceSplit\"},"
    "\"decoder\":{\"type\":\"Fuse\"},\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"?\","
    "\"vocab\":{\"?\":0,\"<X>\":1,\"b\":2,\"ab\":4}}}";

static bool parts_read(llm_tokenizer *t, const char *text, llm_error *error) {
    llm_bpe none = llm_bpe_empty();
    llm_json j = tiny_parts_json(text);
    llm_tokenizer_from_bpe(t, &none, LLM_PRE_TOKENIZE_GPT2);
    t->parts = (struct llm_tokenizer_parts *)calloc(1, sizeof *t->parts);
    t->parts->model = llm_token_model_empty();
    const bool ok = llm_tokenizer_parts_read(t->parts, t, &j, error);
    llm_json_free(&j);
    return ok;
}

/* What is found in a text: "id@byte " for each. */
static void parts_find(const llm_tokenizer *t, const char *text, bool normalized, bool special,
                       const char *want) {
    llm_buffer got = {NULL, 0, 0};
    const bool *allowed = special ? NULL : (const bool *)(const void *)t->parts->plain.data;
    llm_special_tokens_span s = {NULL, 0, 0};
    for (size_t at = 0; llm_special_tokens_next(&s, &t->parts->special, text, strlen(text), at,
                                                normalized, allowed, true);
         at = s.end)
        CHECK(llm_buffer_print(&got, "%d@%zu ", s.one->id, s.start));
    if (strcmp(got.data ? got.data : "", want) != 0)
        test_fail(__FILE__, __LINE__, "\"%s\": found %s", text, got.data);
    llm_buffer_free(&got);
}

TEST(tokenizer_parts,
     "a file becomes parts, and added tokens are found as the normalizer spells them") {
    llm_tokenizer t;
    llm_error error;
    CHECK(parts_read(&t, parts_file, &error));
    const llm_tokenizer_parts *p = t.parts;
    CHECK(t.vocab == 9 && llm_added_tokens_count(&t.added) == 3);
    CHECK(llm_added_tokens_count(&p->found) == 2 &&
          p->plain.size == 2); /* U+0001 is cleared away */
    CHECK(p->model.kind == LLM_TOKEN_MODEL_WORDS && p->model.bpe.token.count == 5);
    CHECK(p->normalizer.step.size == 5 * sizeof(llm_normalizer_step));
    CHECK(p->split.step.size == sizeof(llm_pre_split_step));
    CHECK(p->decoder.step.size == sizeof(llm_token_decoder_step));
    const size_t *place = (const size_t *)(const void *)p->place.data;
    CHECK(p->place.size == 8 * sizeof *place && place[1] == 1 && place[7] == 2 && place[4] == 0);
    parts_find(&t, "ab <X>ab AB cab", false, true, "1@3 ");
    parts_find(&t, "ab <X>ab AB cab", false, false, "");
    parts_find(&t, "ab <X>ab AB cab", true, false, "7@0 7@6 ");
    llm_tokenizer_free(&t);
    CHECK(!t.parts && t.vocab == 0);
}

static size_t parts_answer(uint32_t *out, const char *text, size_t size, const void *context) {
    const llm_tokenizer *t = (const llm_tokenizer *)context;
    llm_buffer tokens = {NULL, 0, 0}, back = {NULL, 0, 0};
    if (tiny_parts_old(text, size)) return 0;
    CHECK(llm_parts_text_encode(t->parts, &tokens, text, size, true, NULL));
    size_t n = 0, count;
    const int *ids = tiny_parts_tokens(out, &n, &count, &tokens, text, size);
    CHECK(llm_tokenizer_decode(t, &back, ids, count, NULL));
    for (size_t i = 0; i < back.size; i++) tiny_parts_put(out, &n, (unsigned char)back.data[i]);
    llm_buffer_free(&tokens);
    llm_buffer_free(&back);
    return n;
}

TEST(tokenizer_parts,
     "a file of Qwen's kind with flags at added tokens: 1,800 texts as in tokenizers") {
    llm_tokenizer t;
    llm_error error;
    const char *text = tiny_parts_text("qwen");
    llm_json j = tiny_parts_json(text);
    CHECK(llm_tokenizer_parts_wanted(&j, j.node));
    llm_json_free(&j);
    if (!parts_read(&t, text, &error)) test_fail(__FILE__, __LINE__, "%s", error.message);
    tiny_hostile_check("hash/qwen", 9, parts_answer, &t);
    llm_tokenizer_free(&t);
}

TEST(tokenizer_parts, "which files need parts") {
    static const char plain[] =
        "{\"added_tokens\":[{\"id\":0,\"content\":\"x\",\"single_word\":false,\"lstrip\":false,"
        "\"rstrip\":false}],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"Sequence\","
        "\"pretokenizers\":[{\"type\":\"Split\"},{\"type\":\"ByteLevel\"}]},\"decoder\":{\"type\":"
        "\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"byte_fallback\":false,\"merges\":[]}}";
    static const struct {
        const char *from, *to;
        bool wanted;
    } row[] = {{"null", "null", false},
               {"null", "{}", true},
               {"\"normalizer\":null,", "", false},
               {"\"single_word\":false", "\"single_word\":true", true},
               {"\"lstrip\":false", "\"lstrip\":true", true},
               {"\"rstrip\":false", "\"rstrip\":true", true},
               {"\"Split\"", "\"Digits\"", true},
               {"{\"type\":\"Split\"},", "", true},
               {"{\"type\":\"Split\"}", "{\"type\":\"Split\"},{\"type\":\"Split\"}", true},
               {"[{\"type\":\"Split\"},{\"type\":\"ByteLevel\"}]", "[]", true},
               {"{\"type\":\"ByteLevel\"}]", "{\"type\":\"Digits\"}]", true},
               {"\"pretokenizers\"", "\"p\"", true},
               {"{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\"},{\"type\":"
                "\"ByteLevel\"}]}",
                "{\"type\":\"ByteLevel\"}", false},
               {"{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\"},{\"type\":"
                "\"ByteLevel\"}]}",
                "{\"type\":\"Metaspace\"}", true},
               {"\"decoder\":{\"type\":\"ByteLevel\"}", "\"decoder\":null", true},
               {"\"BPE\"", "\"Unigram\"", true},
               {"\"type\":\"BPE\",", "", false},
               {"\"byte_fallback\":false", "\"byte_fallback\":true", true},
               {"\"byte_fallback\":false,", "", false},
               {"\"single_word\":false,", "", false},
               {"\"added_tokens\"", "\"tokens\"", false},
               {"\"model\":{", "\"model\":7,\"m\":{", false},
               {"\"model\"", "\"mode\"", false}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        llm_json j = tiny_parts_json(tiny_parts_with(plain, row[i].from, row[i].to));
        if (llm_tokenizer_parts_wanted(&j, j.node) != row[i].wanted)
            test_fail(__FILE__, __LINE__, "%s", row[i].to);
        llm_json_free(&j);
    }
}

TEST(tokenizer_parts, "what is wrong in a part is said, and ids must agree") {
    static const char *const row[][3] = {
        {"\"BertNormalizer\"", "\"Nmt\"", "normalizer: \"Nmt\" is not supported"},
        {"\"WhitespaceSplit\"", "\"Whitespace\"", "pre_tokenizer: \"Whitespace\" is not supported"},
        {"\"Fuse\"", "\"CTC\"", "decoder: \"CTC\" is not supported"},
        {"\"WordLevel\"", "\"Other\"", "model: type \"Other\" is not supported"},
        {"\"model\":", "\"m\":", "model: type \"\" is not supported"},
        {"\"id\":7", "\"id\":2", "added_tokens, 1: id 2 is not that of the vocabulary"},
        {"\"content\":\"AB\"", "\"content\":\"b\"",
         "added_tokens, 1: id 7 is not that of the vocabulary"},
        {"\"content\":\"AB\"", "\"content\":\"?\"",
         "added_tokens, 1: id 7 is not that of the vocabulary"},
        {"\"id\":7", "\"id\":1038", "added_tokens, \"AB\": expected an id below 1038"},
        {"\"content\":\"AB\"", "\"content\":\"\"", "added_tokens, 1: expected a content"},
    };
    llm_tokenizer t;
    llm_error error;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        const char *text = tiny_parts_with(parts_file, row[i][0], row[i][1]);
        if (parts_read(&t, text, &error)) test_fail(__FILE__, __LINE__, "%s", row[i][1]);
        llm_tokenizer_free(&t);
        CHECK_FAILS(parts_read(&t, text, &error), error, row[i][2]);
        llm_tokenizer_free(&t);
    }
    static const char *const fine[][2] = {
        {"\"id\":7", "\"id\":3"}, /* a gap */
        {"\"id\":7", "\"id\":1037"},
        {"\"id\":7", "\"id\":5"}, /* the first behind the vocabulary */
        {"\"id\":7,\"content\":\"AB\"", "\"id\":0,\"content\":\"?\""},
        {"\"id\":7,\"content\":\"AB\"", "\"id\":2,\"content\":\"b\""}};
    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++) {
        CHECK(parts_read(&t, tiny_parts_with(parts_file, fine[i][0], fine[i][1]), &error));
        CHECK(t.vocab == (i == 1 ? 1038u : 9u));
        llm_tokenizer_free(&t);
    }
}

TEST(tokenizer_parts, "four sequences in one another, and a vocabulary beyond the added tokens") {
    static const char *const row[3][3] = {
        {"{\"type\":\"BertNormalizer\"}", "normalizers", "{\"type\":\"NFC\"}"},
        {"{\"type\":\"WhitespaceSplit\"}", "pretokenizers", "{\"type\":\"WhitespaceSplit\"}"},
        {"{\"type\":\"Fuse\"}", "decoders", "{\"type\":\"Fuse\"}"}};
    llm_tokenizer t;
    llm_error error;
    for (size_t i = 0; i < 3; i++) {
        llm_buffer part = {NULL, 0, 0};
        for (int k = 0; k < 4; k++)
            CHECK(llm_buffer_print(&part, "{\"type\":\"Sequence\",\"%s\":[", row[i][1]));
        CHECK(llm_buffer_print(&part, "%s]}]}]}]}", row[i][2]));
        if (!parts_read(&t, tiny_parts_with(parts_file, row[i][0], part.data), &error))
            test_fail(__FILE__, __LINE__, "%s", error.message);
        llm_tokenizer_free(&t);
        llm_buffer_free(&part);
    }
    CHECK(parts_read(&t, tiny_parts_with(parts_file, "\"added_tokens\"", "\"tokens\""), &error));
    CHECK(t.vocab == 5 && llm_added_tokens_count(&t.added) == 0);
    llm_tokenizer_free(&t);
}

TEST(tokenizer_parts, "when memory is out, it says so and nothing leaks") {
    bool ok = false;
    size_t failed = 0;
    for (int calls = 0; calls < 300 && !ok; calls++) {
        llm_tokenizer t;
        llm_bpe none = llm_bpe_empty();
        llm_error error;
        llm_json j = tiny_parts_json(parts_file);
        llm_tokenizer_from_bpe(&t, &none, LLM_PRE_TOKENIZE_GPT2);
        t.parts = (struct llm_tokenizer_parts *)calloc(1, sizeof *t.parts);
        CHECK(t.parts);
        t.parts->model = llm_token_model_empty();
        parts_calls = calls;
        ok = llm_tokenizer_parts_read(t.parts, &t, &j, &error);
        CHECK(ok == (parts_calls >= 0)); /* whatever fails is told */
        parts_calls = 1 << 30;
        llm_json_free(&j);
        llm_tokenizer_free(&t);
        failed += !ok;
        if (!ok && !strstr(error.message, "out of memory"))
            test_fail(__FILE__, __LINE__, "after %d calls: %s", calls, error.message);
    }
    CHECK(ok && failed > 20);
}
