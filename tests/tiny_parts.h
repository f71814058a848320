/* Parts of a tokenizer.json for suites, with golden values as tests/parts.py writes them.
 * Behind test.h, tiny_hostile.h and llm.h. */
#ifndef TINY_PARTS_H
#define TINY_PARTS_H

enum { TINY_PARTS_MOST = 3000 }; /* numbers in an answer */

/* Text that stands in the golden file with two bytes in a number. */
TEST_UNUSED static char *tiny_parts_text(const char *name) {
    const size_t size = (size_t)*golden("%s/size", name);
    const float *pair = golden("%s/text", name);
    char *text = (char *)test_memory(size + 1, 1);
    for (size_t i = 0; i < size; i++)
        text[i] = (char)(unsigned char)((unsigned)pair[i / 2] >> (i % 2 ? 0 : 8));
    return text;
}

/* The text with its first `from` replaced. */
TEST_UNUSED static char *tiny_parts_with(const char *file, const char *from, const char *to) {
    const char *at = strstr(file, from);
    if (!at) test_fail(__FILE__, __LINE__, "the file has no %s", from);
    const size_t size = strlen(file) + strlen(to) + 1;
    char *text = (char *)test_memory(size, 1);
    snprintf(text, size, "%.*s%s%s", (int)(at - file), file, to, at + strlen(from));
    return text;
}

/* A file as parts.py shortens it: BYTES stands for the byte tokens, from id 3 on. */
TEST_UNUSED static char *tiny_parts_file(const char *name) {
    char *text = tiny_parts_text(name), *bytes = (char *)test_memory(256 * 16, 1);
    if (!strstr(text, "BYTES")) return text;
    size_t size = 0;
    for (int b = 0; b < 256; b++)
        size += (size_t)snprintf(bytes + size, 16, "\"<0x%02X>\":%d,", (unsigned)b, b + 3);
    return tiny_parts_with(text, "BYTES", bytes);
}

/* Parsed JSON of a text that is right. */
TEST_UNUSED static llm_json tiny_parts_json(const char *text) {
    llm_json j;
    llm_error error;
    if (!llm_json_parse(&j, text, strlen(text), &error))
        test_fail(__FILE__, __LINE__, "%s: %s", text, error.message);
    return j;
}

/* Whether the text has a character about which the library has an older opinion. */
TEST_UNUSED static bool tiny_parts_old(const char *text, size_t size) {
    size_t n;
    const float *old = golden_n(&n, "old/code");
    for (size_t at = 0; at < size;) {
        uint32_t code;
        at += llm_unicode_decode(&code, text + at, size - at);
        for (size_t i = 0; i < n; i++)
            if ((float)code == old[i]) return true;
    }
    return false;
}

/* out[i] <- the character in which byte i stands; out[size]: how many there are. */
TEST_UNUSED static size_t *tiny_parts_places(const char *text, size_t size) {
    size_t *out = (size_t *)test_memory(size + 1, sizeof *out), count = 0;
    for (size_t at = 0, n; at < size; at += n, count++) {
        uint32_t code;
        n = llm_unicode_decode(&code, text + at, size - at);
        for (size_t i = 0; i < n; i++) out[at + i] = count;
    }
    out[size] = count;
    return out;
}

TEST_UNUSED static void tiny_parts_put(uint32_t *out, size_t *n, size_t number) {
    if (*n < TINY_PARTS_MOST) out[(*n)++] = (uint32_t)number;
}

/* out <- for each character of t its code and, with places, the characters of the original that it
 * stands for. */
TEST_UNUSED static size_t tiny_parts_answer(uint32_t *out, const llm_text_places *t,
                                            const char *text, size_t size, bool places) {
    const size_t *place = tiny_parts_places(text, size);
    size_t n = 0;
    for (size_t at = 0, length; at < t->text.size; at += length) {
        uint32_t code;
        length = llm_text_places_next(t, at, &code);
        tiny_parts_put(out, &n, code);
        const llm_text_places_span span = llm_text_places_of(t, at, length);
        if (places) tiny_parts_put(out, &n, place[span.start]);
        if (places) tiny_parts_put(out, &n, place[span.end]);
    }
    return n;
}

/* out <- for each token of a text its id, first and last character and word; returns the ids, which
 * the process frees, and their number. */
TEST_UNUSED static int *tiny_parts_tokens(uint32_t *out, size_t *n, size_t *count,
                                          const llm_buffer *tokens, const char *text, size_t size) {
    const llm_parts_text_token *token = (const llm_parts_text_token *)(const void *)tokens->data;
    const size_t *place = tiny_parts_places(text, size);
    *count = tokens->size / sizeof *token;
    int *ids = (int *)test_memory(*count, sizeof *ids);
    for (size_t i = 0; i < *count; i++) {
        ids[i] = token[i].id;
        tiny_parts_put(out, n, (size_t)token[i].id);
        tiny_parts_put(out, n, place[token[i].start]);
        tiny_parts_put(out, n, place[token[i].end]);
        tiny_parts_put(out, n, (size_t)token[i].word);
    }
    return ids;
}

#endif
