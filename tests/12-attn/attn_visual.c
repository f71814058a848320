/* @attn_visual */
#include "../test.h"

/* realloc that fails once, after a number of calls */
static int visual_calls = 1 << 30;
static void *visual_realloc(void *p, size_t size) {
    return visual_calls-- != 0 ? realloc(p, size) : NULL;
}
#define realloc visual_realloc

#include "../../llm.h"

TEST(attn_visual, "shares: 0 to 1 between low and high, both ways from 0 when low is negative") {
    llm_attn_visual_config c = llm_attn_visual_defaults(false);
    CHECK(c.low == 0.0f && c.high == 1.0f && !c.lower && c.cell == 16);
    CHECK(llm_attn_visual_defaults(true).lower);
    c.low = 1.0f, c.high = 3.0f;
    const float v[6] = {0, 1, 1.5f, 3, 9, NAN}, want[6] = {0, 0, 0.25f, 1, 1, 0};
    for (size_t i = 0; i < 6; i++) CHECK(llm_attn_visual_share(v[i], &c) == want[i]);
    c.low = -2.0f, c.high = 4.0f;
    const float w[8] = {-9, -2, -1, 0, 1, 4, 5, NAN};
    const float both[8] = {-1, -1, -0.5f, 0, 0.25f, 1, 1, 0};
    for (size_t i = 0; i < 8; i++) CHECK(llm_attn_visual_share(w[i], &c) == both[i]);
    CHECK(llm_attn_visual_share(0.5f, &c) == 0.125f);
    c.low = 0.5f, c.high = 1.0f;
    CHECK(llm_attn_visual_share(0.25f, &c) == 0.0f && llm_attn_visual_share(0.75f, &c) == 0.5f);
    c.low = 0.0f; /* nothing is orange */
    CHECK(llm_attn_visual_share(-1.0f, &c) == 0.0f);
    unsigned char rgb[3];
    llm_attn_visual_colour(rgb, 0.0f);
    CHECK(rgb[0] == 255 && rgb[1] == 255 && rgb[2] == 255);
    llm_attn_visual_colour(rgb, 1.0f);
    CHECK(rgb[0] == 18 && rgb[1] == 80 && rgb[2] == 140);
    llm_attn_visual_colour(rgb, -1.0f);
    CHECK(rgb[0] == 213 && rgb[1] == 94 && rgb[2] == 0);
    llm_attn_visual_colour(rgb, 0.5f); /* half way: 136.5, 167.5, 197.5 */
    CHECK(rgb[0] == 137 && rgb[1] == 168 && rgb[2] == 198);
}

static void visual_equals(llm_buffer *b, bool ok, const char *want, size_t size) {
    CHECK(ok);
    if (b->size != size || memcmp(b->data, want, size) != 0)
        test_fail(__FILE__, __LINE__, "got:\n%.*s", (int)b->size, (const char *)b->data);
    llm_buffer_free(b);
    b->data = NULL, b->size = b->capacity = 0;
}
#define EQUALS(call, want) visual_equals(&b, call, want, sizeof want - 1)

TEST(attn_visual, "characters, pixels and cells are these bytes") {
    llm_buffer b = {NULL, 0, 0};
    llm_attn_visual_config c = llm_attn_visual_defaults(true);
    const float a[6] = {1, 0.5f, 0.25f, 0.004f, 0.75f, 1};
    EQUALS(llm_attn_visual_terminal(&b, a, 2, 3, &c), "@@    \n  ##  \n");
    c.lower = false;
    EQUALS(llm_attn_visual_terminal(&b, a, 2, 3, &c), "@@++::\n  ##@@\n");
    c.cell = 2, c.lower = true;
    EQUALS(llm_attn_visual_ppm(&b, a, 1, 2, &c),
           "P6\n4 2\n255\n"
           "\x12\x50\x8c\x12\x50\x8c\xff\xff\xff\xff\xff\xff"
           "\x12\x50\x8c\x12\x50\x8c\xff\xff\xff\xff\xff\xff");
    c.lower = false, c.low = -1.0f;
    const float half[2] = {0.5f, -1};
    c.cell = 1;
    EQUALS(llm_attn_visual_ppm(&b, half, 2, 1, &c), "P6\n1 2\n255\n\x89\xa8\xc6\xd5\x5e\x00");
    EQUALS(llm_attn_visual_cells(&b, half, 1, 2, 3.0, 4.0, 2.5, &c),
           "<path d='M3.0 4.0h5.0v2.5h-5.0z' fill='#f2f2f2'/>\n"
           "<path d='M3.0 4.0h2.5v2.5h-2.5z' fill='#12508c' fill-opacity='0.50'/>\n"
           "<path d='M5.5 4.0h2.5v2.5h-2.5z' fill='#d55e00' fill-opacity='1.00'/>\n");
    c = llm_attn_visual_defaults(true);
    EQUALS(llm_attn_visual_cells(&b, a, 2, 3, 0.0, 0.0, 10.0, &c), /* above: out; 0.004: white */
           "<path d='M0.0 0.0v20.0h30.0z' fill='#f2f2f2'/>\n"
           "<path d='M0.0 0.0h10.0v10.0h-10.0z' fill='#12508c' fill-opacity='1.00'/>\n"
           "<path d='M10.0 10.0h10.0v10.0h-10.0z' fill='#12508c' fill-opacity='0.75'/>\n");
    const float faint[4] = {0.015f, 0.008f, 0.5f, 1}; /* drawn: 1.5% but not 0.8% */
    c.lower = false;
    EQUALS(llm_attn_visual_cells(&b, faint, 1, 2, 0.0, 0.0, 1.0, &c),
           "<path d='M0.0 0.0h2.0v1.0h-2.0z' fill='#f2f2f2'/>\n"
           "<path d='M0.0 0.0h1.0v1.0h-1.0z' fill='#12508c' fill-opacity='0.01'/>\n");
    c.cell = 1;
    const float four[4] = {0, 1, 0.5f, 0};
    EQUALS(llm_attn_visual_ppm(&b, four, 2, 2, &c),
           "P6\n2 2\n255\n\xff\xff\xff\x12\x50\x8c\x89\xa8\xc6\xff\xff\xff");
    b.size = SIZE_MAX / 2; /* no memory for anything */
    CHECK(!llm_attn_visual_terminal(&b, four, 2, 2, &c) &&
          !llm_attn_visual_ppm(&b, four, 2, 2, &c));
    CHECK(!llm_attn_visual_cells(&b, four, 2, 2, 0.0, 0.0, 1.0, &c));
    CHECK(!llm_attn_visual_svg(&b, four, NULL, NULL, 2, 2, &c));
    b.size = 0;
    c.cell = 0;
    CHECK_ASSERTS(llm_attn_visual_ppm(&b, a, 1, 1, &c));
    c.cell = 3;
    EQUALS(llm_attn_visual_ppm(&b, a, 0, 2, &c), "P6\n6 0\n255\n");
}

TEST(attn_visual, "a whole picture: names escaped and cut off, with and without") {
    llm_buffer b = {NULL, 0, 0};
    llm_attn_visual_config c = llm_attn_visual_defaults(false);
    const char *const row[1] = {"<a>123456789bc"}, *const column[2] = {"x", "abcdefghijklmnop"};
    const float a[2] = {0, 1};
    c.cell = 10;
    EQUALS(llm_attn_visual_svg(&b, a, row, column, 1, 2, &c),
           "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 116 106' "
           "font-family='monospace' font-size='11'>\n"
           "<path d='M0 0h116v106H0z' fill='#fff'/>\n"
           "<path d='M92.0 92.0h20.0v10.0h-20.0z' fill='#f2f2f2'/>\n"
           "<path d='M102.0 92.0h10.0v10.0h-10.0z' fill='#12508c' fill-opacity='1.00'/>\n"
           "<text x='88.0' y='101.0' text-anchor='end'>&#60;a&#62;123456789&#8230;</text>\n"
           "<text transform='translate(101.0 88.0) rotate(-90)'>x</text>\n"
           "<text transform='translate(111.0 88.0) rotate(-90)'>abcdefghijkl&#8230;</text>\n"
           "</svg>\n");
    EQUALS(llm_attn_visual_svg(&b, a, NULL, NULL, 2, 1, &c),
           "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 18 28' "
           "font-family='monospace' font-size='11'>\n"
           "<path d='M0 0h18v28H0z' fill='#fff'/>\n"
           "<path d='M4.0 4.0h10.0v20.0h-10.0z' fill='#f2f2f2'/>\n"
           "<path d='M4.0 14.0h10.0v10.0h-10.0z' fill='#12508c' fill-opacity='1.00'/>\n"
           "</svg>\n");
}

TEST(attn_visual, "a failure of memory anywhere in a picture is told, though there is room again") {
    enum { N = 40 };
    float a[N * N], *white = zeros(N * N);
    const char *name[N];
    for (size_t i = 0; i < N * N; i++) a[i] = 1.0f;
    for (size_t i = 0; i < N; i++) name[i] = "<<<<<<<<<<<<<<<<";
    llm_attn_visual_config c = llm_attn_visual_defaults(false);
    c.cell = 1;
    for (size_t kind = 0; kind < 3 + N; kind++) { /* the last: names, more and more */
        int calls = 0;
        for (bool ok = false; !ok; calls++) {
            llm_buffer out = {NULL, 0, 0};
            visual_calls = calls;
            if (kind == 0) ok = llm_attn_visual_terminal(&out, a, N, 1, &c);
            if (kind == 1) ok = llm_attn_visual_ppm(&out, a, N, N, &c);
            if (kind == 2) ok = llm_attn_visual_svg(&out, a, NULL, NULL, N, 2, &c);
            if (kind > 2) ok = llm_attn_visual_svg(&out, white, name, name, kind - 2, kind - 2, &c);
            CHECK(ok == (visual_calls >= 0));
            visual_calls = 1 << 30;
            llm_buffer_free(&out);
        }
        CHECK(calls > 2);
    }
}
