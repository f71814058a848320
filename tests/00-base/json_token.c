/* @json_token */
#include "../test.h"

/* strtod in a locale that writes 1,5 would stop at a point, so it must not get one */
static double token_strtod(const char *s, char **end) {
    CHECK(!strchr(s, '.'));
    return strtod(s, end);
}
#define strtod token_strtod
#include "../../llm.h"
#undef strtod

static char token_memory[20000];
static llm_error token_error;

static llm_json_token token_of(const char *text, size_t size) {
    llm_json_token r;
    r.text = r.at = (const unsigned char *)text;
    r.end = r.text + size;
    r.out = token_memory;
    r.error = &token_error;
    return r;
}

/* The bytes of code point c by the definition of UTF-8, also for surrogates and beyond 10FFFF. */
static size_t token_encode(unsigned char *s, unsigned c, size_t n) {
    const unsigned lead[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = n; i-- > 1; c >>= 6) s[i] = (unsigned char)(0x80 | (c & 63));
    s[0] = (unsigned char)(lead[n] | c);
    return n;
}

TEST(json_token, "UTF-8: every code point in every length, one of them is right") {
    unsigned char s[5];
    for (unsigned c = 0; c < 0x200000; c++) {
        const size_t right = c < 0x80                    ? 1
                             : c < 0x800                 ? 2
                             : c >= 0xD800 && c < 0xE000 ? 0
                             : c < 0x10000               ? 3
                             : c < 0x110000              ? 4
                                                         : 0;
        for (size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4; n <= 4; n++) {
            token_encode(s, c, n);
            if (llm_json_token_utf8(s, s + n) != (n == right ? n : 0))
                test_fail(__FILE__, __LINE__, "U+%04X in %zu bytes", c, n);
        }
    }
}

TEST(json_token, "UTF-8: cut off, a wrong byte at any place, no lead byte") {
    const unsigned code[4] = {0x41, 0xE9, 0x20AC, 0x1F600};
    for (size_t n = 1; n <= 4; n++) {
        unsigned char s[5], *cut = (unsigned char *)malloc(n);
        token_encode(s, code[n - 1], n);
        s[n] = 0x80; /* what follows is not looked at */
        CHECK(llm_json_token_utf8(s, s + n) == n && llm_json_token_utf8(s, s + n + 1) == n);
        memcpy(cut, s, n);
        for (size_t size = 1; size < n; size++) {
            unsigned char *part = (unsigned char *)malloc(size);
            memcpy(part, s, size);
            CHECK(llm_json_token_utf8(part, part + size) == 0);
            free(part);
        }
        for (size_t i = 1; i < n; i++)
            for (int byte = 0; byte < 256; byte++) {
                memcpy(cut, s, n);
                cut[i] = (unsigned char)byte;
                const bool low = i == 1 && n == 4 && byte < 0x90;
                CHECK(llm_json_token_utf8(cut, cut + n) == (byte >> 6 == 2 && !low ? n : 0));
            }
        free(cut);
    }
    for (int lead = 0x80; lead < 256; lead++) {
        const unsigned char s[4] = {(unsigned char)lead, 0xA0, 0x80, 0x80}; /* fits E0, ED no */
        const size_t want = lead < 0xC2 || lead > 0xF3 || lead == 0xED ? 0
                            : lead < 0xE0                              ? 2
                            : lead < 0xF0                              ? 3
                                                                       : 4;
        CHECK(llm_json_token_utf8(s, s + 4) == want);
    }
}

TEST(json_token, "\\u: every unit alone and every kind of pair") {
    char text[32];
    unsigned char want[4];
    for (unsigned c = 0; c < 0x10000; c++) {
        const int size = snprintf(text, sizeof text, c % 2 ? "\"\\u%04x\"" : "\"\\u%04X\"", c);
        llm_json_token r = token_of(text, (size_t)size);
        const char *got = NULL;
        size_t got_size = 0;
        const bool ok = llm_json_token_string(&r, &got, &got_size);
        CHECK(ok == (c < 0xD800 || c > 0xDFFF));
        if (!ok) continue;
        const size_t n = token_encode(want, c, c < 0x80 ? 1 : c < 0x800 ? 2 : 3);
        CHECK(got_size == n && memcmp(got, want, n) == 0 && got[n] == 0 && r.at == r.end);
    }
    const unsigned edge[8] = {0x41, 0xD7FF, 0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0xE000, 0xD83D};
    for (size_t i = 0; i < 8; i++)
        for (size_t k = 0; k < 8; k++) {
            const unsigned a = edge[i], b = edge[k];
            const int size = snprintf(text, sizeof text, "\"\\u%04x\\u%04x\"", a, b);
            llm_json_token r = token_of(text, (size_t)size);
            const char *got = NULL;
            size_t got_size = 0;
            const bool high = a >> 10 == 0x36, low = b >> 10 == 0x37;
            const bool alone = a >> 11 != 0x1B && b >> 11 != 0x1B;
            CHECK(llm_json_token_string(&r, &got, &got_size) == ((high && low) || alone));
            if (!(high && low)) continue;
            token_encode(want, 0x10000 + ((a & 1023) << 10 | (b & 1023)), 4);
            CHECK(got_size == 4 && memcmp(got, want, 4) == 0);
        }
}

TEST(json_token, "strings: every byte raw and behind a backslash; the text may end anywhere") {
    const char *const named = "\"\\/bfnrt", *const value = "\"\\/\b\f\n\r\t";
    for (int byte = 0; byte < 256; byte++) {
        const char raw[4] = {'"', (char)byte, '"', 0}, escaped[5] = {'"', '\\', (char)byte, '"', 0};
        const char *got = NULL;
        size_t size = 0;
        llm_json_token r = token_of(raw, 3);
        const bool plain = byte >= 32 && byte < 128 && byte != '"' && byte != '\\';
        const bool ok = llm_json_token_string(&r, &got, &size);
        CHECK(ok == (plain || byte == '"')); /* a quote makes it the empty string */
        if (ok) CHECK(size == (plain ? 1 : 0) && got[size] == 0 && (!plain || got[0] == byte));
        CHECK(!ok || r.at - r.text == (plain ? 3 : 2));

        const char *letter = byte ? strchr(named, byte) : NULL;
        r = token_of(escaped, 4);
        CHECK(llm_json_token_string(&r, &got, &size) == (letter != NULL));
        if (letter) CHECK(size == 1 && got[0] == value[letter - named]);
    }
    const char all[] = "\"a\\n\\ud83d\\ude00\xe2\x82\xac\"";
    for (size_t size = 0; size + 1 < sizeof all; size++) {
        char *part = (char *)malloc(size);
        memcpy(part, all, size);
        const char *got = NULL;
        size_t got_size = 0;
        llm_json_token r = token_of(part, size);
        CHECK(llm_json_token_string(&r, &got, &got_size) == (size + 2 == sizeof all + 1));
        free(part);
    }
}

TEST(json_token, "strings follow each other in memory, none longer than its source") {
    const char text[] = "\"ab\"\"\"\"\\u0000\"";
    llm_json_token r = token_of(text, sizeof text - 1);
    const char *s[3];
    size_t n[3];
    for (size_t i = 0; i < 3; i++) CHECK(llm_json_token_string(&r, &s[i], &n[i]));
    CHECK(n[0] == 2 && strcmp(s[0], "ab") == 0 && n[1] == 0 && *s[1] == 0);
    CHECK(n[2] == 1 && memcmp(s[2], "\0", 2) == 0);
    CHECK(s[0] == token_memory && s[1] == s[0] + 3 && s[2] == s[1] + 1 && r.out == s[2] + 2);
    CHECK(!llm_json_token_string(&r, &s[0], &n[0]));
}

TEST(json_token, "numbers: the grammar, by all texts of up to 6 of its characters") {
    const char alphabet[8] = "01-+.eE9";
    for (size_t length = 1, count = 8; length <= 6; length++, count *= 8)
        for (size_t code = 0; code < count; code++) {
            char text[8] = {0};
            for (size_t i = 0, rest = code; i < length; i++, rest /= 8)
                text[i] = alphabet[rest % 8];
            /* the longest prefix that is a number, by a state machine: 0 start, 1 behind -, 2 zero,
             * 3 integer, 4 point, 5 fraction, 6 e, 7 sign of e, 8 exponent */
            int state = 0;
            size_t end = 0;
            for (const char *c = text; *c && state >= 0; c++) {
                const bool digit = *c == '0' || *c == '1' || *c == '9', e = *c == 'e' || *c == 'E';
                if (state <= 1) {
                    state = *c == '-' && state == 0 ? 1 : *c == '0' ? 2 : digit ? 3 : -1;
                } else if (state == 2 || state == 3) {
                    state = *c == '.' ? 4 : e ? 6 : digit && state == 3 ? 3 : -2;
                } else if (state <= 5) {
                    state = digit ? 5 : state == 4 ? -1 : e ? 6 : -2;
                } else {
                    state = digit                                    ? 8
                            : state == 6 && (*c == '-' || *c == '+') ? 7
                                                                     : -1 - (state == 8);
                }
                if (state >= 0) end++;
            }
            const bool want = state == -2 || state == 2 || state == 3 || state == 5 || state == 8;
            char *exact = (char *)malloc(length); /* so that a byte too many is seen */
            memcpy(exact, text, length);
            llm_json_token r = token_of(exact, length);
            const char *got = NULL;
            size_t size = 0;
            const bool ok = llm_json_token_number(&r, &got, &size);
            free(exact);
            if (ok != want || (ok && (size != end || strncmp(got, text, end) || got[end])))
                test_fail(__FILE__, __LINE__, "%s: %s", text, ok ? got : "refused");
            if (ok) CHECK(llm_json_token_double(got) == strtod(got, NULL));
        }
}

TEST(json_token, "numbers: rounded as by strtod, digits and powers at random") {
    llm_rng rng = llm_rng_seed(1);
    for (int i = 0; i < 60000; i++) {
        char text[900];
        size_t n = 0;
        if (llm_rng_below(&rng, 2)) text[n++] = '-';
        size_t digits = llm_rng_below(&rng, i % 50 == 0 ? 840 : 25);
        if (llm_rng_below(&rng, 4) == 0) {
            text[n++] = '0';
        } else {
            text[n++] = (char)('1' + llm_rng_below(&rng, 9));
            for (; digits > 0 && llm_rng_below(&rng, 6); digits--)
                text[n++] = (char)('0' + llm_rng_below(&rng, 10));
        }
        if (digits > 0) text[n++] = '.';
        const bool zeros = llm_rng_below(&rng, 2);
        for (size_t k = 0; k < digits; k++)
            text[n++] = (char)('0' + (zeros && 2 * k < digits ? 0 : llm_rng_below(&rng, 10)));
        text[n] = 0;
        if (llm_rng_below(&rng, 3))
            snprintf(text + n, sizeof text - n, "e%d", (int)llm_rng_below(&rng, 700) - 360);
        const double got = llm_json_token_double(text), want = strtod(text, NULL);
        if (memcmp(&got, &want, sizeof got) != 0)
            test_fail(__FILE__, __LINE__, "%s: %.17g, want %.17g", text, got, want);
    }
}

TEST(json_token, "numbers: halfway between two doubles, to even; a hair beside, to the nearer") {
    const double start[8] = {
        1.0, 0.1, 3.5e10, DBL_MAX / 2.0, DBL_MIN, DBL_MIN / 2.0, 4.9406564584124654e-324, 1e22};
    for (size_t i = 0; i < 8; i++) {
        const double x = start[i], y = nextafter(x, INFINITY);
        const long double middle = ((long double)x + (long double)y) / 2.0L; /* exact, 64 bits */
        uint64_t bits;
        memcpy(&bits, &x, 8);
        char text[4000];
        int n = snprintf(text, sizeof text, "%.1200Lf", middle); /* all its digits, then zeros */
        CHECK((double)middle == (bits % 2 ? y : x));
        CHECK(llm_json_token_double(text) == (bits % 2 ? y : x));
        snprintf(text + n, sizeof text - (size_t)n, "1"); /* the 1201st decimal breaks the tie */
        CHECK(llm_json_token_double(text) == y);
        while (text[n - 1] == '0') n--;
        text[n] = 0;
        for (int k = n - 1; k >= 0; k--) { /* minus one in the last place */
            if (text[k] == '.') continue;
            text[k]--;
            if (text[k] >= '0') break;
            text[k] = '9';
        }
        CHECK(llm_json_token_double(text) == x);
    }
}

TEST(json_token, "numbers: huge powers, leading zeros, signs") {
    const struct {
        const char *text;
        double want;
    } all[] = {{"1e999999999999999999999999", (double)INFINITY},
               {"-1e999999999999999999999999", -(double)INFINITY},
               {"1e-999999999999999999999999", 0.0},
               {"0e999999999999999999999999", 0.0},
               {"1E+05", 1e5},
               {"1e0000000000000000000000000000005", 1e5},
               {"0.000000000000000000000000000000000001e36", 1.0},
               {"123.456e-2", 1.23456},
               {"100000000000000000000000000000000000000000e-41", 1.0},
               {"1.7976931348623158e308", DBL_MAX},
               {"1.7976931348623159e308", (double)INFINITY}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        CHECK(llm_json_token_double(all[i].text) == all[i].want);
    CHECK(signbit(llm_json_token_double("-0")) && signbit(llm_json_token_double("-0.0e5")));
    CHECK(!signbit(llm_json_token_double("0")) && signbit(llm_json_token_double("-1e-999")));

    enum { MANY = 200000 };
    char *text = (char *)test_memory(2 * MANY + 32, 1);
    memset(text, '0', 2 * MANY);
    text[0] = '1';
    snprintf(text + MANY, 32, "e-%d", MANY - 1 - 5);
    CHECK(llm_json_token_double(text) == 1e5);
    memset(text, '0', 2 * MANY);
    text[1] = '.';
    snprintf(text + MANY, 32, "25e%d", MANY - 2); /* 0.000...00025e199998 */
    CHECK(llm_json_token_double(text) == 0.25);
}

TEST(json_token, "space is four characters and no other") {
    for (int byte = 0; byte < 256; byte++) {
        const char text[3] = {(char)byte, (char)byte, 'x'};
        llm_json_token r = token_of(text, 3);
        llm_json_token_space(&r);
        CHECK(r.at - r.text ==
              (byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r' ? 2 : 0));
        r = token_of(text, 2);
        llm_json_token_space(&r);
        CHECK(r.at <= r.end);
    }
}

TEST(json_token, "the errors name the place, what is there and what should be") {
    const char *const strings[][2] = {
        {"x", "JSON, byte 0: found 'x', expected a string"},
        {"", "JSON, byte 0: the text ends, expected a string"},
        {"\"ab", "JSON, byte 3: the text ends, expected a quote that ends the string"},
        {"\"ab\\", "JSON, byte 4: the text ends, expected an escape: one of \"\\/bfnrtu"},
        {"\"\\u12", "JSON, byte 5: the text ends, expected a hexadecimal digit"},
        {"\"\\u12g4\"", "JSON, byte 5: found 'g', expected a hexadecimal digit"},
        {"\"\\ud800\\u1_\"", "JSON, byte 10: found '_', expected a hexadecimal digit"},
        {"\"a\\ud800\\u0041\"", "JSON, byte 2: found '\\', expected no half of a surrogate pair"},
        {"\"a\\udc00\\udc00\"", "JSON, byte 2: found '\\', expected no half of a surrogate pair"},
        {"\"a\x1f\"", "JSON, byte 2: found byte 0x1f, expected UTF-8 from U+0020"},
        {"\"\xe2\x82\"", "JSON, byte 1: found byte 0xe2, expected UTF-8 from U+0020"}};
    const char *const numbers[][2] = {{"-", "JSON, byte 1: the text ends, expected a digit"},
                                      {"- ", "JSON, byte 1: found byte 0x20, expected a digit"},
                                      {"-!", "JSON, byte 1: found '!', expected a digit"},
                                      {"-~", "JSON, byte 1: found '~', expected a digit"},
                                      {"-\x7f", "JSON, byte 1: found byte 0x7f, expected a digit"},
                                      {"1.e5", "JSON, byte 2: found 'e', expected a digit"},
                                      {"1e+x", "JSON, byte 3: found 'x', expected a digit"}};
    for (size_t i = 0; i < 11 + 7; i++) {
        const char *const *one = i < 11 ? strings[i] : numbers[i - 11];
        const char *got = NULL;
        size_t size = 0;
        llm_json_token r = token_of(one[0], strlen(one[0]));
        CHECK(!(i < 11 ? llm_json_token_string : llm_json_token_number)(&r, &got, &size));
        if (strcmp(token_error.message, one[1]) != 0)
            test_fail(__FILE__, __LINE__, "%s: \"%s\", want \"%s\"", one[0], token_error.message,
                      one[1]);
    }
}
