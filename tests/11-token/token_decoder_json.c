/* @token_decoder_json */
#include "../test.h"

#include "../tiny_hostile.h"

/* malloc and its like that fail once, after a number of calls */
static int djson_calls = 1 << 30;
static void *djson_malloc(size_t size) { return djson_calls-- != 0 ? malloc(size) : NULL; }
static void *djson_calloc(size_t n, size_t size) {
    return djson_calls-- != 0 ? calloc(n, size) : NULL;
}
static void *djson_realloc(void *p, size_t size) {
    return djson_calls-- != 0 ? realloc(p, size) : NULL;
}
#define malloc djson_malloc
#define calloc djson_calloc
#define realloc djson_realloc

#include "../../llm.h"
#include "../tiny_parts.h"

static bool djson_read(llm_token_decoder *d, const char *text, llm_error *error) {
    llm_json j = tiny_parts_json(text);
    memset(d, 0, sizeof *d);
    const bool ok = llm_token_decoder_json_read(d, &j, j.node, 0, error);
    llm_json_free(&j);
    return ok;
}

/* What becomes of strings, which | separates. */
static void djson_is(const char *part, const char *strings, const char *want) {
    llm_token_decoder d;
    llm_token_decoder_strings w = {{NULL, 0, 0}, {NULL, 0, 0}};
    llm_error error;
    if (!djson_read(&d, part, &error)) test_fail(__FILE__, __LINE__, "%s", error.message);
    for (const char *s = strings;;) {
        const size_t n = strcspn(s, "|");
        CHECK(llm_buffer_put(&w.text, s, n) && llm_token_decoder_end(&w));
        if (!s[n]) break;
        s += n + 1;
    }
    CHECK(llm_token_decoder_run_all(&d, &w));
    if (strcmp(w.text.data, want) != 0)
        test_fail(__FILE__, __LINE__, "%s: \"%s\" gives \"%s\"", part, strings, w.text.data);
    llm_token_decoder_strings_free(&w);
    llm_token_decoder_free(&d);
}

TEST(token_decoder_json, "every part and field does what it says") {
    static const char *const row[][3] = {
        {"null", "a|##b", "a##b"},
        {"{\"type\":\"WordPiece\"}", "a|##b|.", "ab."},
        {"{\"type\":\"WordPiece\",\"prefix\":\"-\",\"cleanup\":false}", "a|-b|.", "ab ."},
        {"{\"type\":\"Metaspace\"}",
         "\xE2\x96\x81"
         "a|\xE2\x96\x81"
         "b",
         "a b"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"add_prefix_space\":false}", "_a|_b",
         " a b"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"never\"}", "_a|_b",
         " a b"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\"}", "_a|_b",
         "a b"},
        {"{\"type\":\"ByteLevel\"}",
         "a\xC4\xA0"
         "b",
         "a b"},
        {"{\"type\":\"ByteFallback\"}", "<0x41>|b", "Ab"},
        {"{\"type\":\"Strip\",\"content\":\"_\",\"start\":1,\"stop\":0}", "__a_|_b", "_a_b"},
        {"{\"type\":\"Strip\",\"content\":\"_\",\"start\":0,\"stop\":2}", "_a___", "_a_"},
        {"{\"type\":\"Strip\",\"content\":\"_\"}", "_a_", "_a_"},
        {"{\"type\":\"Strip\",\"start\":1}", " a ", "a "},
        {"{\"type\":\"Replace\",\"pattern\":{\"String\":\"ab\"},\"content\":\"<>\"}", "aab|a|b",
         "a<>ab"},
        {"{\"type\":\"Replace\",\"pattern\":{\"String\":\"ab\"},\"content\":\"\"}", "aab|a|b",
         "aab"},
        {"{\"type\":\"Replace\",\"pattern\":{\"String\":\"ab\"}}", "aab|a|b", "aab"},
        {"{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"x\"}"
         ","
         "\"content\":\"y\"},null,{\"type\":\"Fuse\"},{\"type\":\"Replace\",\"pattern\":{"
         "\"String\":"
         "\"yy\"},\"content\":\"z\"}]}",
         "x|x|x", "zy"},
        {"{\"type\":\"Sequence\"}", "a|b", "ab"}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        djson_is(row[i][0], row[i][1], row[i][2]);
}

static bool djson_templates(llm_buffer *single, llm_buffer *pair, const char *text,
                            llm_error *error) {
    llm_json j = tiny_parts_json(text);
    llm_buffer_free(single);
    llm_buffer_free(pair);
    const bool ok = llm_token_decoder_json_templates(single, pair, &j, j.node, 0, error);
    llm_json_free(&j);
    return ok;
}

static const char djson_template[] =
    "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}}"
    ","
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":2}}],\"pair\":[{\"Sequence\":{\"id\":\"A\",\"type_"
    "id\":0}},"
    "{\"SpecialToken\":{\"id\":\"</"
    "s>\",\"type_id\":1}},{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}]}";

TEST(token_decoder_json, "templates of each post-processor, written out or not") {
    static const char *const row[][3] = {
        {"null", "", ""},
        {"{\"type\":\"ByteLevel\"}", "", ""},
        {"{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",2],\"cls\":[\"[CLS]\",1]}",
         "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"},
        {"{\"type\":\"RobertaProcessing\",\"sep\":[\"</s>\",2],\"cls\":[\"<s>\",0]}", "<s> $A </s>",
         "<s> $A </s> </s> $B </s>"},
        {djson_template, "<s> $A:2", "$A </s>:1 $B:1"},
        {"{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},{\"type\":"
         "\"BertProcessing\","
         "\"sep\":[\"e\",2],\"cls\":[\"c\",1]}]}",
         "c $A e", "c $A e $B:1 e:1"},
        {"{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\",\"type_id\":9}}]"
         ","
         "\"pair\":[]}",
         "$A:9", ""},
        {"{\"type\":\"Sequence\",\"processors\":[{\"type\":\"TemplateProcessing\",\"single\":[],"
         "\"pair\":[{\"SpecialToken\":{\"id\":\"p\",\"type_id\":0}}]},{\"type\":"
         "\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"s\",\"type_id\":0}}],"
         "\"pair\":[{\"SpecialToken\":{\"id\":\"q\",\"type_id\":0}}]}]}",
         "s", "q"}, /* the first one says nothing */
        {"{\"type\":\"Sequence\"}", "", ""}};
    llm_buffer single = {NULL, 0, 0}, pair = {NULL, 0, 0};
    llm_error error;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        if (!djson_templates(&single, &pair, row[i][0], &error))
            test_fail(__FILE__, __LINE__, "%s: %s", row[i][0], error.message);
        CHECK(strcmp(single.data ? single.data : "", row[i][1]) == 0);
        CHECK(strcmp(pair.data ? pair.data : "", row[i][2]) == 0);
    }
    llm_buffer_free(&single);
    llm_buffer_free(&pair);
}

TEST(token_decoder_json, "what is not supported is named") {
    llm_token_decoder d;
    llm_error error;
    llm_buffer single = {NULL, 0, 0}, pair = {NULL, 0, 0};
    static const char *const row[][2] = {
        {"{\"type\":\"CTC\"}", "decoder: \"CTC\" is not supported"},
        {"{\"type\":\"BPEDecoder\"}", "decoder: \"BPEDecoder\" is not supported"},
        {"{}", "decoder: \"\" is not supported"},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a\"},\"content\":\"b\"}",
         "decoder, Replace: this pattern is not supported"},
        {"{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"b\"}",
         "decoder, Replace: this pattern is not supported"},
        {"{\"type\":\"Replace\",\"content\":\"b\"}", "decoder, Replace: this pattern is not"},
        {"{\"type\":\"Strip\",\"content\":\"\"}", "decoder, Strip: this content is not supported"},
        {"{\"type\":\"WordPiece\",\"prefix\":\"\"}", "decoder, WordPiece: this prefix is not"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"\"}",
         "decoder, Metaspace: this replacement is not supported"},
        {"{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"X\"},{\"type\":\"Fuse\"}]}",
         "decoder: \"X\" is not supported"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        CHECK_FAILS(djson_read(&d, row[i][0], &error), error, row[i][1]);
        llm_token_decoder_free(&d);
    }
    static const char *const post[][2] = {
        {"{\"type\":\"Other\"}", "post_processor: \"Other\" is not supported"},
        {"{\"type\":\"BertProcessing\",\"cls\":[\"c\",1]}",
         "post_processor, BertProcessing: expected cls and sep"},
        {"{\"type\":\"BertProcessing\",\"cls\":[\"c\",1],\"sep\":[1,\"e\"]}",
         "post_processor, BertProcessing: expected cls and sep"},
        {"{\"type\":\"RobertaProcessing\",\"cls\":[],\"sep\":[\"e\",1]}",
         "post_processor, RobertaProcessing: expected cls and sep"},
        {"{\"type\":\"BertProcessing\",\"sep\":[\"e e\",2],\"cls\":[\"c\",1]}",
         "post_processor: token \"e e\" of type 0 is not supported"},
        {"{\"type\":\"TemplateProcessing\",\"single\":\"$A\",\"pair\":[]}",
         "post_processor: expected an array of tokens"},
        {"{\"type\":\"TemplateProcessing\",\"single\":[]}",
         "post_processor: expected an array of tokens"},
        {"{\"type\":\"TemplateProcessing\",\"single\":[1],\"pair\":[]}",
         "post_processor: expected a Sequence or SpecialToken"},
        {"{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{}}],\"pair\":[]}",
         "post_processor: expected a Sequence or SpecialToken"},
        {"{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"\",\"type_id\":"
         "0}}],"
         "\"pair\":[]}",
         "post_processor: token \"\" of type 0 is not supported"},
        {"{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\",\"type_id\":10}}"
         "],"
         "\"pair\":[]}",
         "post_processor: token \"$A\" of type 10 is not supported"},
        {"{\"type\":\"Sequence\",\"processors\":[{\"type\":\"BertProcessing\",\"sep\":[\"e\",2],"
         "\"cls\":[\"c\",1]},{\"type\":\"BertProcessing\",\"sep\":[\"e\",2],\"cls\":[\"c\",1]}]}",
         "post_processor: only one is supported"},
        {"{\"type\":\"Sequence\",\"processors\":[{\"type\":\"TemplateProcessing\",\"single\":["
         "{\"SpecialToken\":{\"id\":\"s\",\"type_id\":0}}],\"pair\":[]},{\"type\":"
         "\"BertProcessing\",\"sep\":[\"e\",2],\"cls\":[\"c\",1]}]}",
         "post_processor: only one is supported"},
        {"{\"type\":\"Sequence\",\"processors\":[{\"type\":\"X\"},{\"type\":\"ByteLevel\"}]}",
         "post_processor: \"X\" is not supported"},
    };
    for (size_t i = 0; i < sizeof post / sizeof post[0]; i++)
        CHECK_FAILS(djson_templates(&single, &pair, post[i][0], &error), error, post[i][1]);
    CHECK_FAILS(llm_token_decoder_json_word(&single, "w", 1, 10, &error), error,
                "token \"w\" of type 10 is not supported");
    llm_buffer_free(&single);
    llm_buffer_free(&pair);
    char deep[2000];
    for (size_t two = 0; two < 2; two++)
        for (size_t k = 4; k < 6; k++) {
            size_t size = 0;
            for (size_t i = 0; i < k; i++)
                size += (size_t)snprintf(deep + size, sizeof deep - size,
                                         "{\"type\":\"Sequence\",\"%s\":[",
                                         two ? "processors" : "decoders");
            size += (size_t)snprintf(deep + size, sizeof deep - size, "{\"type\":\"ByteLevel\"}");
            for (size_t i = 0; i < k; i++)
                size += (size_t)snprintf(deep + size, sizeof deep - size, "]}");
            memset(&d, 0, sizeof d);
            CHECK((two ? djson_templates(&single, &pair, deep, &error)
                       : djson_read(&d, deep, &error)) == (k == 4));
            llm_token_decoder_free(&d);
        }
}

TEST(token_decoder_json, "when memory is out, it says so and nothing leaks") {
    bool ok = false;
    size_t failed = 0;
    char file[600];
    snprintf(file, sizeof file,
             "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":"
             "\"%070d\"},\"content\":\"%070d\"},{\"type\":\"Strip\"},{\"type\":\"WordPiece\"}]}",
             1, 2);
    for (int calls = 0; calls < 50 && !ok; calls++) {
        llm_token_decoder d;
        llm_error error;
        llm_json j = tiny_parts_json(file);
        memset(&d, 0, sizeof d);
        djson_calls = calls;
        ok = llm_token_decoder_json_read(&d, &j, j.node, 0, &error);
        CHECK(ok == (djson_calls >= 0)); /* whatever fails is told */
        djson_calls = 1 << 30;
        llm_json_free(&j);
        llm_token_decoder_free(&d);
        failed += !ok;
        CHECK(ok || strcmp(error.message, "decoder: out of memory") == 0);
    }
    CHECK(ok && failed > 3);
    ok = false;
    for (int calls = 0; calls < 50 && !ok; calls++) {
        llm_buffer single = {NULL, 0, 0}, pair = {NULL, 0, 0};
        llm_error error;
        llm_json j = tiny_parts_json(djson_template);
        djson_calls = calls;
        ok = llm_token_decoder_json_templates(&single, &pair, &j, j.node, 0, &error);
        CHECK(ok == (djson_calls >= 0)); /* whatever fails is told */
        djson_calls = 1 << 30;
        llm_json_free(&j);
        llm_buffer_free(&single);
        llm_buffer_free(&pair);
        CHECK(ok || strcmp(error.message, "post_processor: out of memory") == 0);
    }
    CHECK(ok);
}
