/* @normalizer */
#include "../test.h"
#include "../tiny_hostile.h"

/* malloc and its like that fail once, after a number of calls */
static int norm_calls = 1 << 30;
static void *norm_malloc(size_t size) { return norm_calls-- != 0 ? malloc(size) : NULL; }
static void *norm_calloc(size_t n, size_t size) {
    return norm_calls-- != 0 ? calloc(n, size) : NULL;
}
static void *norm_realloc(void *p, size_t size) {
    return norm_calls-- != 0 ? realloc(p, size) : NULL;
}
#define malloc norm_malloc
#define calloc norm_calloc
#define realloc norm_realloc

#include "../../llm.h"
#include "../tiny_parts.h"
#include "../tiny_spm.h"

/* The normalizer of a part of a file. */
static llm_normalizer norm_read(const char *text) {
    llm_normalizer n;
    llm_error error;
    llm_json j = tiny_parts_json(text);
    memset(&n, 0, sizeof n);
    if (!llm_normalizer_json_read(&n, &j, j.node, 0, &error))
        test_fail(__FILE__, __LINE__, "%s: %s", text, error.message);
    llm_json_free(&j);
    return n;
}

typedef struct {
    llm_normalizer n;
    bool places;
} norm_case;

static size_t norm_answer(uint32_t *out, const char *text, size_t size, const void *context) {
    const norm_case *c = (const norm_case *)context;
    llm_text_places t;
    memset(&t, 0, sizeof t);
    if (tiny_parts_old(text, size)) return 0;
    CHECK(llm_text_places_add(&t, text, size, 0) && llm_normalizer_run(&c->n, &t));
    const size_t n = tiny_parts_answer(out, &t, text, size, c->places);
    llm_text_places_free(&t);
    return n;
}

TEST(normalizer, "2,200 texts become what tokenizers makes of them, with their places") {
    static const char *const row[6][2] = {
        {"bert", "{\"type\":\"BertNormalizer\"}"},
        {"cased", "{\"type\":\"BertNormalizer\",\"lowercase\":false}"},
        {"bare", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKD\"},"
                 "{\"type\":\"StripAccents\"},{\"type\":\"Lowercase\"}]}"},
        {"spell",
         "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"<>\"},"
         "{\"type\":\"Replace\",\"pattern\":{\"String\":\"the\"},\"content\":\"xyzw\"},"
         "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\\u2581\"}]}"},
        {"strip", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Strip\"},"
                  "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\"__\"}]}"},
        {"left", "{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":false}"}};
    norm_case c;
    for (size_t k = 0; k < 6; k++) {
        char name[32];
        snprintf(name, sizeof name, "hash/%s", row[k][0]);
        c.n = norm_read(row[k][1]);
        c.places = true;
        tiny_hostile_check(name, TINY_HOSTILE_KNOWN, norm_answer, &c);
        llm_normalizer_free(&c.n);
    }
}

static llm_normalizer norm_rules(void) {
    return norm_read(
        tiny_parts_with("{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"RULES\"}", "RULES",
                        tiny_parts_text("rules")));
}

TEST(normalizer,
     "rules of a SentencePiece model: as tokenizers reads them, which is in its own way") {
    norm_case c;
    c.n = norm_rules();
    c.places = false;
    tiny_hostile_check("hash/rules", TINY_HOSTILE_KNOWN, norm_answer, &c);
    llm_normalizer_free(&c.n);
}

/* Checks the text that comes of `from`, and the places of its bytes. */
static void norm_is(const llm_normalizer *n, const char *from, const char *want,
                    const unsigned *places) {
    llm_text_places t;
    memset(&t, 0, sizeof t);
    CHECK(llm_text_places_add(&t, from, strlen(from), 0) && llm_normalizer_run(n, &t));
    if (t.text.size != strlen(want) ||
        (t.text.size > 0 && memcmp(t.text.data, want, t.text.size) != 0))
        test_fail(__FILE__, __LINE__, "\"%s\" became \"%s\"", from, t.text.data);
    for (size_t i = 0; i < t.text.size; i++) {
        const llm_text_places_span s = llm_text_places_at(&t, i);
        if (s.start != places[2 * i] || s.end != places[2 * i + 1])
            test_fail(__FILE__, __LINE__, "\"%s\", byte %zu: %u to %u", from, i, s.start, s.end);
    }
    llm_text_places_free(&t);
}

TEST(normalizer, "places behind rules: shorter, longer, and none at all") {
    llm_normalizer n = norm_rules();
    static const unsigned e[6] = {0, 1, 1, 3, 3, 4}; /* e acute -> e; E acute -> E and a mark */
    norm_is(&n, "x\xC3\xA9y", "xey", e);
    static const unsigned big[8] = {0, 2, 0, 2, 0, 2, 2, 3};
    norm_is(&n, "\xC3\x89y", "E\xCC\x81y", big);
    static const unsigned dots[8] = {0, 1, 1, 2, 2, 3, 3, 4}; /* each point is a cluster: */
    norm_is(&n, "...z", "...z", dots);                        /* the rule of three is never seen */
    static const unsigned umlaut[6] = {0, 1, 1, 3, 3, 4};     /* a and a mark: a cluster */
    norm_is(&n, "a\xCC\x88z", "aez", umlaut);
    static const unsigned gone[4] = {3, 4, 4, 5}; /* U+3042 goes */
    norm_is(&n, "\xE3\x81\x82yz", "yz", gone);
    static const unsigned inside[4] = {0, 1, 4, 5};
    norm_is(&n, "y\xE3\x81\x82z", "yz", inside);
    static const unsigned lead[4] = {6, 7, 7, 8};
    norm_is(&n, "\xE3\x81\x82\xE3\x81\x82yz", "yz", lead);
    norm_is(&n, "\xE3\x81\x82", "", lead);
    static const unsigned three[10] = {0, 1, 1, 2, 2, 5, 2, 5, 2, 5};
    norm_is(&n, "ab\xE4\xB8\xAD", "ab\xE4\xB8\xAD", three);
    llm_normalizer_free(&n);
}

TEST(normalizer, "rules by hand: two characters become one, and a text that is broken U+FFFD") {
    static const unsigned char path[3] = {'b', 0xCC, 0x88};
    const llm_normalizer_step step = {
        LLM_NORMALIZER_RULES, LLM_UNICODE_NORMAL_NFD, 0, 0, 0, 0, 0, 0};
    llm_normalizer n;
    memset(&n, 0, sizeof n);
    CHECK(llm_buffer_put(&n.step, &step, sizeof step));
    n.rules = tiny_spm_array(1536, 4);
    memcpy(n.rules.data + 4 + 4 * 1536, "c\0\xFF", 4);
    tiny_spm_unit(&n.rules, 0, 256 << 10); /* children of the k-th stand from 256 k on */
    for (uint32_t k = 0; k < 3; k++) {
        const uint32_t at = (256 * (k + 1)) ^ path[k];
        tiny_spm_unit(&n.rules, at, (at ^ 256 * (k + 2)) << 10 | (k == 2 ? 256u : 0u) | path[k]);
    }
    tiny_spm_unit(&n.rules, 1024, 0x80000000u | 0);
    tiny_spm_unit(&n.rules, 256 ^ 'd', (256 ^ 'd' ^ 1280u) << 10 | 256 | (uint32_t)'d');
    tiny_spm_unit(&n.rules, 1280, 0x80000000u | 2);
    static const unsigned place[8] = {0, 1, 1, 2, 4, 5, 5, 6}; /* as tokenizers has them */
    norm_is(&n, "xb\xCC\x88zy", "xczy", place);
    norm_is(&n, "b\xCC\x88", "c", place);
    static const unsigned broken[10] = {0, 1, 1, 2, 1, 2, 1, 2, 2, 3};
    norm_is(&n, "xdy", "x\xEF\xBF\xBDy", broken);
    llm_buffer_free(&n.step);
}

TEST(normalizer, "single steps by hand") {
    llm_normalizer n = norm_read("{\"type\":\"BertNormalizer\"}");
    static const unsigned bert[20] = {0, 1, 1, 2, 2, 3, 3, 5, 5, 6, 6, 9, 6, 9, 6, 9, 6, 9, 6, 9};
    norm_is(&n, "Caf\xC3\xA9\t\xE4\xB8\xAD", "cafe  \xE4\xB8\xAD ", bert);
    norm_is(&n, "\x01\xEF\xBF\xBD", "", bert);
    llm_normalizer_free(&n);
    n = norm_read("{\"type\":\"Strip\",\"strip_left\":false,\"strip_right\":true}");
    static const unsigned right[4] = {0, 1, 1, 2};
    norm_is(&n, " a \xE3\x80\x80\n", " a", right);
    norm_is(&n, " \n", "", right);
    norm_is(&n, "", "", right);
    llm_normalizer_free(&n);
    n = norm_read("{\"type\":\"Strip\"}");
    static const unsigned both[2] = {2, 3};
    norm_is(&n, " \na\xC2\xA0", "a", both);
    llm_normalizer_free(&n);
    n = norm_read("{\"type\":\"Replace\",\"pattern\":{\"String\":\"aa\"},\"content\":\"\"}");
    static const unsigned odd[6] = {2, 3, 3, 4, 6, 7}; /* from the left, without overlap */
    norm_is(&n, "aaabaac", "abc", odd);
    llm_normalizer_free(&n);
    n = norm_read("{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\"_\"}");
    static const unsigned runs[10] = {0, 1, 1, 2, 2, 3, 5, 6, 6, 7};
    norm_is(&n, "a b   c", "a b_c", runs);
    static const unsigned end[4] = {0, 1, 2, 3};
    norm_is(&n, "a  ", "a_", end);
    llm_normalizer_free(&n);
    n = norm_read("{\"type\":\"Prepend\",\"prepend\":\"__\"}");
    static const unsigned front[10] = {0, 2, 0, 2, 0, 2, 0, 2, 2, 3};
    norm_is(&n, "\xC3\xA9z", "__\xC3\xA9z", front);
    norm_is(&n, "", "", front);
    llm_normalizer_free(&n);
    n = norm_read("null");
    norm_is(&n, "ab", "ab", right);
    llm_normalizer_free(&n);
}

TEST(normalizer, "when memory is out, it says so") {
    static const char *const file[3] = {
        "{\"type\":\"BertNormalizer\"}",
        "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"<>\"},"
        "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"xyzw\"}]}",
        NULL};
    static const char text[] = "\xC3\xA9 a \xE4\xB8\xAD";
    for (size_t k = 0; k < 3; k++) {
        llm_normalizer n = file[k] ? norm_read(file[k]) : norm_rules();
        bool ok = false;
        size_t failed = 0;
        for (int calls = 0; calls < 300 && !ok; calls++) {
            llm_text_places t;
            memset(&t, 0, sizeof t);
            CHECK(llm_text_places_add(&t, text, sizeof text - 1, 0));
            norm_calls = calls;
            ok = llm_normalizer_run(&n, &t);
            CHECK(ok == (norm_calls >= 0)); /* whatever fails is told */
            norm_calls = 1 << 30;
            failed += !ok;
            llm_text_places_free(&t);
        }
        CHECK(ok && failed >= 3);
        llm_normalizer_free(&n);
    }
}
