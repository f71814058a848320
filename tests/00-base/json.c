/* @json */
#include "../test.h"

/* malloc that runs out after a number of calls */
static int json_calls = 1 << 30;
static size_t json_bytes;
static void *json_malloc(size_t size) {
    json_bytes += size;
    return json_calls-- > 0 ? malloc(size) : NULL;
}
#define malloc json_malloc

#include "../../llm.h"

/* The form of json.py: n t f, 16 hex digits of a double, " and hex of a string, [,] {:,} */
static void json_plain(llm_buffer *b, const llm_json *j, const llm_json_node *v) {
    if (v->key) {
        llm_buffer_print(b, "\"");
        for (size_t i = 0; i < v->key_size; i++) llm_buffer_print(b, "%02x", v->key[i] & 255);
        llm_buffer_print(b, ":");
    }
    if (v->kind <= LLM_JSON_TRUE) llm_buffer_put(b, "nft" + v->kind, 1);
    if (v->kind == LLM_JSON_NUMBER) {
        uint64_t bits;
        memcpy(&bits, &v->number, 8);
        llm_buffer_print(b, "%016llx", (unsigned long long)bits);
    }
    if (v->kind == LLM_JSON_STRING) {
        llm_buffer_print(b, "\"");
        for (size_t i = 0; i < v->text_size; i++) llm_buffer_print(b, "%02x", v->text[i] & 255);
    }
    if (v->kind < LLM_JSON_ARRAY) return;
    size_t count = 0;
    llm_buffer_print(b, v->kind == LLM_JSON_ARRAY ? "[" : "{");
    for (const llm_json_node *c = llm_json_first(j, v); c; c = llm_json_next(j, c)) {
        if (count++) llm_buffer_print(b, ",");
        json_plain(b, j, c);
    }
    CHECK(count == v->count);
    llm_buffer_print(b, v->kind == LLM_JSON_ARRAY ? "]" : "}");
}

TEST(json, "reads and refuses what Python's json reads and refuses, to the last bit") {
    const float *documents = golden("all/documents"), *wants = golden("all/wants");
    const float *sizes = golden("all/sizes"), *want_sizes = golden("all/want_sizes");
    const size_t count = (size_t)*golden("all/count");
    for (size_t i = 0; i < count; i++) {
        const size_t size = (size_t)sizes[i], want_size = (size_t)want_sizes[i];
        char *text = (char *)malloc(size), *want = (char *)test_memory(want_size + 1, 1);
        for (size_t k = 0; k < size; k++) text[k] = (char)(int)*documents++;
        for (size_t k = 0; k < want_size; k++) want[k] = (char)(int)*wants++;

        llm_json j;
        llm_error e;
        e.message[0] = 0;
        llm_buffer got = {NULL, 0, 0};
        const bool ok = llm_json_parse(&j, text, size, &e);
        if (ok) json_plain(&got, &j, j.node);
        if (ok != (want_size > 0) || (ok && strcmp(got.data, want) != 0))
            test_fail(__FILE__, __LINE__, "%.*s\n    is %s, want %s", (int)size, text,
                      ok ? got.data : e.message, want_size ? want : "an error");
        CHECK(ok || (strncmp(e.message, "JSON, byte ", 11) == 0 && !j.node && !j.memory));
        CHECK(ok || strtoul(e.message + 11, NULL, 10) <= size);
        llm_buffer_free(&got);
        llm_json_free(&j);
        free(text);
    }
}

TEST(json, "every document cut off anywhere is refused, bytes behind the end are not looked at") {
    const char text[] =
        " {\"a\\u00e9\" : [1.5e-3, true, false, null, \"\\ud83d\\ude00\xc3\xa9\"]} ";
    llm_json j;
    llm_error e;
    for (size_t size = 0; size < sizeof text; size++) {
        char *part = (char *)malloc(size); /* so that AddressSanitizer sees a read too many */
        memcpy(part, text, size);
        if (size >= sizeof text - 2) {
            CHECK(llm_json_parse(&j, part, size < sizeof text - 1 ? size : size - 1, &e));
            llm_json_free(&j);
        } else {
            CHECK_FAILS(llm_json_parse(&j, part, size, &e), e, "expected"); /* "tru" is no value */
        }
        free(part);
    }
    CHECK_FAILS(llm_json_parse(&j, NULL, 0, &e), e,
                "JSON, byte 0: the text ends, expected a value");
    CHECK(!llm_json_parse(&j, "[", 1, NULL));
}

TEST(json, "the errors say where, what was found and what was expected") {
    const char *const wrong[][2] = {
        {"[1,x]", "JSON, byte 3: found 'x', expected a value"},
        {"[1 2]", "JSON, byte 3: found '2', expected a comma or ]"},
        {"{\"a\":1]", "JSON, byte 6: found ']', expected a comma or }"},
        {"{1:2}", "JSON, byte 1: found '1', expected a string"},
        {"{\"a\"=1}", "JSON, byte 4: found '=', expected a colon"},
        {"[] x", "JSON, byte 3: found 'x', expected nothing behind the value"},
        {"[-x]", "JSON, byte 2: found 'x', expected a digit"},
        {"\"a", "JSON, byte 2: the text ends, expected a quote that ends the string"},
        {"\"\\x\"", "JSON, byte 2: found 'x', expected an escape: one of \"\\/bfnrtu"},
        {"\"\\u12g\"", "JSON, byte 5: found 'g', expected a hexadecimal digit"},
        {"\"ab\\ud800\"", "JSON, byte 3: found '\\', expected no half of a surrogate pair"},
        {"\"\t\"", "JSON, byte 1: found byte 0x09, expected UTF-8 from U+0020"},
        {"[ \x7f]", "JSON, byte 2: found byte 0x7f, expected a value"},
        {"[~]", "JSON, byte 1: found '~', expected a value"},
        {"[!]", "JSON, byte 1: found '!', expected a value"}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        llm_json j;
        llm_error e;
        CHECK(!llm_json_parse(&j, wrong[i][0], strlen(wrong[i][0]), &e));
        if (strcmp(e.message, wrong[i][1]) != 0)
            test_fail(__FILE__, __LINE__, "%s: \"%s\", want \"%s\"", wrong[i][0], e.message,
                      wrong[i][1]);
    }
}

TEST(json, "512 open brackets are allowed, one more is not, however many follow") {
    enum { MANY = 100000 };
    char *text = (char *)test_memory(2 * MANY, 1);
    llm_json j;
    llm_error e;
    for (size_t depth = 511; depth <= 513; depth++) {
        for (size_t i = 0; i < depth; i++) text[i] = '[', text[2 * depth - 1 - i] = ']';
        if (depth <= 512) {
            CHECK(llm_json_parse(&j, text, 2 * depth, &e) && j.count == depth);
            llm_json_free(&j);
        } else {
            CHECK_FAILS(llm_json_parse(&j, text, 2 * depth, &e), e,
                        "byte 512: found '[', expected at most 512 open brackets");
        }
    }
    memset(text, '[', 2 * MANY);
    CHECK_FAILS(llm_json_parse(&j, text, 2 * MANY, &e), e, "at most 512 open brackets");
    for (size_t i = 0; i < MANY; i++) memcpy(text + 2 * i, "[]", 2); /* closed ones do not count */
    text[0] = ' ', text[2 * MANY - 1] = ' ';
    CHECK_FAILS(llm_json_parse(&j, text, 2 * MANY, &e), e, "byte 1: found ']', expected a value");
    for (size_t i = 1; i < MANY - 1; i++) memcpy(text + 2 * i, "1,", 2);
    memcpy(text, "[[", 2), memcpy(text + 2 * MANY - 4, "1]]", 3);
    CHECK(llm_json_parse(&j, text, 2 * MANY, &e) && j.node[1].count == MANY - 2);
    llm_json_free(&j);
}

TEST(json, "the tree: first, next, get, keys with a 0 inside, members of one name") {
    const char text[] = "{\"a\":1,\"b\":[10,20],\"a\":2,\"a\\u0000\":3,\"\":4,\"ab\":5,\"c\":{}}";
    llm_json j;
    llm_error e;
    CHECK(llm_json_parse(&j, text, sizeof text - 1, &e));
    const llm_json_node *root = j.node;
    CHECK(root->kind == LLM_JSON_OBJECT && root->count == 7 && !root->key);
    CHECK(llm_json_get(&j, root, "a")->number == 2.0); /* the last one */
    CHECK(llm_json_get(&j, root, "")->number == 4.0);
    CHECK(llm_json_get(&j, root, "ab")->number == 5.0);
    CHECK(!llm_json_get(&j, root, "absent") && !llm_json_get(&j, root, "A"));
    const llm_json_node *b = llm_json_get(&j, root, "b"), *c = llm_json_get(&j, root, "c");
    CHECK(b->kind == LLM_JSON_ARRAY && b->count == 2 && !llm_json_get(&j, b, "a") &&
          !llm_json_get(&j, b, ""));
    CHECK(!llm_json_get(&j, llm_json_first(&j, b), "a"));
    CHECK(c->count == 0 && !llm_json_first(&j, c) && !llm_json_next(&j, c));
    CHECK(!llm_json_first(&j, llm_json_get(&j, root, "a")) && !llm_json_next(&j, root));
    const llm_json_node *ten = llm_json_first(&j, b), *twenty = llm_json_next(&j, ten);
    CHECK(ten->number == 10.0 && strcmp(ten->text, "10") == 0 && ten->text_size == 2 && !ten->key);
    CHECK(twenty->number == 20.0 && !llm_json_next(&j, twenty));
    const llm_json_node *zero = llm_json_next(&j, llm_json_next(&j, llm_json_next(&j, root + 1)));
    CHECK(zero->key_size == 2 && memcmp(zero->key, "a\0", 3) == 0 && zero->number == 3.0);
    llm_json_free(&j);
    CHECK(!j.node && !j.memory && j.count == 0);
    llm_json_free(&j);
}

TEST(json, "sizes are read exactly or not at all") {
    const struct {
        const char *text;
        bool ok;
        size_t size;
    } all[] = {{"0", true, 0},
               {"7", true, 7},
               {"9007199254740993", true, 9007199254740993u}, /* no double */
               {"18446744073709551615", true, SIZE_MAX},
               {"18446744073709551616", false, 0},
               {"18446744073709551620", false, 0},
               {"184467440737095516150", false, 0},
               {"99999999999999999999999999", false, 0},
               {"-1", false, 0},
               {"-0", false, 0},
               {"1.0", false, 0},
               {"1e3", false, 0},
               {"1E3", false, 0},
               {"\"5\"", false, 0},
               {"null", false, 0},
               {"[5]", false, 0}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        llm_json j;
        llm_error e;
        size_t out = 12345;
        CHECK(llm_json_parse(&j, all[i].text, strlen(all[i].text), &e));
        CHECK(llm_json_size(&out, j.node) == all[i].ok);
        CHECK(out == (all[i].ok ? all[i].size : 12345));
        llm_json_free(&j);
    }
}

TEST(json, "three megabytes of one kind take linear time") {
    const size_t size = 3000000;
    const char *const unit[8] = {"[],", "\"\\\\\",", "1,", "\"\\ud83d\\ude00\",",
                                 "   ", "9",         "a",  "\xc3\xa9"};
    char *text = (char *)test_memory(size + 100, 1);
    for (size_t kind = 0; kind < 8; kind++) {
        const size_t n = strlen(unit[kind]);
        size_t end = 0;
        const bool string = kind >= 6, array = kind < 4;
        if (array) text[end++] = '[';
        if (string) text[end++] = '"';
        while (end < size) {
            memcpy(text + end, unit[kind], n);
            end += n;
        }
        if (array) end--; /* the last comma */
        if (kind == 4) text[end++] = '1';
        if (string) text[end++] = '"';
        if (array) text[end++] = ']';
        llm_json j;
        llm_error e;
        CHECK(llm_json_parse(&j, text, end, &e));
        CHECK(j.count == (array ? (end + n - 2) / n + 1 : 1));
        if (string) CHECK(j.node->text_size == end - 2);
        if (kind == 5) CHECK(j.node->text_size == size && isinf(j.node->number));
        llm_json_free(&j);
    }
}

TEST(json, "memory: the text and a byte, and a node for each comma or bracket outside strings") {
    const struct {
        const char *text;
        size_t nodes;
    } all[] = {{"5", 1},
               {"[1,2,3]", 4},
               {"[]", 2},
               {"{\"a,b\":\"[{,\",\"c\":[1,{}]}", 6},
               {"\",,,,[[[[{{{{\"", 1},
               {"[\"\\\",[{\",1]", 3},
               {"[\"\\\\\",1]", 3}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        llm_json j;
        llm_error e;
        json_bytes = 0;
        CHECK(llm_json_parse(&j, all[i].text, strlen(all[i].text), &e));
        CHECK(json_bytes == all[i].nodes * sizeof(llm_json_node) + strlen(all[i].text) + 1);
        llm_json_free(&j);
    }
}

TEST(json, "when memory is out it says so, and nothing leaks") {
    llm_json j;
    llm_error e;
    for (json_calls = 0; json_calls < 2; json_calls++) {
        const int calls = json_calls;
        CHECK_FAILS(llm_json_parse(&j, "[1]", 3, &e), e, "JSON: out of memory");
        CHECK(!j.node && !j.memory);
        json_calls = calls;
    }
    json_calls = 2;
    CHECK(llm_json_parse(&j, "[1]", 3, &e) && json_calls == 0);
    llm_json_free(&j);
}
