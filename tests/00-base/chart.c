/* @chart */
#include "../test.h"

/* realloc that runs out after a number of calls */
static int chart_calls = 1 << 30;
static void *chart_realloc(void *p, size_t size) {
    return chart_calls-- > 0 ? realloc(p, size) : NULL;
}
#define realloc chart_realloc

#include "../../llm.h"

static const char *chart_draw(const llm_chart *c, const double *x, const double *y,
                              const char *const *name, size_t S, size_t N) {
    llm_buffer svg = {NULL, 0, 0};
    CHECK(llm_chart_lines(&svg, c, x, y, name, S, N));
    char *text = (char *)test_memory(svg.size + 1, 1);
    memcpy(text, svg.data, svg.size);
    CHECK(strlen(text) == svg.size);
    llm_buffer_free(&svg);
    /* XML: every element is closed, quotes come in pairs, no stray mark */
    size_t depth = 0;
    for (const char *s = text; (s = strchr(s, '<')) != NULL; s++) {
        const char *end = strchr(s, '>'), *next = strchr(s + 1, '<');
        size_t quotes = 0;
        CHECK(end && (!next || end < next));
        for (const char *q = s; q < end; q++) quotes += *q == '\'';
        CHECK(quotes % 2 == 0);
        if (s[1] == '/') CHECK(depth-- > 0);
        if (s[1] != '/' && end[-1] != '/') depth++;
    }
    CHECK(depth == 0 && strncmp(text, "<svg ", 5) == 0);
    CHECK(strcmp(text + strlen(text) - 7, "</svg>\n") == 0);
    return text;
}
static size_t chart_count(const char *text, const char *what) {
    size_t count = 0;
    for (; (text = strstr(text, what)) != NULL; text++) count++;
    return count;
}
static llm_chart chart_of(const char *title, bool log_x, double mark) {
    llm_chart c;
    c.title = title, c.across = "across", c.up = "up", c.log_x = log_x, c.mark = mark;
    return c;
}

TEST(chart, "steps are 1, 2 or 5 times a power of ten, the least with at most 6") {
    const double range[12] = {1, 2, 5.9, 6, 6.1, 10, 12, 13, 29, 31, 60, 61};
    const double want[12] = {0.2, 0.5, 1, 1, 2, 2, 2, 5, 5, 10, 10, 20};
    for (size_t i = 0; i < 12; i++)
        for (int k = -12; k <= 12; k += 3) {
            const double unit = pow(10.0, k);
            if (range[i] == 6.0 || range[i] == 12.0 || range[i] == 60.0) continue; /* on the edge */
            CHECK_NEAR(llm_chart_step(range[i] * unit) / unit, want[i], 1e-9);
        }
    CHECK_NEAR(llm_chart_step(6.0), 1.0, 1e-12);
    CHECK_NEAR(llm_chart_step(12.0), 2.0, 1e-12);
    llm_rng rng = llm_rng_seed(1);
    for (int i = 0; i < 1000; i++) {
        const double r = exp(20.0 * (double)llm_rng_normal(&rng)), step = llm_chart_step(r);
        CHECK(r <= 6.0 * step * (1.0 + 1e-12) && r > 2.4 * step * (1.0 - 1e-12));
    }
}

TEST(chart, "points stand where the axes say: corners, middle, both directions, decades") {
    const char *const name[2] = {"one", "two"};
    const double x[3] = {0, 5, 10}, y[6] = {0, 1, 5, 5, 2.5, 0}, falling[3] = {10, 5, 0};
    const double decade[3] = {100, 1, 0.01};
    llm_chart c = chart_of("title", false, (double)NAN);
    const char *text = chart_draw(&c, x, y, name, 2, 3);
    CHECK(strstr(text, "points='74.0,350.0 302.0,288.8 530.0,44.0 '"));
    CHECK(strstr(text, "points='74.0,44.0 302.0,197.0 530.0,350.0 '"));
    CHECK(strstr(text, ">title</text>") && strstr(text, ">across</text>") &&
          strstr(text, ">up</text>"));
    CHECK(!strstr(text, "dasharray") && chart_count(text, "<polyline") == 2);
    CHECK(strstr(text, "<path d='M74 350.0H530' stroke='#999'/>\n<text x='66' y='354.5' "
                       "text-anchor='end'>0</text>"));
    CHECK(strstr(text, "<path d='M74 44.0H530' stroke='#e4e4e4'/>\n<text x='66' y='48.5' "
                       "text-anchor='end'>5</text>"));
    CHECK(chart_count(text, "H530' stroke='#e4e4e4'") == 5 && chart_count(text, "350v6") == 6);
    CHECK(strstr(text, "<path d='M74.0 350v6' stroke='#333'/>\n<text x='74.0' y='371' "
                       "text-anchor='middle'>0</text>"));
    CHECK(strstr(text, "<text x='165.2' y='371' text-anchor='middle'>2</text>"));
    CHECK(strstr(text, "<text x='530.0' y='371' text-anchor='middle'>10</text>"));

    CHECK(strstr(text, "<path d='M74 350H530' stroke='#333'/>")); /* the axis itself */
    c.mark = 2.5;
    text = chart_draw(&c, falling, y, name, 2, 3);
    CHECK(strstr(text, "points='74.0,350.0 302.0,288.8 530.0,44.0 '"));
    CHECK(strstr(text, "<text x='74.0' y='371' text-anchor='middle'>10</text>"));
    CHECK(strstr(text, "<text x='530.0' y='371' text-anchor='middle'>0</text>"));
    CHECK(strstr(text, "<path d='M416.0 44V350' stroke='#333' stroke-dasharray='5 4'/>"));

    c.log_x = true, c.mark = 10.0;
    text = chart_draw(&c, decade, y, name, 2, 3);
    CHECK(strstr(text, "points='74.0,350.0 302.0,288.8 530.0,44.0 '"));
    CHECK(strstr(text, "<text x='74.0' y='371' text-anchor='middle'>100</text>"));
    CHECK(strstr(text, "<text x='188.0' y='371' text-anchor='middle'>10</text>"));
    CHECK(strstr(text, "<text x='530.0' y='371' text-anchor='middle'>0.01</text>"));
    CHECK(chart_count(text, "350v6") == 5 && strstr(text, "<path d='M188.0 44V350'"));
}

TEST(chart, "axes hold every line: negative, flat, tiny and huge values; gaps stay out") {
    const char *const name[2] = {"a", "b"};
    const double x[4] = {1, 2, 3, 4}, below[4] = {-3.2, -1, 0.5, 1.9}, flat[4] = {7, 7, 7, 7};
    const double gaps[8] = {1, (double)NAN, 3, HUGE_VAL, 2, -HUGE_VAL, 1, 1},
                 none[4] = {(double)NAN, (double)NAN, (double)NAN, (double)NAN};
    const llm_chart c = chart_of("t", false, (double)NAN);
    const char *text = chart_draw(&c, x, below, name, 1, 4); /* -4 to 2 by 1 */
    CHECK(strstr(text, "74.0,309.2 226.0,197.0 378.0,120.5 530.0,49.1 "));
    CHECK(strstr(text, ">-4</text>") &&
          strstr(text, "stroke='#999'/>\n<text x='66' y='150.5' text-anchor='end'>0</text>"));
    text = chart_draw(&c, x, flat, name, 1, 4);
    CHECK(strstr(text, "74.0,197.0 226.0,197.0 378.0,197.0 530.0,197.0 ") &&
          strstr(text, ">7</text>"));
    text = chart_draw(&c, x, gaps, name, 2, 4);
    CHECK(strstr(text, "points='74.0,350.0 378.0,44.0 '") &&
          strstr(text, "points='74.0,197.0 378.0,350.0 530.0,350.0 '"));
    CHECK(strstr(text, "M530 44.0L540") && strstr(text, "M530 350.0L540")); /* the last point */
    CHECK(strstr(chart_draw(&c, x, none, name, 1, 4), "points=''"));
    CHECK(strstr(chart_draw(&c, x, none, name, 1, 4), "y='354.5' text-anchor='end'>-1</text>"));
    for (int k = -300; k <= 300; k += 25) {
        double y[4];
        for (size_t i = 0; i < 4; i++) y[i] = (below[i] + 4.0) * pow(10.0, k);
        text = chart_draw(&c, x, y, name, 1, 4);
        CHECK(strstr(text, "530.0,49.1 ") &&
              strstr(text, "<path d='M74 44.0H530'")); /* and the top */
    }
    CHECK_ASSERTS(chart_draw(&c, x, flat, name, 1, 1));
    CHECK_ASSERTS(chart_draw(&c, flat, x, name, 1, 4));
    const llm_chart logarithmic = chart_of("t", true, (double)NAN);
    const double zero[4] = {0, 1, 2, 3}, endless[4] = {1, 2, 3, 0};
    CHECK_ASSERTS(chart_draw(&logarithmic, zero, x, name, 1, 4));
    CHECK_ASSERTS(chart_draw(&logarithmic, endless, x, name, 1, 4));
}

TEST(chart, "names at the ends are in order and 14 apart, up to 24 of them; one more is refused") {
    const char *name[25];
    const double x[2] = {0, 1};
    double y[50];
    const llm_chart c = chart_of("t", false, (double)NAN);
    llm_rng rng = llm_rng_seed(2);
    for (size_t i = 0; i < 25; i++) {
        char *text = (char *)test_memory(8, 1);
        snprintf(text, 8, "n%zu", i);
        name[i] = text;
    }
    for (size_t S = 1; S <= 24; S++)
        for (int round = 0; round < 10; round++) {
            size_t order[24];
            float last[24];
            double before = 0.0;
            for (size_t s = 0; s < S; s++) {
                y[2 * s] = 0.0;
                y[2 * s + 1] = round == 0 ? 0.0 : round == 1 ? 1.0 : (double)llm_rng_uniform(&rng);
                last[s] = -(float)y[2 * s + 1];
            }
            if (S == 1 && round > 1) y[1] = 1.0;
            const char *at = chart_draw(&c, x, y, name, S, 2);
            llm_argsort(order, last, S); /* the highest first */
            for (size_t k = 0; k < S; k++) {
                char wanted[16];
                double where = 0.0;
                at = strstr(at, "<text x='543' y='");
                CHECK(at != NULL);
                CHECK(sscanf(at, "<text x='543' y='%lf'", &where) == 1);
                snprintf(wanted, sizeof wanted, ">n%zu<", order[k]);
                const char *shown = strchr(at, '>');
                if (round > 1) CHECK(strncmp(shown, wanted, strlen(wanted)) == 0);
                CHECK(where >= before + 13.89 && where > 47.0 && where < 372.0);
                before = where;
                at++;
            }
            CHECK(!strstr(at, "<text x='543'"));
        }
    const double pair[4] = {0, 1, 0, 0.5}; /* far apart: at the ends of their lines */
    const char *text = chart_draw(&c, x, pair, name, 2, 2);
    CHECK(strstr(text, "<path d='M530 44.0L540 44.0'") &&
          strstr(text, "<path d='M530 197.0L540 197.0'"));
    CHECK(strstr(text, "y='48.5' fill='#0072b2'>n0<") &&
          strstr(text, "y='201.5' fill='#d55e00'>n1<"));
    CHECK_ASSERTS(chart_draw(&c, x, y, name, 25, 2));
}

TEST(chart, "texts from outside: marks, cut-off, broken bytes, control characters") {
    const struct {
        const char *text, *want;
        size_t most;
    } all[] = {{"a<b>&\"c'", "a&#60;b&#62;&#38;&#34;c&#39;", 20},
               {"plain", "plain", 5},
               {"plain", "plai&#8230;", 4},
               {"", "", 3},
               {"x", "&#8230;", 0},
               {"\xc3\xa9t\xc3\xa9", "\xc3\xa9t\xc3\xa9", 3},
               {"\xc3\xa9t\xc3\xa9", "\xc3\xa9t&#8230;", 2},
               {"\xc3", "?", 9},
               {"a\xff\xfe\x01\x7f\nb", "a?????b", 9}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        llm_buffer b = {NULL, 0, 0};
        llm_chart_text(&b, all[i].text, all[i].most);
        CHECK(strcmp(b.data ? b.data : "", all[i].want) == 0);
        llm_buffer_free(&b);
    }
    const char *const name[1] = {"</text><script>"};
    const double x[2] = {0, 1};
    const llm_chart c = chart_of("<b>", false, (double)NAN);
    const char *text = chart_draw(&c, x, x, name, 1, 2);
    CHECK(!strstr(text, "script>") && strstr(text, "&#60;/text&#62;&#60;script&#62;"));
}

TEST(chart, "without memory it says so, and never leaves half a picture") {
    static const char title[] =
        "&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&&";
    const char *name[24];
    double x[300], y[24 * 300];
    llm_chart c = chart_of(title, false, 3.25);
    c.across = c.up = title;
    for (size_t s = 0; s < 24; s++) name[s] = title;
    for (size_t i = 0; i < 300; i++) x[i] = 1e-5 + (double)i;
    for (size_t i = 0; i < 24 * 300; i++) y[i] = -1.2345e-300 * (double)(i % 97);
    for (int calls = 0; calls < 3; calls++) {
        llm_buffer svg = {NULL, 0, 0};
        chart_calls = calls;
        const bool ok = llm_chart_lines(&svg, &c, x, y, name, 24, 300);
        chart_calls = 1 << 30;
        CHECK(ok == (calls > 0));
        if (ok) CHECK(strcmp(svg.data + svg.size - 7, "</svg>\n") == 0);
        llm_buffer_free(&svg);
    }
}
