/* @tokenizer_json */
#include "../test.h"

/* calloc and realloc that fail once, after a number of calls */
static int json_calls = 1 << 30;
static void *json_calloc(size_t n, size_t size) {
    return json_calls-- != 0 ? calloc(n, size) : NULL;
}
static void *json_realloc(void *p, size_t size) {
    return json_calls-- != 0 ? realloc(p, size) : NULL;
}
#define calloc json_calloc
#define realloc json_realloc

#include "../../llm.h"

/* Two bytes in a number. */
static char *json_text(const char *name) {
    const size_t size = (size_t)*golden("%s/size", name);
    const float *pair = golden("%s/text", name);
    char *text = (char *)test_memory(size + 1, 1);
    for (size_t i = 0; i < size; i++)
        text[i] = (char)(unsigned char)((unsigned)pair[i / 2] >> (i % 2 ? 0 : 8));
    return text;
}

/* The golden file with its first `from` replaced. */
static char *json_with(const char *from, const char *to) {
    const char *file = json_text("file"), *at = strstr(file, from);
    if (!at) test_fail(__FILE__, __LINE__, "the file has no %s", from);
    const size_t size = strlen(file) + strlen(to) + 1;
    char *text = (char *)test_memory(size, 1);
    snprintf(text, size, "%.*s%s%s", (int)(at - file), file, to, at + strlen(from));
    return text;
}

static bool json_read(llm_tokenizer *t, const char *text, llm_error *error) {
    llm_json j;
    memset(t, 0, sizeof *t);
    t->bpe = llm_bpe_empty();
    if (!llm_json_parse(&j, text, strlen(text), error))
        test_fail(__FILE__, __LINE__, "%s", error->message);
    const bool ok = llm_tokenizer_json_read(t, &j, error);
    llm_json_free(&j);
    return ok;
}

static void json_free(llm_tokenizer *t) {
    llm_bpe_free(&t->bpe);
    llm_added_tokens_free(&t->added);
}

TEST(tokenizer_json, "a file of tokenizers gives its ids") {
    llm_tokenizer t;
    llm_error error;
    const char *text = json_text("text");
    size_t n, count;
    int *ids;
    const float *want = golden_n(&n, "text/ids");
    if (!json_read(&t, json_text("file"), &error))
        test_fail(__FILE__, __LINE__, "%s", error.message);
    CHECK(t.pattern == LLM_PRE_TOKENIZE_LLAMA3 && !t.prefix_space && t.ignore_merges);
    CHECK(t.vocab == 291 + 3 && llm_added_tokens_count(&t.added) == 3 && t.bpe.merges == 34);
    for (size_t i = 0; i < 3; i++) { /* <|end|> is special, the is normalized, <zhong> is both */
        const char *content;
        const llm_added_tokens_one *one = llm_added_tokens_get(&t.added, i, &content);
        CHECK(one->id == 291 + (int)i && one->special == (i != 1) && one->normalized == (i != 0));
    }
    CHECK(llm_tokenizer_text_encode(&t, &ids, &count, text, strlen(text), true, NULL));
    CHECK(count == n);
    for (size_t i = 0; i < n; i++) CHECK_NEAR(ids[i], want[i], 0);
    free(ids);
    json_free(&t);
}

/* The pattern of the file, as it is spelt there. */
static const char *const json_pattern =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+";
static const char *const json_split = "\"behavior\":\"Isolated\",\"invert\":false";
static const char *const json_level = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_"
                                      "offsets\":true,\"use_regex\":false}]}";

TEST(tokenizer_json, "other spellings of the same are read") {
    llm_tokenizer t;
    llm_error error;
    static const char *const row[][2] = {
        {"\"type\":\"BPE\",", ""}, /* files of 2020 */
        {"\"normalizer\":null,", ""},
        {"\"dropout\":null", "\"dropout\":0.0"},
        {"\"continuing_subword_prefix\":null", "\"continuing_subword_prefix\":\"\""},
        {"\"end_of_word_suffix\":null", "\"end_of_word_suffix\":\"\""},
        {"\"behavior\":\"Isolated\",\"invert\":false", "\"behavior\":\"Removed\",\"invert\":true"},
        {",\"invert\":false", ""},
        {"\"single_word\":false,\"lstrip\":false,\"rstrip\":false,", ""},
        {"\"byte_fallback\":false,", ""},
        {"\"post_processor\":null", "\"post_processor\":{\"type\":\"TemplateProcessing\"}"},
        {"\"truncation\":null", "\"truncation\":{\"max_length\":3}"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        if (!json_read(&t, json_with(row[i][0], row[i][1]), &error))
            test_fail(__FILE__, __LINE__, "%s: %s", row[i][0], error.message);
        CHECK(t.pattern == LLM_PRE_TOKENIZE_LLAMA3 && t.bpe.merges == 34 && t.vocab == 294);
        CHECK(t.ignore_merges && !t.prefix_space);
        json_free(&t);
    }
    /* each pattern of @pre_tokenize */
    for (int kind = 0; kind < 5; kind++) {
        llm_buffer pattern = {NULL, 0, 0};
        const char *text = llm_pre_tokenize_pattern((llm_pre_tokenize_kind)kind);
        CHECK(llm_json_put_string(&pattern, text, strlen(text)));
        pattern.data[pattern.size - 1] = 0;
        CHECK(json_read(&t, json_with(json_pattern, pattern.data + 1), &error));
        CHECK((int)t.pattern == kind);
        llm_buffer_free(&pattern);
        json_free(&t);
    }
    /* defaults: normalized where nothing is said, not special, no ignoring */
    CHECK(json_read(&t, json_with(",\"normalized\":false,\"special\":true", ""), &error));
    const char *content;
    const llm_added_tokens_one *one = llm_added_tokens_get(&t.added, 0, &content);
    CHECK(one->normalized && !one->special && one->id == 291 && memcmp(content, "<|end|>", 7) == 0);
    json_free(&t);
    CHECK(json_read(&t, json_with("\"normalized\":false,\"special\":true", "\"special\":true"),
                    &error));
    CHECK(llm_added_tokens_get(&t.added, 0, &content)->special);
    json_free(&t);
    CHECK(json_read(&t, json_with("\"ignore_merges\":true,", ""), &error) && !t.ignore_merges);
    json_free(&t);
}

/* The file with its pre-tokenizer replaced, or without one. */
static char *json_pre(const char *to) {
    char from[1200];
    snprintf(from, sizeof from,
             "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
             "\"pattern\":{\"Regex\":\"%s\"},%s},%s",
             json_pattern, json_split, json_level);
    return json_with(from, to);
}

TEST(tokenizer_json, "GPT-2's form of the pre-tokenizer is read") {
    llm_tokenizer t;
    llm_error error;
    static const char *const form[3] = {
        "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}",
        "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}",
        "\"pre_tokenizer\":{\"type\":\"ByteLevel\"}"};
    for (size_t i = 0; i < 3; i++) {
        CHECK(json_read(&t, json_pre(form[i]), &error));
        CHECK(t.pattern == LLM_PRE_TOKENIZE_GPT2 && t.prefix_space == (i == 2));
        json_free(&t);
    }
}

TEST(tokenizer_json, "what is not supported is named") {
    static const char *const row[][3] = {
        {"\"model\":{\"type\":\"BPE\"", "\"model\":{\"type\":\"Unigram\"",
         "model: found type \"Unigram\", expected BPE"},
        {"\"merges\":", "\"merger\":", "merges: expected an array"},
        {"\"model\":", "\"mode\":", "model: found type \"\", expected BPE"},
        {"\"model\":{", "\"model\":[],\"m\":{", "model: found type \"\", expected BPE"},
        {"\"vocab\":", "\"vocap\":", "vocab: expected an object of ids"},
        {"\"dropout\":null", "\"dropout\":0.1", "model: dropout is not supported"},
        {"\"byte_fallback\":false", "\"byte_fallback\":true",
         "model: byte_fallback is not supported"},
        {"\"continuing_subword_prefix\":null", "\"continuing_subword_prefix\":\"##\"",
         "model: continuing_subword_prefix is not supported"},
        {"\"end_of_word_suffix\":null", "\"end_of_word_suffix\":\"</w>\"",
         "model: end_of_word_suffix is not supported"},
        {"\"normalizer\":null", "\"normalizer\":{\"type\":\"NFC\"}",
         "normalizer: \"NFC\" is not supported"},
        {"\"decoder\":{\"type\":\"ByteLevel\"", "\"decoder\":{\"type\":\"Metaspace\"",
         "decoder: found \"Metaspace\", expected ByteLevel"},
        {"\"decoder\":", "\"decoded\":", "decoder: found \"\", expected ByteLevel"},
        {"\"pre_tokenizer\":{\"type\":\"Sequence\"", "\"pre_tokenizer\":{\"type\":\"Whitespace\"",
         "pre_tokenizer: found \"Whitespace\", expected ByteLevel"},
        {"\"pre_tokenizer\":", "\"pre_tokenise\":",
         "pre_tokenizer: found \"\", expected ByteLevel"},
        {"\"pretokenizers\":[{", "\"pretokenizers\":[{\"type\":\"Digits\"},{",
         "pre_tokenizer: expected Split and ByteLevel in the Sequence"},
        {"\"pretokenizers\":[{\"type\":\"Split\"", "\"pretokenizers\":[{\"type\":\"Punctuation\"",
         "pre_tokenizer: expected Split and ByteLevel in the Sequence"},
        {"\"pretokenizers\":", "\"pretokens\":",
         "pre_tokenizer: expected Split and ByteLevel in the Sequence"},
        {"\"use_regex\":false}]}", "\"use_regex\":true}]}",
         "pre_tokenizer: expected either Split or use_regex"},
        {"\"add_prefix_space\":false", "\"add_prefix_space\":true",
         "pre_tokenizer: add_prefix_space is not supported behind Split"},
        {"\"add_prefix_space\":false,", "",
         "pre_tokenizer: add_prefix_space is not supported behind Split"},
        {"\"behavior\":\"Isolated\"", "\"behavior\":\"MergedWithNext\"",
         "pre_tokenizer, Split: behavior \"MergedWithNext\" is not supported"},
        {"\"behavior\":\"Isolated\"", "\"behavior\":\"Removed\"",
         "pre_tokenizer, Split: behavior \"Removed\" is not supported"},
        {"\"invert\":false", "\"invert\":true",
         "pre_tokenizer, Split: behavior \"Isolated\" is not supported"},
        {"{\"Regex\":\"(?i:'s", "{\"Regex\":\"(?i:'z",
         "pre_tokenizer, Split: pattern \"(?i:'z|'t|'re"},
        {"{\"Regex\":", "{\"String\":", "pre_tokenizer, Split: pattern \"\" is not supported"},
        {"\"pattern\":{", "\"patter\":{", "pre_tokenizer, Split: pattern \"\" is not supported"},
        {"\"single_word\":false", "\"single_word\":true",
         "added_tokens, \"<|end|>\": single_word is not supported"},
        {"\"content\":\"<|end|>\",\"single_word\":false", /* long names are cut off */
         "\"content\":\"0123456789012345678901234567890123456789012345678901234567890123\","
         "\"single_word\":true",
         "\"012345678901234567890123456789012345678901234567890123456789\": single_word is not"},
        {"\"lstrip\":false", "\"lstrip\":true",
         "added_tokens, \"<|end|>\": lstrip is not supported"},
        {"\"rstrip\":false", "\"rstrip\":true",
         "added_tokens, \"<|end|>\": rstrip is not supported"},
        {"\"content\":\"<|end|>\"", "\"content\":\"\"", "added_tokens, 0: expected a content"},
        {"\"content\":\"<|end|>\"", "\"content\":5", "added_tokens, 0: expected a content"},
        {"\"content\":\"the\"", "\"contend\":\"the\"", "added_tokens, 1: expected a content"},
        {"\"content\":\"the\"", "\"content\":\"<|end|>\"",
         "added_tokens, \"<|end|>\": is there twice"},
        {"\"id\":291", "\"id\":1612", "added_tokens, \"<|end|>\": expected an id below 1612"},
        {"\"id\":291", "\"ib\":291", "added_tokens, \"<|end|>\": expected an id below 1612"},
        {"\"id\":291", "\"id\":280", "added_tokens, 0: id 280 is not that of the vocabulary"},
        {"\"id\":291", "\"id\":64", "added_tokens, 0: id 64 is not that of the vocabulary"},
        {"\"content\":\"<|end|>\"", "\"content\":\"!\"",
         "added_tokens, 0: id 291 is not that of the vocabulary"},
        {"\"added_tokens\":[",
         "\"added_tokens\":[{\"id\":0,\"content\":\"!\"},{\"id\":0,\"content\":\"!\"},",
         "added_tokens, \"!\": is there twice"},
        {"\"content\":\"<|end|>\"", "\"content\":\"a\"",
         "added_tokens, 0: id 291 is not that of the vocabulary"},
        {"\"added_tokens\":[", "\"added_tokens\":{\"x\":[]},\"y\":[",
         "added_tokens: expected an array"},
        {"\"!\":0", "\"!\":1", "vocab, id 1: given to \"!\" and to"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        llm_tokenizer t;
        llm_error error;
        const char *text = json_with(row[i][0], row[i][1]);
        if (json_read(&t, text, &error))
            test_fail(__FILE__, __LINE__, "%s was accepted", row[i][1]);
        json_free(&t);
        CHECK_FAILS(json_read(&t, text, &error), error, row[i][2]);
        json_free(&t);
    }
    llm_tokenizer t;
    llm_error error;
    CHECK_FAILS(json_read(&t,
                          json_pre("\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"use_regex\":"
                                   "false}"),
                          &error),
                error, "pre_tokenizer: expected either Split or use_regex");
    json_free(&t);
    static const char *const root[5] = {"1", "[]", "{}", "null", "{\"model\":{}}"};
    for (size_t i = 0; i < 5; i++) {
        CHECK_FAILS(json_read(&t, root[i], &error), error, "model: found type \"\", expected BPE");
        json_free(&t);
    }
}

TEST(tokenizer_json,
     "added tokens may be words of the vocabulary, or fill its gaps, or be absent") {
    static const char *const row[][2] = {
        {"\"id\":291,\"content\":\"<|end|>\"", "\"id\":64,\"content\":\"a\""},
        {"\"id\":291,\"content\":\"<|end|>\"", "\"id\":1611,\"content\":\"<|end|>\""},
        {"\"id\":291,\"content\":\"<|end|>\"", "\"id\":291,\"content\":\"a b\""},
        {"\"id\":291,\"content\":\"<|end|>\"", "\"id\":0,\"content\":\"!\""},
    };
    llm_tokenizer t;
    llm_error error;
    for (size_t i = 0; i < 4; i++) {
        if (!json_read(&t, json_with(row[i][0], row[i][1]), &error))
            test_fail(__FILE__, __LINE__, "%s: %s", row[i][1], error.message);
        CHECK(t.vocab == (i == 1 ? 1612u : 294u));
        json_free(&t);
    }
    /* a gap at 290 (the token " theme" moves on), which an added token takes */
    char *gap = json_with("heme\":290", "heme\":295");
    char *taken = (char *)test_memory(strlen(gap) + 1, 1);
    memcpy(taken, gap, strlen(gap));
    memcpy(strstr(taken, "\"id\":291"), "\"id\":290", 8);
    CHECK(json_read(&t, taken, &error) && t.bpe.token.count == 296 && t.vocab == 296);
    json_free(&t);
    CHECK(json_read(&t, json_with("\"added_tokens\":[", "\"added_tokens\":null,\"x\":["), &error));
    CHECK(llm_added_tokens_count(&t.added) == 0 && t.vocab == 291);
    json_free(&t);
    CHECK(json_read(&t, json_with("\"added_tokens\":", "\"x\":"), &error) && t.vocab == 291);
    json_free(&t);
}

TEST(tokenizer_json, "when memory is out, it says so and nothing leaks") {
    size_t failed = 0;
    const char *file =
        json_with("\"id\":291,\"content\":\"<|end|>\"", "\"id\":64,\"content\":\"a\"");
    for (int calls = 0; calls < 700; calls++) {
        llm_tokenizer t;
        llm_json j;
        llm_error error;
        memset(&t, 0, sizeof t);
        t.bpe = llm_bpe_empty();
        CHECK(llm_json_parse(&j, file, strlen(file), NULL));
        json_calls = calls;
        const bool ok = llm_tokenizer_json_read(&t, &j, &error);
        json_calls = 1 << 30;
        llm_json_free(&j);
        json_free(&t);
        if (ok) continue;
        failed++;
        if (!strstr(error.message, "out of memory"))
            test_fail(__FILE__, __LINE__, "after %d calls: %s", calls, error.message);
    }
    CHECK(failed > 300 && failed < 700);
}
