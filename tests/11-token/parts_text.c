/* @parts_text */
#include "../test.h"
#include "../tiny_hostile.h"

/* malloc and its like that fail once, after a number of calls */
static int ptext_calls = 1 << 30;
static void *ptext_malloc(size_t size) { return ptext_calls-- != 0 ? malloc(size) : NULL; }
static void *ptext_calloc(size_t n, size_t size) {
    return ptext_calls-- != 0 ? calloc(n, size) : NULL;
}
static void *ptext_realloc(void *p, size_t size) {
    return ptext_calls-- != 0 ? realloc(p, size) : NULL;
}
#define malloc ptext_malloc
#define calloc ptext_calloc
#define realloc ptext_realloc

#include "../../llm.h"
#include "../tiny_parts.h"

/* The tokenizer of a file's text. */
static llm_tokenizer ptext_load(const char *text) {
    llm_tokenizer t;
    llm_error error;
    llm_bpe none = llm_bpe_empty();
    llm_json j = tiny_parts_json(text);
    llm_tokenizer_from_bpe(&t, &none, LLM_PRE_TOKENIZE_GPT2);
    t.parts = (struct llm_tokenizer_parts *)calloc(1, sizeof *t.parts);
    t.parts->model = llm_token_model_empty();
    if (!llm_tokenizer_parts_read(t.parts, &t, &j, &error))
        test_fail(__FILE__, __LINE__, "%s", error.message);
    llm_json_free(&j);
    return t;
}

typedef struct {
    llm_tokenizer t;
    bool special;
} ptext_case;

static size_t ptext_answer(uint32_t *out, const char *text, size_t size, const void *context) {
    const ptext_case *c = (const ptext_case *)context;
    llm_buffer tokens = {NULL, 0, 0}, back = {NULL, 0, 0};
    llm_error error;
    if (tiny_parts_old(text, size)) return 0;
    CHECK(llm_parts_text_encode(c->t.parts, &tokens, text, size, c->special, &error));
    size_t n = 0, count;
    const int *ids = tiny_parts_tokens(out, &n, &count, &tokens, text, size);
    CHECK(llm_parts_text_decode(c->t.parts, &back, ids, count, &error));
    for (size_t i = 0; i < back.size; i++) tiny_parts_put(out, &n, (unsigned char)back.data[i]);
    llm_buffer_free(&tokens);
    llm_buffer_free(&back);
    return n;
}

TEST(parts_text,
     "BERT's, Llama's and T5's kinds, with added tokens: ids, places, words, and the way "
     "back of 1,400 texts") {
    static const char *const name[3] = {"bert", "llama", "t5"};
    for (size_t k = 0; k < 6; k++) {
        char hash[32];
        ptext_case c;
        snprintf(hash, sizeof hash, "hash/%s%s", name[k / 2], k % 2 ? "_plain" : "");
        c.t = ptext_load(tiny_parts_file(name[k / 2]));
        c.special = k % 2 == 0;
        tiny_hostile_check(hash, 7, ptext_answer, &c);
        llm_tokenizer_free(&c.t);
    }
}

/* Checks id, word, start, end of each token, and the text that comes back. */
static void ptext_is(const llm_tokenizer *t, const char *text, bool special, const int *want,
                     size_t count, const char *decoded) {
    llm_buffer tokens = {NULL, 0, 0}, back = {NULL, 0, 0};
    int ids[32];
    CHECK(llm_parts_text_encode(t->parts, &tokens, text, strlen(text), special, NULL));
    const llm_parts_text_token *token = (const llm_parts_text_token *)(const void *)tokens.data;
    CHECK(tokens.size == count * sizeof *token);
    for (size_t i = 0; i < count; i++) {
        const int *w = want + 4 * i;
        ids[i] = token[i].id;
        if (token[i].id != w[0] || token[i].word != w[1] || (int)token[i].start != w[2] ||
            (int)token[i].end != w[3])
            test_fail(__FILE__, __LINE__, "\"%s\", %zu: %d, word %d, %zu to %zu", text, i,
                      token[i].id, token[i].word, token[i].start, token[i].end);
    }
    CHECK(llm_parts_text_decode(t->parts, &back, ids, count, NULL));
    if (strcmp(back.data ? back.data : "", decoded) != 0)
        test_fail(__FILE__, __LINE__, "\"%s\" came back as \"%s\"", text, back.data);
    llm_buffer_free(&tokens);
    llm_buffer_free(&back);
}

static const char ptext_file[] =
    "{\"added_tokens\":[{\"id\":9,\"content\":\"<X>\",\"special\":true,\"normalized\":false},"
    "{\"id\":10,\"content\":\"AB\",\"special\":false,\"normalized\":true}],"
    "\"normalizer\":{\"type\":\"BertNormalizer\"},\"pre_tokenizer\":{\"type\":\"WhitespaceSplit\"},"
    "\"decoder\":null,\"model\":{\"type\":\"BPE\",\"unk_token\":\"?\",\"fuse_unk\":true,"
    "\"vocab\":{\"?\":0,\"a\":1,\"b\":2,\"ba\":3,\"e\":4},\"merges\":[\"b a\"]}}";

TEST(parts_text, "by hand: places in the original, words that count added tokens, broken bytes") {
    llm_tokenizer t = ptext_load(ptext_file);
    static const int one[24] = {3, 0, 0, 2, 9, 1, 2, 5, 4, 2, 6, 8, 0, 2, 8, 9, 10, 3, 10, 12};
    ptext_is(&t, "Ba<X> \xC3\xA9z ab", true, one, 5, "ba <X> e ? ab");
    static const int two[8] = {0, 0, 0, 3, 3, 1, 4, 6};
    ptext_is(&t, "<X> ba", false, two, 2, "? ba");
    static const int three[12] = {1, 0, 0, 1, 0, 0, 1, 2, 4, 0, 2, 4};
    ptext_is(&t, "A!\xC3\x89", true, three, 3, "a ? e");
    ptext_is(&t, "", true, three, 0, "");
    ptext_is(&t, " \xFF\t", true, three, 0, ""); /* a broken byte is cleared away */
    llm_buffer back = {NULL, 0, 0}, tokens = {NULL, 0, 0};
    llm_error error;
    const int bad[3] = {1, 5, 0}, negative = -1, beyond = 11;
    CHECK_FAILS(llm_parts_text_decode(t.parts, &back, bad, 3, &error), error,
                "token 1 of 3: found id 5, expected one of the vocabulary");
    CHECK_FAILS(llm_parts_text_decode(t.parts, &back, &negative, 1, &error), error,
                "token 0 of 1: found id -1, expected one");
    CHECK_FAILS(llm_parts_text_decode(t.parts, &back, &beyond, 1, &error), error,
                "token 0 of 1: found id 11, expected one");
    CHECK_FAILS(llm_parts_text_encode(t.parts, &tokens, "", (size_t)INT_MAX / 64 + 1, true, &error),
                error, "bytes: expected below 2^25");
    ptext_calls = 0; /* the largest size is no error, but that memory is out at once */
    CHECK_FAILS(llm_parts_text_encode(t.parts, &tokens, "a", (size_t)INT_MAX / 64, true, &error),
                error, "out of memory");
    ptext_calls = 1 << 30;
    CHECK(back.size == 0 && tokens.size == 0);
    llm_buffer_free(&back);
    llm_tokenizer_free(&t);
}

TEST(parts_text, "byte-level BPE has the same ids the fast way and as parts, whatever the bytes") {
    static const llm_pre_tokenize_kind pattern[2] = {LLM_PRE_TOKENIZE_GPT2, LLM_PRE_TOKENIZE_QWEN2};
    char *text = (char *)test_memory(TINY_HOSTILE_MOST, 1);
    for (size_t k = 0; k < 2; k++) {
        static const char book[] =
            "the cat's 12 hats, the cats' 1234 mats caf\xC3\xA9 caf\xC3\xA9 \n\n";
        llm_bpe bpe;
        llm_tokenizer fast;
        llm_file file;
        llm_error error;
        CHECK(llm_bpe_train(&bpe, book, sizeof book - 1, pattern[k], 280, &error));
        llm_tokenizer_from_bpe(&fast, &bpe, pattern[k]);
        CHECK(llm_tokenizer_add_special(&fast, "the", &error));
        fast.prefix_space = k == 0;
        CHECK(llm_tokenizer_save_json(&fast, test_path("t.json"), &error));
        CHECK(llm_file_read(&file, test_path("t.json"), &error));
        llm_tokenizer slow = ptext_load((const char *)file.data);
        for (size_t group = 0; group < TINY_HOSTILE_GROUPS; group++)
            for (size_t i = 0; i < TINY_HOSTILE_EACH; i += 9) {
                const size_t size = tiny_hostile(text, group, i);
                int *want;
                size_t n;
                llm_buffer tokens = {NULL, 0, 0}, back = {NULL, 0, 0}, shown = {NULL, 0, 0};
                CHECK(llm_tokenizer_encode_special(&fast, &want, &n, text, size, &error));
                CHECK(llm_parts_text_encode(slow.parts, &tokens, text, size, true, &error));
                const llm_parts_text_token *token =
                    (const llm_parts_text_token *)(const void *)tokens.data;
                CHECK(tokens.size == n * sizeof *token);
                for (size_t j = 0; j < n; j++) CHECK(token[j].id == want[j]);
                CHECK(llm_parts_text_decode(slow.parts, &back, want, n, &error));
                CHECK(llm_tokenizer_decode(&fast, &shown, want, n, &error));
                llm_buffer valid = {NULL, 0, 0}; /* what is no character is shown as U+FFFD */
                CHECK(llm_token_replace(&valid, shown.data ? shown.data : "", shown.size));
                CHECK(valid.size == back.size);
                CHECK(valid.size == 0 || memcmp(valid.data, back.data, back.size) == 0);
                free(want);
                llm_buffer_free(&tokens);
                llm_buffer_free(&back);
                llm_buffer_free(&shown);
                llm_buffer_free(&valid);
            }
        llm_file_free(&file);
        llm_tokenizer_free(&slow);
        llm_tokenizer_free(&fast);
    }
}

TEST(parts_text, "of what is dropped the next token takes the place, and a long word finds room") {
    llm_tokenizer t =
        ptext_load("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[]}}");
    static const int one[8] = {0, 0, 0, 1, 1, 0, 1, 4};
    ptext_is(&t, "axyb", true, one, 2, "a b");
    enum { LONG = 30000 };
    char *text = (char *)test_memory(LONG, 1);
    memset(text, 'b', LONG);
    llm_buffer tokens = {NULL, 0, 0};
    CHECK(llm_parts_text_encode(t.parts, &tokens, text, LONG, true, NULL));
    const llm_parts_text_token *token = (const llm_parts_text_token *)(const void *)tokens.data;
    CHECK(tokens.size == LONG * sizeof *token && token[LONG - 1].end == LONG);
    llm_buffer_free(&tokens);
    llm_tokenizer_free(&t);
}

TEST(parts_text, "Unigram's byte tokens have the place of the unknown characters that they spell") {
    llm_buffer file = {NULL, 0, 0};
    CHECK(llm_buffer_print(&file, "{\"decoder\":{\"type\":\"ByteFallback\"},\"model\":{\"type\":"
                                  "\"Unigram\",\"unk_id\":0,\"byte_fallback\":true,\"vocab\":["
                                  "[\"?\",0.0],[\"a\",-1.0],[\"b\",-2.0]"));
    for (unsigned b = 0; b < 256; b++) CHECK(llm_buffer_print(&file, ",[\"<0x%02X>\",-5.0]", b));
    CHECK(llm_buffer_print(&file, "]}}"));
    llm_tokenizer t = ptext_load(file.data);
    static const int one[16] = {1, 0, 0, 1, 198, 0, 1, 3, 172, 0, 1, 3, 2, 0, 3, 4};
    ptext_is(&t,
             "a\xC3\xA9"
             "b",
             true, one, 4,
             "a\xC3\xA9"
             "b");
    static const int row[20] = {1, 0, 0, 1, 198, 0, 1, 5, 172, 0, 1, 5, 198, 0, 1, 5, 191, 0, 1, 5};
    ptext_is(&t, "a\xC3\xA9\xC3\xBC", true, row, 5, "a\xC3\xA9\xC3\xBC");
    ptext_is(&t, "a\xC3\xA9", true, one, 3, "a\xC3\xA9");
    llm_buffer_free(&file);
    llm_tokenizer_free(&t);
}

TEST(parts_text, "tokens are appended, and a control token that is not read hides those in it") {
    llm_tokenizer t = ptext_load(
        "{\"added_tokens\":[{\"id\":4,\"content\":\"<X>\",\"special\":true,\"normalized\":false},"
        "{\"id\":5,\"content\":\"X>\",\"special\":false,\"normalized\":false}],\"model\":{\"type\":"
        "\"BPE\",\"unk_token\":\"?\",\"vocab\":{\"?\":0,\"<\":1,\"X\":2,\">\":3},\"merges\":[]}}");
    static const int want[6] = {4, 5, 1, 2, 3, 5};
    llm_buffer tokens = {NULL, 0, 0};
    for (int special = 1; special >= 0; special--)
        CHECK(llm_parts_text_encode(t.parts, &tokens, "<X>X>", 5, special == 1, NULL));
    const llm_parts_text_token *token = (const llm_parts_text_token *)(const void *)tokens.data;
    CHECK(tokens.size == 6 * sizeof *token);
    for (size_t i = 0; i < 6; i++) CHECK(token[i].id == want[i]);
    llm_buffer_free(&tokens);
    llm_tokenizer_free(&t);
}

TEST(parts_text, "when memory is out, it says so and nothing leaks") {
    static const char text[] = "Ba<X> \xC3\xA9z AB";
    static const int ids[5] = {3, 9, 4, 0, 10};
    llm_tokenizer t = ptext_load(ptext_file);
    for (int decode = 0; decode < 2; decode++) {
        bool ok = false;
        size_t failed = 0;
        for (int calls = 0; calls < 300 && !ok; calls++) {
            llm_buffer out = {NULL, 0, 0};
            llm_error error;
            ptext_calls = calls;
            ok = decode ? llm_parts_text_decode(t.parts, &out, ids, 5, &error)
                        : llm_parts_text_encode(t.parts, &out, text, sizeof text - 1, true, &error);
            CHECK(ok == (ptext_calls >= 0)); /* whatever fails is told */
            ptext_calls = 1 << 30;
            failed += !ok;
            CHECK(ok || strstr(error.message, "out of memory"));
            llm_buffer_free(&out);
        }
        CHECK(ok && failed >= (decode ? 3 : 15));
    }
    llm_tokenizer_free(&t);
}
