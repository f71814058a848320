/* @unicode @grapheme @token @unicode_normal @text_places @unicode_fold @pre_tokenize @pre_words:
 * any bytes are a text. Cuts tile it, normal forms of normal forms are themselves, places ascend,
 * and what is cleaned up is UTF-8. */
#include "fuzz.h"

static llm_unicode_normal fuzz_tables;
static llm_unicode_map fuzz_lower;

static void fuzz_cuts(const char *text, size_t size) {
    for (int kind = 0; kind < 12; kind++)
        for (size_t at = 0, n; at < size; at += n) {
            const char *rest = text + at;
            bool space;
            uint32_t code;
            const size_t left = size - at;
            n = kind < 5     ? llm_pre_tokenize(rest, left, (llm_pre_tokenize_kind)kind)
                : kind == 5  ? llm_pre_words_bert(rest, left, true, &space)
                : kind == 6  ? llm_pre_words_metaspace(rest, left)
                : kind == 7  ? llm_pre_words_digits(rest, left, 1)
                : kind == 8  ? llm_pre_words_digits(rest, left, SIZE_MAX)
                : kind == 9  ? llm_grapheme_next(rest, left)
                : kind == 10 ? llm_token_word(rest, left)
                             : llm_unicode_decode(&code, rest, left);
            FUZZ_CHECK(n > 0 && n <= left);
        }
}

static void fuzz_forms(const char *text, size_t size) {
    for (int form = 0; form < 4; form++) {
        const llm_unicode_normal_form f = (llm_unicode_normal_form)form;
        llm_buffer once = {NULL, 0, 0}, twice = {NULL, 0, 0};
        llm_text_places in, out;
        memset(&in, 0, sizeof in);
        memset(&out, 0, sizeof out);
        FUZZ_CHECK(llm_unicode_normal_text(&fuzz_tables, &once, text, size, f));
        FUZZ_CHECK(llm_text_places_add(&in, text, size, 0) &&
                   llm_text_places_normal(&out, &in, &fuzz_tables, f));
        FUZZ_CHECK(out.text.size == once.size);
        FUZZ_CHECK(once.size == 0 || memcmp(out.text.data, once.data, once.size) == 0);
        for (size_t i = 0; i < once.size; i++) {
            const llm_text_places_span s = llm_text_places_at(&out, i);
            FUZZ_CHECK(s.start < s.end && s.end <= size);
            FUZZ_CHECK(i == 0 || llm_text_places_at(&out, i - 1).start <= s.start);
        }
        if (llm_unicode_valid(text, size)) {
            FUZZ_CHECK(llm_unicode_normal_text(&fuzz_tables, &twice, once.data, once.size, f));
            FUZZ_CHECK(twice.size == once.size);
            FUZZ_CHECK(once.size == 0 || memcmp(twice.data, once.data, once.size) == 0);
        }
        llm_buffer_free(&once);
        llm_buffer_free(&twice);
        llm_text_places_free(&in);
        llm_text_places_free(&out);
    }
}

static void fuzz(const unsigned char *data, size_t size) {
    const char *text = (const char *)data;
    llm_buffer out[4];
    memset(out, 0, sizeof out);
    if (!fuzz_tables.pair) /* once; they stay */
        FUZZ_CHECK(llm_unicode_normal_open(&fuzz_tables) && llm_unicode_fold_open(&fuzz_lower));
    fuzz_cuts(text, size);
    fuzz_forms(text, size);
    FUZZ_CHECK(llm_token_replace(&out[0], text, size) &&
               llm_unicode_fold_clean(&out[1], text, size) &&
               llm_unicode_fold_small(&fuzz_lower, &out[2], text, size) &&
               llm_unicode_fold_bare(&fuzz_tables, &out[3], text, size));
    for (size_t i = 0; i < 2; i++)
        FUZZ_CHECK(out[i].size == 0 || llm_unicode_valid(out[i].data, out[i].size));
    for (size_t i = 0; i < 4; i++) llm_buffer_free(&out[i]);
}
