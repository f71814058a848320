/* @token_pipeline */
#include "../test.h"
#include "../tiny_hostile.h"

/* realloc that fails once, after a number of calls */
static int pipe_calls = 1 << 30;
static void *pipe_realloc(void *p, size_t size) {
    return pipe_calls-- != 0 ? realloc(p, size) : NULL;
}
#define realloc pipe_realloc

#include "../../llm.h"
#include "../tiny_parts.h"

static llm_tokenizer pipe_tokenizer(void) {
    size_t n;
    llm_bpe bpe;
    llm_tokenizer t;
    const float *merge = golden_n(&n, "bpe/merges");
    CHECK(llm_bpe_create(&bpe));
    for (size_t i = 0; i < n; i += 2)
        CHECK(llm_bpe_add(&bpe, (int)merge[i], (int)merge[i + 1]) > 0);
    llm_tokenizer_from_bpe(&t, &bpe, LLM_PRE_TOKENIZE_GPT2);
    CHECK(llm_tokenizer_add_special(&t, "[CLS]", NULL));
    CHECK(llm_tokenizer_add_special(&t, "[SEP]", NULL));
    return t;
}
static const char pipe_other[] = "the cat sat, caf\xC3\xA9s and so on";
static const llm_token_pipeline pipe_settings = {"[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1",
                                                 SIZE_MAX, 0, LLM_TOKEN_WINDOWS_LONGEST};

typedef struct {
    llm_tokenizer t;
    llm_token_pipeline p;
    const char *other;
} pipe_case;

/* The characters before a byte; of a byte inside one, before it (`up`: behind it). */
static uint32_t pipe_place(const char *text, size_t size, size_t byte, bool up) {
    uint32_t code, count = 0;
    size_t at = 0;
    while (at < byte) {
        const size_t n = llm_unicode_decode(&code, text + at, size - at);
        if (at + n > byte && !up) break;
        at += n;
        count++;
    }
    return count;
}

static size_t pipe_answer(uint32_t *out, const char *text, size_t size, const void *context) {
    enum { MOST = 500 };
    const pipe_case *c = (const pipe_case *)context;
    llm_buffer tokens = {NULL, 0, 0}, ends = {NULL, 0, 0};
    size_t n = 0;
    const size_t other = c->other ? strlen(c->other) : 0;
    const bool ok =
        llm_token_pipeline_run(&tokens, &ends, &c->p, &c->t, text, size, c->other, other, NULL);
    const size_t *end = (const size_t *)(const void *)ends.data;
    const size_t windows = ends.size / sizeof *end;
    const llm_token_pipeline_token *token =
        (const llm_token_pipeline_token *)(const void *)tokens.data;
    out[n++] = ok ? (uint32_t)windows : 0;
    for (size_t w = 0, i = 0; ok && w < windows && w < 3; w++) {
        if (n < MOST) out[n++] = (uint32_t)(end[w] - i);
        for (; i < end[w]; i++) {
            if (n >= MOST) continue;
            const llm_token_pipeline_token k = token[i];
            const char *of = k.text == 1 ? c->other : text;
            const size_t length = k.text == 1 ? other : size;
            const uint32_t row[6] = {(uint32_t)k.id,
                                     (uint32_t)k.type,
                                     (uint32_t)(k.text + 1),
                                     (uint32_t)(k.word + 1),
                                     pipe_place(of, length, k.start, false),
                                     pipe_place(of, length, k.end, true)};
            for (size_t j = 0; j < 6 && n < MOST; j++) out[n++] = row[j];
        }
    }
    llm_buffer_free(&tokens);
    llm_buffer_free(&ends);
    return n;
}

TEST(token_pipeline,
     "2,200 texts, alone and in pairs, cut and in windows: as tokenizers has them") {
    static const struct {
        const char *name, *other;
        size_t most, stride;
        llm_token_windows_strategy strategy;
    } row[7] = {{"single", NULL, SIZE_MAX, 0, LLM_TOKEN_WINDOWS_LONGEST},
                {"windows", NULL, 9, 3, LLM_TOKEN_WINDOWS_LONGEST},
                {"tight", NULL, 4, 1, LLM_TOKEN_WINDOWS_LONGEST},
                {"pair", pipe_other, SIZE_MAX, 0, LLM_TOKEN_WINDOWS_LONGEST},
                {"longest", pipe_other, 16, 2, LLM_TOKEN_WINDOWS_LONGEST},
                {"odd", pipe_other, 12, 0, LLM_TOKEN_WINDOWS_LONGEST},
                {"first", pipe_other, 30, 2, LLM_TOKEN_WINDOWS_FIRST}};
    pipe_case c;
    c.t = pipe_tokenizer();
    for (size_t k = 0; k < 7; k++) {
        char name[32];
        c.p = pipe_settings;
        c.p.most = row[k].most, c.p.stride = row[k].stride, c.p.strategy = row[k].strategy;
        c.other = row[k].other;
        snprintf(name, sizeof name, "hash/%s", row[k].name);
        tiny_hostile_check(name, TINY_HOSTILE_KNOWN, pipe_answer, &c);
    }
    llm_tokenizer_free(&c.t);
}

static size_t pipe_known(uint32_t *out, const char *text, size_t size, const void *context) {
    return tiny_parts_old(text, size) ? 0 : pipe_answer(out, text, size, context);
}

/* A tokenizer of a golden file. */
static llm_tokenizer pipe_file(const char *name) {
    llm_tokenizer t;
    llm_error error;
    llm_bpe none = llm_bpe_empty();
    llm_json j = tiny_parts_json(tiny_parts_file(name));
    llm_tokenizer_from_bpe(&t, &none, LLM_PRE_TOKENIZE_GPT2);
    if (!llm_tokenizer_parse_json(&t, &j, &error))
        test_fail(__FILE__, __LINE__, "%s", error.message);
    llm_json_free(&j);
    return t;
}

TEST(token_pipeline,
     "BERT uncased with the template of its file: ids, types and places in the original") {
    pipe_case c;
    c.t = pipe_file("bert");
    c.p = pipe_settings;
    c.p.single = c.p.pair = NULL;
    c.other = NULL;
    tiny_hostile_check("hash/bert", 6, pipe_known, &c);
    c.p.most = 9, c.p.stride = 3;
    c.other = pipe_other;
    tiny_hostile_check("hash/bert_pair", 6, pipe_known, &c);
    llm_tokenizer_free(&c.t);
}

TEST(token_pipeline, "the bytes of a token are those it was made of, whatever a normalizer did") {
    static const char text[] = "CAF\xC3\x89, the  \xE4\xB8\xADx";
    llm_tokenizer t = pipe_file("bert");
    llm_buffer out = {NULL, 0, 0};
    llm_error error;
    CHECK(llm_token_pipeline_text(&out, &t, 0, text, sizeof text - 1, &error));
    const llm_token_pipeline_token *token =
        (const llm_token_pipeline_token *)(const void *)out.data;
    const size_t n = out.size / sizeof *token;
    CHECK(n > 4 && token[0].start == 0 && token[n - 1].end == sizeof text - 1);
    for (size_t byte = 0; byte < sizeof text - 1; byte++) { /* white space belongs to nobody */
        const size_t i = llm_token_pipeline_find(token, n, 0, byte);
        CHECK((i < n) == (text[byte] != ' '));
    }
    for (size_t i = 1; i < n; i++)
        CHECK(token[i].start >= token[i - 1].start && token[i].word >= token[i - 1].word);
    CHECK(token[n - 1].word == token[0].word + 4); /* cafe , the zhong x */
    for (size_t i = 0; i < n; i++) CHECK(token[i].type == 0 && token[i].text == 0);
    out.size = 0; /* the name of a control token is text */
    CHECK(llm_token_pipeline_text(&out, &t, 0, "[CLS]", 5, &error));
    token = (const llm_token_pipeline_token *)(const void *)out.data;
    CHECK(out.size > 2 * sizeof *token && token[0].id != llm_tokenizer_id(&t, "[CLS]"));
    llm_buffer_free(&out);
    llm_tokenizer_free(&t);
    t = pipe_tokenizer(); /* no template at all */
    llm_token_pipeline p = pipe_settings;
    llm_buffer ends = {NULL, 0, 0};
    p.single = p.pair = NULL;
    CHECK(llm_token_pipeline_run(&out, &ends, &p, &t, "ab", 2, NULL, 0, &error));
    CHECK(out.size == 2 * sizeof(llm_token_pipeline_token));
    out.size = ends.size = 0;
    CHECK(llm_token_pipeline_run(&out, &ends, &p, &t, "ab", 2, "c", 1, &error));
    CHECK(out.size == 3 * sizeof(llm_token_pipeline_token));
    llm_buffer_free(&out);
    llm_buffer_free(&ends);
    llm_tokenizer_free(&t);
}

TEST(token_pipeline, "a tokenizer of parts that runs out of memory says so") {
    llm_tokenizer t = pipe_file("bert");
    bool ok = false;
    for (int calls = 0; calls < 200 && !ok; calls++) {
        llm_buffer out = {NULL, 0, 0};
        llm_error error;
        pipe_calls = calls;
        ok = llm_token_pipeline_text(&out, &t, 0, "the cat", 7, &error);
        CHECK(ok == (pipe_calls >= 0)); /* whatever fails is told */
        pipe_calls = 1 << 30;
        CHECK(ok || strstr(error.message, "out of memory"));
        llm_buffer_free(&out);
    }
    CHECK(ok);
    llm_tokenizer_free(&t);
}

/* A small model of Llama's kind: bytes, and pieces of which some begin with a space (_). */
static llm_tokenizer pipe_pieces(bool prefix) {
    static const char *const more[8] = {"_", "a", "b", "_a", "ab", "_ab", "__", "\xC3\xA9"};
    llm_tokenizer t;
    llm_bpe none = llm_bpe_empty();
    llm_tokenizer_from_bpe(&t, &none, LLM_PRE_TOKENIZE_GPT2);
    t.spm = llm_spm_empty();
    t.spm.model = LLM_SPM_BPE, t.spm.squeeze = false, t.spm.prefix = prefix;
    for (int b = 0; b < 256; b++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)b);
        CHECK(llm_pieces_put(&t.spm.pieces, text, 6, 0.0, LLM_PIECES_BYTE, NULL));
    }
    for (size_t i = 0; i < 8; i++) {
        llm_buffer spelt = {NULL, 0, 0};
        for (const char *c = more[i]; *c; c++)
            CHECK(llm_pieces_spell(&spelt, *c == '_' ? " " : c, 1, false));
        CHECK(llm_pieces_put(&t.spm.pieces, spelt.data, spelt.size, -(double)i, LLM_PIECES_NORMAL,
                             NULL));
        llm_buffer_free(&spelt);
    }
    CHECK(llm_pieces_ready(&t.spm.pieces, NULL) && llm_tokenizer_binary_pieces(&t, NULL));
    return t;
}

TEST(token_pipeline, "places tile the text, words are runs, and every byte finds its token") {
    static const char *const text[9] = {"",
                                        " ",
                                        "a",
                                        " ab",
                                        "ab ab  a",
                                        "  ab",
                                        "\xE2\x96\x81 a\xC3\xA9z",
                                        "the cat's \xF0\x9F\x98\x80\n\n b",
                                        "[CLS] a"};
    for (int kind = 0; kind < 4; kind++) { /* bytes, with a space in front; pieces, without one */
        llm_tokenizer t = kind < 2 ? pipe_tokenizer() : pipe_pieces(kind == 2);
        t.prefix_space = kind == 1;
        for (size_t k = 0; k < 9; k++) {
            const size_t size = strlen(text[k]);
            char *exact = (char *)malloc(size + 1) + 1; /* nothing behind it, and of "" no byte */
            if (size > 0) memcpy(exact, text[k], size);
            llm_buffer out = {NULL, 0, 0};
            CHECK(llm_token_pipeline_text(&out, &t, 1, exact, size, NULL));
            const llm_token_pipeline_token *token =
                (const llm_token_pipeline_token *)(const void *)out.data;
            const size_t n = out.size / sizeof *token;
            size_t at = 0;
            int word = 0;
            for (size_t i = 0; i < n; i++) {
                CHECK(token[i].start == at && token[i].end >= at && token[i].end <= size);
                CHECK(token[i].text == 1 && token[i].type == 0);
                CHECK(token[i].word == word || token[i].word == word + 1);
                word = token[i].word;
                at = token[i].end;
                if (kind < 2) { /* the token is the slice, the first one behind its space */
                    size_t length;
                    const size_t front = kind == 1 && i == 0 && exact[0] != ' ';
                    const char *bytes =
                        llm_vocab_table_bytes(&t.bpe.token, (size_t)token[i].id, &length);
                    CHECK(length == front + token[i].end - token[i].start);
                    CHECK(memcmp(bytes + front, exact + token[i].start, length - front) == 0);
                }
            }
            CHECK(at == size);
            for (size_t byte = 0; byte < size; byte++) {
                const size_t i = llm_token_pipeline_find(token, n, 1, byte);
                CHECK(i < n && token[i].start <= byte && byte < token[i].end);
                CHECK(llm_token_pipeline_find(token, n, 0, byte) == n);
            }
            CHECK(llm_token_pipeline_find(token, n, 1, size) == n);
            if (kind == 2 && k == 3) /* the space in front of the space has no byte */
                CHECK(n == 2 && token[0].end == 0 && token[1].end == 3);
            if (kind == 2 && k == 4) { /* "ab" " ab" " " " a" */
                const size_t want[5] = {0, 2, 5, 6, 8};
                CHECK(n == 4 && token[0].word == 0 && token[1].word == 1 && token[2].word == 2);
                for (size_t i = 0; i < 4; i++)
                    CHECK(token[i].start == want[i] && token[i].end == want[i + 1]);
            }
            llm_buffer_free(&out);
            free(exact - 1);
        }
        llm_tokenizer_free(&t);
    }
}

TEST(token_pipeline,
     "added tokens that are no control tokens, with an id of their own or a gap's") {
    static const char text[] = "a<x>b<yy><x>\xC3\xA9";
    static const size_t want[8] = {0, 1, 4, 5, 9, 12, 13, 14};
    llm_bpe bpe;
    llm_buffer out = {NULL, 0, 0};
    CHECK(llm_bpe_create(&bpe) && llm_vocab_table_skip(&bpe.token));
    llm_tokenizer t;
    llm_tokenizer_from_bpe(&t, &bpe, LLM_PRE_TOKENIZE_GPT2);
    CHECK(llm_added_tokens_put(&t.added, 256, "<x>", 3, false, false));
    CHECK(llm_added_tokens_put(&t.added, 257, "<yy>", 4, false, false));
    t.vocab = 258;
    CHECK(llm_token_pipeline_text(&out, &t, 0, text, sizeof text - 1, NULL));
    const llm_token_pipeline_token *token =
        (const llm_token_pipeline_token *)(const void *)out.data;
    CHECK(out.size == 7 * sizeof *token);
    CHECK(token[1].id == 256 && token[3].id == 257 && token[4].id == 256);
    for (size_t i = 0; i < 7; i++) CHECK(token[i].start == want[i] && token[i].end == want[i + 1]);
    llm_buffer_free(&out);
    llm_tokenizer_free(&t);
}

TEST(token_pipeline, "windows of both texts in the order of tokenizers") {
    static const char *const want[4] = {"abcduvwx", "cdefuvwx", "cdefwxyz", "abcdwxyz"};
    llm_bpe bpe;
    llm_tokenizer t;
    llm_buffer out = {NULL, 0, 0}, ends = {NULL, 0, 0};
    llm_token_pipeline p = pipe_settings;
    p.pair = "$A $B", p.most = 8, p.stride = 2;
    CHECK(llm_bpe_create(&bpe));
    llm_tokenizer_from_bpe(&t, &bpe, LLM_PRE_TOKENIZE_GPT2);
    CHECK(llm_token_pipeline_run(&out, &ends, &p, &t, "abcdef", 6, "uvwxyz", 6, NULL));
    const llm_token_pipeline_token *token =
        (const llm_token_pipeline_token *)(const void *)out.data;
    const size_t *end = (const size_t *)(const void *)ends.data;
    CHECK(ends.size == 4 * sizeof *end);
    for (size_t w = 0; w < 4; w++) {
        CHECK(end[w] == 8 * (w + 1));
        for (size_t i = 0; i < 8; i++) {
            const llm_token_pipeline_token one = token[8 * w + i];
            CHECK((one.text ? "uvwxyz" : "abcdef")[one.start] == want[w][i]);
        }
    }
    llm_buffer_free(&out);
    llm_buffer_free(&ends);
    llm_tokenizer_free(&t);
}

TEST(token_pipeline, "types behind a colon, and names that look like them") {
    static const char *const name[5] = {"!", "x7", "t:a", "t:/", "12"};
    static const struct {
        const char *template_text;
        int type[2]; /* of at most two tokens */
    } row[6] = {{"!:4 !", {4, 0}},     {"x7 x7:9", {0, 9}},    {"t:a t:a:0", {0, 0}},
                {"t:/:1 t:/", {1, 0}}, {"$A:0 $B:3", {0, -1}}, {"12 12:2", {0, 2}}};
    llm_tokenizer t = pipe_tokenizer();
    llm_error error;
    llm_buffer out = {NULL, 0, 0}, ends = {NULL, 0, 0};
    llm_token_pipeline p = pipe_settings;
    for (size_t i = 0; i < 5; i++) CHECK(llm_tokenizer_add_special(&t, name[i], &error));
    for (size_t k = 0; k < 6; k++) {
        p.single = row[k].template_text;
        out.size = ends.size = 0;
        if (!llm_token_pipeline_run(&out, &ends, &p, &t, "z", 1, NULL, 0, &error))
            test_fail(__FILE__, __LINE__, "%s: %s", p.single, error.message);
        const llm_token_pipeline_token *token =
            (const llm_token_pipeline_token *)(const void *)out.data;
        const size_t n = out.size / sizeof *token;
        CHECK(n == (row[k].type[1] < 0 ? 1 : 2));
        for (size_t i = 0; i < n; i++) CHECK(token[i].type == row[k].type[i]);
    }
    p.single = ":5";
    CHECK_FAILS(llm_token_pipeline_run(&out, &ends, &p, &t, "z", 1, NULL, 0, &error), error,
                "template: \":5\" is no control token");
    p.single = "[CLS] $A"; /* all room is the template's, and there is no text */
    p.most = 1;
    out.size = ends.size = 0;
    CHECK(llm_token_pipeline_run(&out, &ends, &p, &t, "", 0, NULL, 0, &error));
    CHECK(out.size == sizeof(llm_token_pipeline_token) && ends.size == sizeof(size_t));
    llm_buffer_free(&out);
    llm_buffer_free(&ends);
    llm_tokenizer_free(&t);
}

TEST(token_pipeline, "templates, and what is wrong in one sentence; memory runs out") {
    llm_tokenizer t = pipe_tokenizer();
    llm_error error;
    llm_token_pipeline p = pipe_settings;
    llm_buffer out = {NULL, 0, 0}, ends = {NULL, 0, 0};
    p.single = "$A:7 [SEP]:2 $A $B [CLS]";
    CHECK(llm_token_pipeline_run(&out, &ends, &p, &t, "a", 1, NULL, 0, &error));
    const llm_token_pipeline_token *k = (const llm_token_pipeline_token *)(const void *)out.data;
    CHECK(out.size / sizeof *k == 4 && k[0].type == 7 && k[1].type == 2 && k[1].word == -1);
    CHECK(k[2].id == k[0].id && k[2].type == 0 && k[3].text == -1);
    llm_buffer_free(&out);
    llm_buffer_free(&ends);
    static const struct {
        const char *single;
        size_t most, stride;
        llm_token_windows_strategy strategy;
        bool pair;
        const char *error;
    } row[] = {
        {"[CLS] [MASK]:1 $A", SIZE_MAX, 0, LLM_TOKEN_WINDOWS_LONGEST, false,
         "template: \"[MASK]\" is no control token"},
        {"$C", SIZE_MAX, 0, LLM_TOKEN_WINDOWS_LONGEST, false, "template: \"$C\" is no control"},
        {"[CLS] $A", 0, 0, LLM_TOKEN_WINDOWS_LONGEST, false,
         "pipeline: 1 tokens of the template, expected at most 0"},
        {"[CLS] $A", 3, 2, LLM_TOKEN_WINDOWS_LONGEST, false,
         "pipeline: windows of 2 tokens, expected more than the stride"},
        {"", 5, 0, LLM_TOKEN_WINDOWS_FIRST, true, "pipeline: the text to be cut is shorter"},
        {"", 4, 1, LLM_TOKEN_WINDOWS_LONGEST, true, "pipeline: windows of 0 tokens"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        p = pipe_settings;
        p.single = row[i].single, p.most = row[i].most, p.stride = row[i].stride;
        p.strategy = row[i].strategy;
        CHECK_FAILS(llm_token_pipeline_run(&out, &ends, &p, &t, "xyzw", 4,
                                           row[i].pair ? "0123456789" : NULL, 10, &error),
                    error, row[i].error);
        llm_buffer_free(&out);
        llm_buffer_free(&ends);
    }
    bool ok = false;
    for (int calls = 0; calls < 60 && !ok; calls++) {
        error.message[0] = 0;
        pipe_calls = calls;
        ok = llm_token_pipeline_run(&out, &ends, &pipe_settings, &t, "a b", 3, "c", 1, &error);
        CHECK(ok == (pipe_calls >= 0)); /* whatever fails is told */
        pipe_calls = 1 << 30;
        CHECK(ok || strstr(error.message, "out of memory"));
        llm_buffer_free(&out);
        llm_buffer_free(&ends);
    }
    CHECK(ok);
    llm_tokenizer_free(&t);
    for (int k = 0; k < 4; k++) { /* each of these alone */
        t = pipe_pieces(true);
        if (k == 0) t.spm.squeeze = true;
        if (k == 1) t.spm.suffix = true;
        if (k == 2) t.spm.rules.size = 1;
        if (k == 3) t.spm.pieces.byte_id[7] = -1;
        CHECK_FAILS(llm_token_pipeline_text(&out, &t, 0, "a", 1, &error), error,
                    "pipeline: places through rules or unknown pieces: not supported");
        llm_tokenizer_free(&t);
    }
}
