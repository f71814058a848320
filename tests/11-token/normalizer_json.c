/* @normalizer_json */
#include "../test.h"

#include "../tiny_hostile.h"

/* malloc and its like that fail once, after a number of calls */
static int njson_calls = 1 << 30;
static void *njson_malloc(size_t size) { return njson_calls-- != 0 ? malloc(size) : NULL; }
static void *njson_calloc(size_t n, size_t size) {
    return njson_calls-- != 0 ? calloc(n, size) : NULL;
}
static void *njson_realloc(void *p, size_t size) {
    return njson_calls-- != 0 ? realloc(p, size) : NULL;
}
#define malloc njson_malloc
#define calloc njson_calloc
#define realloc njson_realloc

#include "../../llm.h"
#include "../tiny_parts.h"

static bool njson_read(llm_normalizer *n, const char *text, llm_error *error) {
    llm_json j = tiny_parts_json(text);
    memset(n, 0, sizeof *n);
    const bool ok = llm_normalizer_json_read(n, &j, j.node, 0, error);
    llm_json_free(&j);
    return ok;
}

/* What the normalizer of a part makes of a text. */
static void njson_is(const char *part, const char *text, const char *want) {
    llm_normalizer n;
    llm_text_places t;
    llm_error error;
    memset(&t, 0, sizeof t);
    if (!njson_read(&n, part, &error)) test_fail(__FILE__, __LINE__, "%s", error.message);
    CHECK(llm_text_places_add(&t, text, strlen(text), 0) && llm_normalizer_run(&n, &t));
    if (strcmp(t.text.data, want) != 0)
        test_fail(__FILE__, __LINE__, "%s: \"%s\" became \"%s\"", part, text, t.text.data);
    llm_text_places_free(&t);
    llm_normalizer_free(&n);
}

TEST(normalizer_json, "every part and flag does what it says") {
    static const char text[] = " \xC3\x89t\xC3\xA9 \xEF\xAC\x81\t\xE4\xB8\xAD ";
    static const char *const row[][2] = {
        {"null", " \xC3\x89t\xC3\xA9 \xEF\xAC\x81\t\xE4\xB8\xAD "},
        {"{\"type\":\"NFC\"}", " \xC3\x89t\xC3\xA9 \xEF\xAC\x81\t\xE4\xB8\xAD "},
        {"{\"type\":\"NFD\"}", " E\xCC\x81te\xCC\x81 \xEF\xAC\x81\t\xE4\xB8\xAD "},
        {"{\"type\":\"NFKC\"}", " \xC3\x89t\xC3\xA9 fi\t\xE4\xB8\xAD "},
        {"{\"type\":\"NFKD\"}", " E\xCC\x81te\xCC\x81 fi\t\xE4\xB8\xAD "},
        {"{\"type\":\"Lowercase\"}", " \xC3\xA9t\xC3\xA9 \xEF\xAC\x81\t\xE4\xB8\xAD "},
        {"{\"type\":\"StripAccents\"}", " \xC3\x89t\xC3\xA9 \xEF\xAC\x81\t\xE4\xB8\xAD "},
        {"{\"type\":\"Strip\"}", "\xC3\x89t\xC3\xA9 \xEF\xAC\x81\t\xE4\xB8\xAD"},
        {"{\"type\":\"Strip\",\"strip_left\":false}",
         " \xC3\x89t\xC3\xA9 \xEF\xAC\x81\t\xE4\xB8\xAD"},
        {"{\"type\":\"Strip\",\"strip_right\":false}",
         "\xC3\x89t\xC3\xA9 \xEF\xAC\x81\t\xE4\xB8\xAD "},
        {"{\"type\":\"BertNormalizer\"}", " ete \xEF\xAC\x81  \xE4\xB8\xAD  "},
        {"{\"type\":\"BertNormalizer\",\"clean_text\":false}",
         " ete \xEF\xAC\x81\t \xE4\xB8\xAD  "},
        {"{\"type\":\"BertNormalizer\",\"handle_chinese_chars\":false}",
         " ete \xEF\xAC\x81 \xE4\xB8\xAD "},
        {"{\"type\":\"BertNormalizer\",\"strip_accents\":null,\"lowercase\":false}",
         " \xC3\x89t\xC3\xA9 \xEF\xAC\x81  \xE4\xB8\xAD  "},
        {"{\"type\":\"BertNormalizer\",\"strip_accents\":true,\"lowercase\":false}",
         " Ete \xEF\xAC\x81  \xE4\xB8\xAD  "},
        {"{\"type\":\"BertNormalizer\",\"strip_accents\":false}",
         " \xC3\xA9t\xC3\xA9 \xEF\xAC\x81  \xE4\xB8\xAD  "},
        {"{\"type\":\"Precompiled\",\"precompiled_charsmap\":null}",
         " \xC3\x89t\xC3\xA9 \xEF\xAC\x81\t\xE4\xB8\xAD "},
        {"{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"\"}",
         " \xC3\x89t\xC3\xA9 \xEF\xAC\x81\t\xE4\xB8\xAD "},
        {"{\"type\":\"Sequence\",\"normalizers\":[]}",
         " \xC3\x89t\xC3\xA9 \xEF\xAC\x81\t\xE4\xB8\xAD "},
        {"{\"type\":\"Sequence\"}", " \xC3\x89t\xC3\xA9 \xEF\xAC\x81\t\xE4\xB8\xAD "},
        {"{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Sequence\",\"normalizers\":["
         "{\"type\":\"NFKD\"},{\"type\":\"StripAccents\"}]},null,{\"type\":\"Lowercase\"},"
         "{\"type\":\"NFC\"},{\"type\":\"Lowercase\"}]}",
         " ete fi\t\xE4\xB8\xAD "},
        {"{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Replace\",\"pattern\":{\"String\":"
         "\"t\"},\"content\":\"  \"},{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},"
         "\"content\":\"ab\"},{\"type\":\"Prepend\",\"prepend\":\"xy\"},"
         "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"}}]}",
         "xy\xC3\x89"
         "ab\xC3\xA9\xEF\xAC\x81\t\xE4\xB8\xAD"},
        {"{\"type\":\"Prepend\"}", " \xC3\x89t\xC3\xA9 \xEF\xAC\x81\t\xE4\xB8\xAD "}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) njson_is(row[i][0], text, row[i][1]);
    njson_is("{\"type\":\"StripAccents\"}", "e\xCC\x81\xE0\xA4\x83z", "ez"); /* Mn and Mc */
    njson_is("{\"type\":\"BertNormalizer\"}", "e\xCC\x81\xE0\xA4\x83z", "e\xE0\xA4\x83z");
}

/* A double array without a rule, and a text: 16 bytes in base 64. */
static const char njson_map[] =
    "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"CAAAAAAAAAAAAAAAAAAAAA==\"}";

TEST(normalizer_json, "what is not supported is named") {
    llm_normalizer n;
    llm_error error;
    CHECK(njson_read(&n, njson_map, &error) && n.rules.size == 16);
    llm_normalizer_free(&n);
    static const char *const row[][2] = {
        {"{\"type\":\"Nmt\"}", "normalizer: \"Nmt\" is not supported"},
        {"{\"type\":\"ByteLevel\"}", "normalizer: \"ByteLevel\" is not supported"},
        {"{}", "normalizer: \"\" is not supported"},
        {"[]", "normalizer: \"\" is not supported"},
        {"{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"X\"},"
         "{\"type\":\"NFD\"}]}",
         "normalizer: \"X\" is not supported"},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\s+\"},\"content\":\" \"}",
         "normalizer, Replace: pattern \"\\s+\" is not supported"},
        {"{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\" \"}",
         "normalizer, Replace: pattern \"\" is not supported"},
        {"{\"type\":\"Replace\",\"content\":\" \"}",
         "normalizer, Replace: pattern \"\" is not supported"},
        {"{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"!!!!\"}",
         "normalizer: Precompiled is no base 64"},
        {"{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"A\"}",
         "normalizer: Precompiled is no base 64"},
        {"{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}",
         "normalizer_spec: precompiled_charsmap, 3 bytes, is broken"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        CHECK_FAILS(njson_read(&n, row[i][0], &error), error, row[i][1]);
        llm_normalizer_free(&n);
    }
    static const char *const none[3] = {"{\"type\":\"Precompiled\"}",
                                        "{\"type\":\"Precompiled\",\"precompiled_charsmap\":null}",
                                        "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"\"}"};
    for (size_t i = 0; i < 3; i++) /* no rules, no step */
        CHECK(njson_read(&n, none[i], &error) && n.step.size == 0 && !n.step.data);
    char deep[2000], twice[400];
    size_t size = 0; /* sequences in sequences: four are read, not five */
    for (size_t k = 4; k < 6; k++) {
        size = 0;
        for (size_t i = 0; i < k; i++)
            size += (size_t)snprintf(deep + size, sizeof deep - size,
                                     "{\"type\":\"Sequence\",\"normalizers\":[");
        size += (size_t)snprintf(deep + size, sizeof deep - size, "{\"type\":\"NFC\"}");
        for (size_t i = 0; i < k; i++)
            size += (size_t)snprintf(deep + size, sizeof deep - size, "]}");
        CHECK(njson_read(&n, deep, &error) == (k == 4));
        llm_normalizer_free(&n);
    }
    CHECK(strcmp(error.message, "normalizer: \"Sequence\" is not supported") == 0);
    snprintf(twice, sizeof twice, "{\"type\":\"Sequence\",\"normalizers\":[%s,%s]}", njson_map,
             njson_map);
    CHECK_FAILS(njson_read(&n, twice, &error), error, "normalizer: Precompiled is there twice");
    llm_normalizer_free(&n);
}

TEST(normalizer_json, "when memory is out, it says so and nothing leaks") {
    char file[800];
    snprintf(
        file, sizeof file,
        "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Replace\",\"pattern\":{\"String\":"
        "\"t\"},\"content\":\"  \"},{\"type\":\"Prepend\",\"prepend\":\"%070d\"},%s,"
        "{\"type\":\"Strip\"},{\"type\":\"BertNormalizer\"},{\"type\":\"NFC\"}]}",
        1, njson_map);
    bool ok = false;
    size_t failed = 0;
    for (int calls = 0; calls < 300 && !ok; calls++) {
        llm_normalizer n;
        llm_error error;
        llm_json j = tiny_parts_json(file);
        memset(&n, 0, sizeof n);
        njson_calls = calls;
        ok = llm_normalizer_json_read(&n, &j, j.node, 0, &error);
        CHECK(ok == (njson_calls >= 0)); /* whatever fails is told */
        njson_calls = 1 << 30;
        llm_json_free(&j);
        llm_normalizer_free(&n);
        failed += !ok;
        if (!ok && !strstr(error.message, "out of memory"))
            test_fail(__FILE__, __LINE__, "after %d calls: %s", calls, error.message);
    }
    CHECK(ok && failed > 10);
}
