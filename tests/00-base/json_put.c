/* @json_put */
#include "../test.h"

#include <float.h>

/* a program in another locale: printf writes this instead of a point, and strtod reads it */
static const char *put_point = ".";

static int put_snprintf(char *out, size_t size, const char *format, ...) {
    char text[64];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const char *p = strchr(text, '.');
    if (p) n = snprintf(out, size, "%.*s%s%s", (int)(p - text), text, put_point, p + 1);
    if (!p) n = snprintf(out, size, "%s", text);
    return n;
}
static double put_strtod(const char *s, char **end) {
    char text[64];
    const char *p = strstr(s, put_point);
    CHECK(!end && (p || !strpbrk(s, ".,")));
    if (p) snprintf(text, sizeof text, "%.*s.%s", (int)(p - s), s, p + strlen(put_point));
    return strtod(p ? text : s, NULL);
}
/* realloc that runs out after a number of calls */
static int put_calls = 1 << 30;
static void *put_realloc(void *p, size_t size) { return put_calls-- > 0 ? realloc(p, size) : NULL; }
#define snprintf put_snprintf
#define strtod put_strtod
#define realloc put_realloc
#include "../../llm.h"
#undef snprintf
#undef strtod
#undef realloc

TEST(json_put, "numbers are as short as can be and read back as the same double") {
    llm_rng rng = llm_rng_seed(1);
    for (int i = 0; i < 4000; i++) {
        double x;
        uint64_t bits = (uint64_t)llm_rng_u32(&rng) << 32 | llm_rng_u32(&rng);
        memcpy(&x, &bits, 8);
        if (i % 4 == 1) x = (double)llm_rng_below(&rng, 2000) / 100.0 - 10.0;
        if (i % 4 == 2) x = (double)llm_rng_normal(&rng);
        if (i % 4 == 3) x = (double)llm_rng_below(&rng, SIZE_MAX);
        if (!isfinite(x)) continue;
        const char *const points[3] = {".", ",", "\xd9\xab"}; /* U+066B in some locales */
        char first[64] = "";
        for (size_t k = 0; k < 3; k++) {
            llm_buffer b = {NULL, 0, 0};
            put_point = points[k];
            CHECK(llm_json_put_number(&b, x));
            CHECK(strtod(b.data, NULL) == x && b.size == strlen(b.data));
            CHECK(strspn(b.data, "0123456789+-e.") == b.size);
            CHECK(k == 0 || strcmp(b.data, first) == 0);
            snprintf(first, sizeof first, "%s", b.data);
            llm_json j; /* and it is JSON */
            llm_error e;
            put_point = ".";
            CHECK(llm_json_parse(&j, b.data, b.size, &e) && j.node->number == x);
            llm_json_free(&j);
            llm_buffer_free(&b);
        }
        int shortest = 1; /* one digit less is another double */
        char text[64];
        for (; shortest < 17; shortest++) {
            snprintf(text, sizeof text, "%.*e", shortest - 1, x);
            if (strtod(text, NULL) == x) break;
        }
        snprintf(text, sizeof text, "%.*g", shortest, x);
        CHECK(strcmp(text, first) == 0);
    }
}

TEST(json_put, "numbers that have a name") {
    const struct {
        double number;
        const char *text;
    } all[] = {{0.0, "0"},
               {-0.0, "-0"},
               {1.0, "1"},
               {0.1, "0.1"},
               {-2.5, "-2.5"},
               {1e5, "1e+05"},
               {50257, "50257"},
               {1e-5, "1e-05"},
               {1e300, "1e+300"},
               {1.0 / 3.0, "0.3333333333333333"},
               {DBL_MAX, "1.7976931348623157e+308"},
               {4.9406564584124654e-324, "5e-324"},
               {9007199254740993.0, "9007199254740992"}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        llm_buffer b = {NULL, 0, 0};
        CHECK(llm_buffer_put(&b, "[", 1) && llm_json_put_number(&b, all[i].number));
        CHECK(strcmp(b.data + 1, all[i].text) == 0);
        llm_buffer_free(&b);
    }
    llm_buffer b = {NULL, 0, 0};
    CHECK(!llm_json_put_number(&b, (double)NAN) && !llm_json_put_number(&b, (double)INFINITY));
    CHECK(!llm_json_put_number(&b, -(double)INFINITY) && b.size == 0);
}

TEST(json_put, "strings read back as they were, every byte and every kind of character") {
    const char *const text[] = {"",
                                "plain",
                                "\"quoted\" \\ /",
                                "\b\f\n\r\t\x01\x1f\x7f",
                                "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
                                "\xe2\x80\xa8"};
    const char *const want[] = {"\"\"",
                                "\"plain\"",
                                "\"\\\"quoted\\\" \\\\ /\"",
                                "\"\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\"",
                                "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
                                "\"\xe2\x80\xa8\""};
    for (size_t i = 0; i < 6; i++) {
        llm_buffer b = {NULL, 0, 0};
        CHECK(llm_json_put_string(&b, text[i], strlen(text[i])) && strcmp(b.data, want[i]) == 0);
        llm_buffer_free(&b);
    }
    char all[128];
    for (int c = 0; c < 128; c++) all[c] = (char)c;
    llm_buffer b = {NULL, 0, 0};
    llm_json j;
    llm_error e;
    CHECK(llm_json_put_string(&b, all, 128) && llm_json_parse(&j, b.data, b.size, &e));
    CHECK(j.node->text_size == 128 && memcmp(j.node->text, all, 128) == 0);
    CHECK(strncmp(b.data, "\"\\u0000\\u0001", 13) == 0);
    llm_json_free(&j);
    llm_buffer_free(&b);
}

TEST(json_put, "a string that is not UTF-8 is refused, wherever it stops being") {
    const char *const wrong[] = {"\x80",         "a\xff",    "\xc3",     "ok\xe2\x82",
                                 "\xed\xa0\x80", "\xc0\xaf", "\xe9t\xe9"};
    for (size_t i = 0; i < 7; i++) {
        llm_buffer b = {NULL, 0, 0};
        const size_t n = strlen(wrong[i]);
        char *exact = (char *)malloc(n);
        memcpy(exact, wrong[i], n);
        CHECK(!llm_json_put_string(&b, exact, n));
        free(exact);
        llm_buffer_free(&b);
    }
}

TEST(json_put, "when memory is out it says so") {
    char text[200];
    memset(text, 'a', sizeof text);
    memset(text, 1, 20);
    int calls = 0;
    for (bool ok = false; !ok; calls++) {
        llm_buffer b = {NULL, 0, 0};
        put_calls = calls;
        ok = llm_json_put_string(&b, text, sizeof text);
        llm_buffer_free(&b);
    }
    CHECK(calls > 3); /* 302 bytes, from 64 by half each time */
    llm_buffer b = {NULL, 0, 0};
    put_calls = 0;
    CHECK(!llm_json_put_number(&b, 0.5));
}
