/* @spm_text */
#include "../test.h"
#include "../tiny_hostile.h"

/* malloc and its like that fail once, after a number of calls */
static int spm_calls = 1 << 30;
static void *spm_malloc(size_t size) { return spm_calls-- != 0 ? malloc(size) : NULL; }
static void *spm_realloc(void *p, size_t size) {
    return spm_calls-- != 0 ? realloc(p, size) : NULL;
}
#define malloc spm_malloc
#define realloc spm_realloc

#include "../../llm.h"

#include "../tiny_spm.h"

static size_t spm_line(uint32_t *out, const char *text, size_t size, const void *context) {
    llm_buffer line = {NULL, 0, 0};
    CHECK(llm_buffer_print(&line, "\xE2\x96\x81")); /* what is there already stays */
    CHECK(llm_spm_normalize(&line, (const llm_spm *)context, text, size));
    CHECK(line.size >= 3 && memcmp(line.data, "\xE2\x96\x81", 3) == 0);
    line.data += 3, line.size -= 3;
    const size_t n = tiny_spm_numbers(out, &line);
    line.data -= 3;
    llm_buffer_free(&line);
    return n;
}
static llm_spm spm_model(void) {
    llm_spm s;
    const size_t size = (size_t)*golden("model/size");
    const float *pair = golden("model/data");
    unsigned char *data = (unsigned char *)test_memory(size, 1);
    for (size_t i = 0; i < size; i++)
        data[i] = (unsigned char)((unsigned)pair[i / 2] >> (i % 2 ? 0 : 8));
    CHECK(llm_spm_read(&s, data, size, NULL));
    return s;
}

TEST(spm_text, "lines, ids and decoded text are those of SentencePiece, under all settings") {
    static const char *const name[4] = {"t5", "loose", "bare", "behind"};
    for (size_t k = 0; k < 4; k++) {
        char array[16];
        llm_spm s = spm_model();
        if (k == 1) s.squeeze = false;
        if (k == 2) s.prefix = false;
        if (k == 3) s.suffix = true;
        const size_t groups = k == 0 ? TINY_HOSTILE_VALID : 6;
        snprintf(array, sizeof array, "%s/line", name[k]);
        tiny_hostile_check(array, groups, spm_line, &s);
        snprintf(array, sizeof array, "%s/ids", name[k]);
        tiny_hostile_check(array, groups, tiny_spm_ids, &s);
        snprintf(array, sizeof array, "%s/back", name[k]);
        if (k < 3) tiny_hostile_check(array, groups, tiny_spm_back, &s);
        llm_spm_free(&s);
    }
}

static const char *spm_of(const llm_spm *s, const char *text, size_t size) {
    llm_buffer line = {NULL, 0, 0};
    char *exact = (char *)test_memory(size, 1), *out;
    if (size > 0) memcpy(exact, text, size);
    CHECK(llm_spm_normalize(&line, s, exact, size));
    out = (char *)test_memory(line.size + 1, 1);
    if (line.size > 0) memcpy(out, line.data, line.size);
    llm_buffer_free(&line);
    return out;
}
#define S "\xE2\x96\x81"

TEST(spm_text, "broken UTF-8 becomes U+FFFD, a byte at a time; empty texts stay empty") {
    llm_spm s = spm_model();
    CHECK(strcmp(spm_of(&s, "a\xFF\xE4\xB8", 4), S "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD") == 0);
    CHECK(strcmp(spm_of(&s, "", 0), "") == 0 && strcmp(spm_of(&s, "  \t ", 4), "") == 0);
    CHECK(strcmp(spm_of(&s, " \n a \xE3\x80\x80 b  ", 12), S "a" S "b") == 0);
    CHECK(strcmp(spm_of(&s, "...", 3), S "...") == 0); /* user-defined: no rule applies */
    CHECK(strcmp(spm_of(&s, "..", 2), S ":") == 0);
    s.squeeze = false;
    CHECK(strcmp(spm_of(&s, "  ", 2), S S S) == 0 && strcmp(spm_of(&s, "", 0), "") == 0);
    s.suffix = true;
    CHECK(strcmp(spm_of(&s, "a", 1), "a" S) == 0);
    llm_error error;
    llm_buffer out = {NULL, 0, 0};
    int ids[2] = {3, 134};
    CHECK_FAILS(llm_spm_decode(&s, &out, ids, 2, &error), error,
                "token 1 of 2: found id 134, expected one below 134");
    ids[0] = -1;
    CHECK_FAILS(llm_spm_decode(&s, &out, ids, 2, &error), error, "token 0 of 2: found id -1");
    llm_buffer_free(&out);
    CHECK(llm_spm_decode(&s, &out, ids, 0, &error) && out.size == 0);
    llm_buffer_free(&out);
    llm_spm_free(&s);
}

TEST(spm_text, "a double array that points anywhere is read within its bounds") {
    llm_spm s = spm_model();
    llm_rng rng = llm_rng_seed(3);
    const llm_buffer whole = s.rules;
    for (int round = 0; round < 400; round++) {
        llm_buffer broken = {NULL, 0, 0};
        CHECK(llm_buffer_put(&broken, whole.data, whole.size));
        char *exact = (char *)malloc(broken.size); /* so that a step beyond is seen */
        memcpy(exact, broken.data, broken.size);
        for (size_t k = 0; k < 200; k++)
            exact[4 + llm_rng_below(&rng, whole.size - 5)] =
                (char)(unsigned char)llm_rng_below(&rng, 256);
        s.rules.data = exact, s.rules.size = s.rules.capacity = broken.size;
        spm_of(&s, "The \xC3\xA9...X\xE4\xB8\xAD\xE6\x96\x87 A\xCC\x8A\xEF\xAC\x81 THE", 26);
        free(exact);
        llm_buffer_free(&broken);
    }
    s.rules = whole;
    llm_spm_free(&s);
}

TEST(spm_text, "when memory is out, it says so and nothing leaks") {
    bool ok = false;
    int failed = 0;
    llm_spm s = spm_model();
    for (int k = 0; k < 2; k++) {
        s.model = k == 0 ? LLM_SPM_UNIGRAM : LLM_SPM_BPE;
        ok = false;
        for (int calls = 0; calls < 60 && !ok; calls++) {
            llm_error error;
            int *ids;
            size_t count;
            llm_buffer out = {NULL, 0, 0};
            error.message[0] = 0;
            spm_calls = calls;
            ok = llm_spm_encode(&s, &ids, &count, "the cat", 7, &error) &&
                 llm_spm_decode(&s, &out, ids, count, &error);
            CHECK(ok == (spm_calls >= 0)); /* whatever fails is told */
            spm_calls = 1 << 30;
            CHECK(ok || strstr(error.message, "out of memory"));
            failed += !ok;
            free(ids);
            llm_buffer_free(&out);
        }
        CHECK(ok);
    }
    CHECK(failed >= 8);
    llm_spm_free(&s);
}

TEST(spm_text, "without rules nothing is replaced") {
    const llm_buffer none = {NULL, 0, 0};
    const char *to = NULL;
    size_t to_size = 0;
    CHECK(llm_spm_rule(&none, "a", 1, &to, &to_size) == 0);
}
