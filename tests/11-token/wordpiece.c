/* @wordpiece */
#include "../test.h"

/* malloc and its like that fail once, after a number of calls */
static int wordpiece_calls = 1 << 30;
static void *wordpiece_calloc(size_t n, size_t size) {
    return wordpiece_calls-- != 0 ? calloc(n, size) : NULL;
}
static void *wordpiece_realloc(void *p, size_t size) {
    return wordpiece_calls-- != 0 ? realloc(p, size) : NULL;
}
#define calloc wordpiece_calloc
#define realloc wordpiece_realloc

#include "../../llm.h"
#include "../tiny_hostile.h"
#include "../tiny_pieces.h"

static llm_wordpiece wordpiece_of(const char *const *token, size_t n) {
    llm_wordpiece w;
    llm_error error;
    memset(&w, 0, sizeof w);
    for (size_t i = 0; i < n; i++)
        CHECK(llm_vocab_table_add(&w.token, token[i], strlen(token[i])) == (int)i);
    CHECK(llm_wordpiece_build(&w, &error));
    return w;
}

static llm_wordpiece wordpiece_golden(void) {
    size_t n;
    llm_wordpiece w;
    llm_error error;
    const float *bytes = golden("token/bytes"), *size = golden_n(&n, "token/size");
    memset(&w, 0, sizeof w);
    for (size_t id = 0; id < n; id++) {
        char text[64];
        for (size_t i = 0; i < (size_t)size[id]; i++) text[i] = (char)(unsigned char)*bytes++;
        CHECK(llm_vocab_table_add(&w.token, text, (size_t)size[id]) == (int)id);
    }
    CHECK(llm_wordpiece_build(&w, &error) && w.unknown == 1);
    return w;
}

TEST(wordpiece, "ids are those of Hugging Face tokenizers and of transformers") {
    char *text;
    size_t size, count, unknown = 0;
    int *want;
    llm_wordpiece w = wordpiece_golden();
    tiny_pieces_texts t = tiny_pieces_open("word");
    while (tiny_pieces_next(&t, &text, &size, &want, &count)) {
        int *ids = (int *)test_memory(size, sizeof *ids);
        CHECK(llm_wordpiece_encode(ids, &w, text, size) == count);
        for (size_t i = 0; i < count; i++) CHECK_NEAR(ids[i], want[i], 0);
        unknown += want[0] == 1;
    }
    CHECK(t.texts > 180 && unknown > 20 && unknown < 100);
    llm_wordpiece_free(&w);
    CHECK(!w.start.cell && !w.rest.cell && w.token.count == 0);
}

typedef struct {
    llm_wordpiece w;
    llm_wordpiece_linear l;
    bool decoded; /* the answer is the text of the ids, 4096 bytes at most */
} wordpiece_both;
static size_t wordpiece_answer(uint32_t *out, const char *text, size_t size, const void *context) {
    const wordpiece_both *m = (const wordpiece_both *)context;
    size_t n = 0;
    for (size_t at = 0, end; at < size; at = end + 1) {
        for (end = at; end < size && text[end] != ' ';) end++;
        if (end == at) continue;
        int *ids = (int *)malloc(2 * (end - at) * sizeof *ids), *linear = ids + (end - at);
        CHECK(ids);
        const size_t count = llm_wordpiece_encode(ids, &m->w, text + at, end - at);
        CHECK(count == llm_wordpiece_linear_encode(linear, &m->l, &m->w, text + at, end - at));
        CHECK(memcmp(ids, linear, count * sizeof *ids) == 0);
        for (size_t i = 0; i < count; i++) out[n++] = (uint32_t)ids[i];
        free(ids);
    }
    if (!m->decoded) return n;
    llm_buffer text_again = {NULL, 0, 0};
    int *all = (int *)malloc((n + 1) * sizeof *all);
    CHECK(all);
    for (size_t i = 0; i < n; i++) all[i] = (int)out[i];
    CHECK(llm_wordpiece_decode(&text_again, &m->w, all, n));
    n = text_again.size < 4096 ? text_again.size : 4096;
    for (size_t i = 0; i < n; i++) out[i] = (unsigned char)text_again.data[i];
    llm_buffer_free(&text_again);
    free(all);
    return n;
}

TEST(wordpiece, "awkward strings in many scripts: Hugging Face's ids and texts") {
    wordpiece_both m;
    m.w = wordpiece_golden();
    CHECK(llm_wordpiece_linear_build(&m.l, &m.w));
    m.decoded = false;
    tiny_hostile_check("hostile/words", TINY_HOSTILE_VALID, wordpiece_answer, &m);
    m.decoded = true;
    tiny_hostile_check("hostile/decoded", TINY_HOSTILE_VALID, wordpiece_answer, &m);
    llm_wordpiece_linear_free(&m.l);
    llm_wordpiece_free(&m.w);
}

TEST(wordpiece, "decoding is that of Hugging Face tokenizers") {
    char *text;
    size_t size, count;
    int *ids;
    llm_wordpiece w = wordpiece_golden();
    tiny_pieces_texts t = tiny_pieces_open("decoded");
    while (tiny_pieces_next(&t, &text, &size, &ids, &count)) {
        llm_buffer out = {NULL, 0, 0};
        CHECK(llm_wordpiece_decode(&out, &w, ids, count));
        CHECK(out.size == size && memcmp(out.data, text, size) == 0);
        llm_buffer_free(&out);
    }
    CHECK(t.texts == 60);
    llm_wordpiece_free(&w);
}

TEST(wordpiece, "by hand: the longest first, and one unknown character takes the word with it") {
    const char *token[10] = {"[UNK]", "un",      "##aff", "##able",     "una",
                             "##f",   "##fable", "##",    "##\xC3\xA9", "\xC3\xA9"};
    llm_wordpiece w = wordpiece_of(token, 10);
    int ids[16];
    CHECK(w.unknown == 0);
    CHECK(llm_wordpiece_encode(ids, &w, "unaffable", 9) == 3); /* not un ##aff ##able */
    CHECK(ids[0] == 4 && ids[1] == 5 && ids[2] == 6);
    CHECK(llm_wordpiece_encode(ids, &w, "unaff", 5) == 3 && ids[0] == 4 && ids[2] == 5);
    CHECK(llm_wordpiece_encode(ids, &w, "unaffx", 6) == 1 && ids[0] == 0);
    CHECK(llm_wordpiece_encode(ids, &w, "xunaff", 6) == 1 && ids[0] == 0);
    CHECK(llm_wordpiece_encode(ids, &w, "un", 2) == 1 && ids[0] == 1);
    CHECK(llm_wordpiece_encode(ids, &w, "able", 4) == 1 && ids[0] == 0);
    CHECK(llm_wordpiece_encode(ids, &w, "##able", 6) == 1 && ids[0] == 3);
    CHECK(llm_wordpiece_encode(ids, &w, "##", 2) == 1 && ids[0] == 7);
    CHECK(llm_wordpiece_encode(ids, &w, "", 0) == 0);
    const int again[5] = {7, 1, 7, 2, 1}; /* ## un ## ##aff un: ## alone joins too, but not first */
    llm_buffer out = {NULL, 0, 0};
    CHECK(llm_wordpiece_decode(&out, &w, again, 5) && strcmp(out.data, "## unaff un") == 0);
    llm_buffer_free(&out);
    char word[202];
    int many[202];
    for (size_t i = 0; i < 101; i++) memcpy(word + 2 * i, "\xC3\xA9", 2);
    CHECK(llm_wordpiece_encode(many, &w, word, 200) == 100 && many[0] == 9 && many[99] == 8);
    CHECK(llm_wordpiece_encode(many, &w, word, 202) == 1 && many[0] == 0);
    CHECK(llm_wordpiece_long(word, 202) && !llm_wordpiece_long(word, 200));
    CHECK(!llm_wordpiece_long(word, 0));
    char *exact = (char *)test_memory(3, 1); /* ends in the middle of a character */
    memcpy(exact, "a\xE4\xB8", 3);
    CHECK(!llm_wordpiece_long(exact, 3));
    llm_wordpiece_free(&w);
}

TEST(wordpiece, "a vocabulary without [UNK], bad ids, and no memory are refused") {
    llm_wordpiece w;
    llm_error error;
    llm_buffer out = {NULL, 0, 0};
    memset(&w, 0, sizeof w);
    CHECK(llm_vocab_table_add(&w.token, "##a", 3) == 0);
    CHECK_FAILS(llm_wordpiece_build(&w, &error), error, "no token [UNK]");
    CHECK(llm_vocab_table_add(&w.token, "[UNK]", 5) == 1);
    llm_wordpiece_free(&w);
    int calls = 0;
    for (bool ok = false; !ok; calls++) {
        CHECK(llm_vocab_table_add(&w.token, "##a", 3) == 0);
        CHECK(llm_vocab_table_add(&w.token, "[UNK]", 5) == 1);
        CHECK(llm_vocab_table_add(&w.token, "##b", 3) == 2);
        CHECK(llm_vocab_table_add(&w.token, "word", 4) == 3);
        wordpiece_calls = calls;
        ok = llm_wordpiece_build(&w, &error);
        CHECK(ok == (wordpiece_calls >= 0)); /* whatever fails is told */
        wordpiece_calls = 1 << 30;
        if (!ok) CHECK(strstr(error.message, "out of memory"));
        int ids[7];
        if (ok) CHECK(llm_wordpiece_encode(ids, &w, "[UNK]ab", 7) == 3 && ids[2] == 2);
        const int bad[2] = {-1, 4}, good[2] = {0, 2};
        for (size_t i = 0; i < 2; i++) CHECK(!llm_wordpiece_decode(&out, &w, &bad[i], 1));
        for (size_t i = 0; i < 2; i++) { /* room for nothing; for the first of two */
            wordpiece_calls = (int)i;
            llm_buffer_free(&out);
            CHECK(llm_wordpiece_decode(&out, &w, good, 2) == (i > 0));
            wordpiece_calls = 1 << 30;
        }
        if (ok) CHECK(w.unknown == 1);
        llm_wordpiece_free(&w);
        CHECK(w.unknown == 0 && !w.start.cell && !w.rest.cell && w.token.count == 0);
    }
    CHECK(calls > 6);
    llm_buffer_free(&out);
    CHECK(llm_vocab_table_add(&w.token, "[UNK]", 5) == 0);
    char word[63]; /* fills the first room of a buffer: the space behind it needs more */
    memset(word, 'x', sizeof word);
    CHECK(llm_vocab_table_add(&w.token, word, 63) == 1 && llm_wordpiece_build(&w, &error));
    const int words[2] = {1, 1};
    calls = 0;
    for (bool ok = false; !ok; calls++) {
        wordpiece_calls = calls;
        ok = llm_wordpiece_decode(&out, &w, words, 2);
        CHECK(ok == (wordpiece_calls >= 0) && (!ok || out.size == 127));
        wordpiece_calls = 1 << 30;
        llm_buffer_free(&out);
    }
    CHECK(calls == 4);
    llm_wordpiece_free(&w);
}
