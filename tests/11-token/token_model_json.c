/* @token_model_json */
#include "../test.h"

#include "../tiny_hostile.h"

/* malloc and its like that fail once, after a number of calls */
static int mjson_calls = 1 << 30;
static void *mjson_malloc(size_t size) { return mjson_calls-- != 0 ? malloc(size) : NULL; }
static void *mjson_calloc(size_t n, size_t size) {
    return mjson_calls-- != 0 ? calloc(n, size) : NULL;
}
static void *mjson_realloc(void *p, size_t size) {
    return mjson_calls-- != 0 ? realloc(p, size) : NULL;
}
#define malloc mjson_malloc
#define calloc mjson_calloc
#define realloc mjson_realloc

#include "../../llm.h"
#include "../tiny_parts.h"

/* Reads a model; "<s>" with id 1 is a control token, "more" with id 2 an added one. */
static bool mjson_read(llm_token_model *m, const char *text, llm_error *error) {
    llm_added_tokens added;
    llm_json j = tiny_parts_json(text);
    memset(&added, 0, sizeof added);
    CHECK(llm_added_tokens_put(&added, 1, "<s>", 3, true, false));
    CHECK(llm_added_tokens_put(&added, 2, "more", 4, false, false));
    *m = llm_token_model_empty();
    error->message[0] = 0;
    const bool ok = llm_token_model_json_read(m, &j, j.node, &added, error);
    CHECK(ok == !error->message[0]);
    llm_json_free(&j);
    llm_added_tokens_free(&added);
    return ok;
}

static const char mjson_bpe[] =
    "{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":\"?\",\"continuing_subword_prefix\":null,"
    "\"end_of_word_suffix\":null,\"fuse_unk\":true,\"byte_fallback\":false,\"ignore_merges\":true,"
    "\"vocab\":{\"b\":3,\"?\":0,\"a\":1,\"ab\":5,\"c d\":6},\"merges\":[[\"a\",\"b\"]]}";
static const char mjson_uni[] =
    "{\"type\":\"Unigram\",\"unk_id\":0,\"byte_fallback\":false,\"vocab\":[[\"?\",0.0],"
    "[\"<s>\",0],[\"more\",-2],[\"a\",-3.5],[\"<0x41>\",-7]]}";
static const char mjson_word[] =
    "{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","
    "\"max_input_chars_per_word\":100,\"vocab\":{\"[UNK]\":0,\"a\":1,\"##b\":2}}";

TEST(token_model_json, "each kind of model is read") {
    llm_token_model m;
    llm_error error;
    size_t size;
    CHECK(mjson_read(&m, mjson_bpe, &error) && m.kind == LLM_TOKEN_MODEL_BPE);
    CHECK(m.bpe.token.count == 7 && m.bpe.merges == 1 && m.bpe.merge[0].result == 5);
    CHECK(m.bpe.merge[0].left == 1 && m.bpe.merge[0].right == 3);
    CHECK(m.unknown == 0 && m.fuse && m.ignore_merges && !m.fallback);
    llm_vocab_table_bytes(&m.bpe.token, 2, &size); /* a gap */
    CHECK(size == 0 && llm_vocab_table_find(&m.bpe.token, "b", 1) == 3);
    llm_token_model_free(&m);
    static const char *const other[][2] = {
        {"\"type\":\"BPE\",", ""},
        {"\"merges\":[[\"a\",\"b\"]]", "\"merges\":[\"a b\"]"},
        {"\"dropout\":null", "\"dropout\":0"},
        {"\"continuing_subword_prefix\":null,", ""},
        {"\"end_of_word_suffix\":null", "\"end_of_word_suffix\":\"\""}};
    for (size_t i = 0; i < 5; i++) {
        if (!mjson_read(&m, tiny_parts_with(mjson_bpe, other[i][0], other[i][1]), &error))
            test_fail(__FILE__, __LINE__, "%s: %s", other[i][0], error.message);
        CHECK(m.kind == LLM_TOKEN_MODEL_BPE && m.bpe.merges == 1 && m.bpe.merge[0].result == 5);
        llm_token_model_free(&m);
    }
    CHECK(mjson_read(&m, "{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}", &error));
    CHECK(m.unknown == -1 && !m.fuse && !m.ignore_merges && !m.fallback && m.bpe.byte_id[0] == -1);
    llm_token_model_free(&m);
    CHECK(mjson_read(&m, "{\"type\":\"WordLevel\",\"vocab\":{\"a\":0,\"b\":1},\"unk_token\":\"b\"}",
                     &error));
    CHECK(m.kind == LLM_TOKEN_MODEL_WORDS && m.unknown == 1 && m.bpe.merges == 0);
    llm_token_model_free(&m);
    CHECK(mjson_read(&m, mjson_word, &error) && m.kind == LLM_TOKEN_MODEL_WORDPIECE);
    CHECK(m.wordpiece.token.count == 3 && m.wordpiece.unknown == 0);
    llm_token_model_free(&m);
    CHECK(mjson_read(&m, mjson_uni, &error) && m.kind == LLM_TOKEN_MODEL_UNIGRAM);
    static const llm_pieces_kind kind[5] = {LLM_PIECES_UNKNOWN, LLM_PIECES_CONTROL,
                                            LLM_PIECES_NORMAL, LLM_PIECES_NORMAL,
                                            LLM_PIECES_NORMAL};
    static const double score[5] = {0.0, 0.0, -2.0, -3.5, -7.0};
    for (size_t id = 0; id < 5; id++) {
        CHECK(llm_pieces_get(&m.pieces, id).kind == kind[id]);
        CHECK_NEAR(llm_pieces_get(&m.pieces, id).score, score[id], 0);
    }
    CHECK(m.pieces.unknown == 0 && m.pieces.trie.cells > 0);
    llm_token_model_free(&m);
}

TEST(token_model_json, "ids of 0 in merges and what they make, no tokens at all, bytes by name") {
    llm_token_model m;
    llm_error error;
    static const char *const file[2] = {"{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,"
                                        "\"ba\":3},\"merges\":[\"a b\",\"b a\"]}",
                                        "{\"type\":\"BPE\",\"vocab\":{\"ab\":0,\"a\":1,\"b\":2,"
                                        "\"ba\":3},\"merges\":[\"a b\",\"b a\"]}"};
    for (size_t i = 0; i < 2; i++) {
        CHECK(mjson_read(&m, file[i], &error) && m.bpe.merges == 2);
        CHECK(m.bpe.merge[0].result == (i == 0 ? 2 : 0) && m.bpe.merge[1].result == 3);
        llm_token_model_free(&m);
    }
    CHECK(mjson_read(&m, "{\"type\":\"WordLevel\",\"vocab\":{}}", &error));
    CHECK(m.bpe.token.count == 0);
    llm_token_model_free(&m);
    CHECK(mjson_read(&m, tiny_parts_with(mjson_uni, "\"byte_fallback\":false,", ""), &error));
    CHECK(llm_pieces_get(&m.pieces, 4).kind == LLM_PIECES_NORMAL);
    llm_token_model_free(&m);
}

TEST(token_model_json, "bytes, in BPE and Unigram") {
    llm_token_model m;
    llm_error error;
    llm_buffer file = {NULL, 0, 0};
    CHECK(llm_buffer_print(&file,
                           "{\"type\":\"BPE\",\"byte_fallback\":true,\"merges\":[],\"vocab\":{"));
    for (unsigned b = 0; b < 256; b++)
        CHECK(llm_buffer_print(&file, "%s\"<0x%02X>\":%u", b ? "," : "", b, 255 - b));
    CHECK(llm_buffer_print(&file, "}}"));
    CHECK(mjson_read(&m, file.data, &error) && m.fallback);
    for (int b = 0; b < 256; b++) CHECK(m.bpe.byte_id[b] == 255 - b);
    llm_token_model_free(&m);
    CHECK_FAILS(mjson_read(&m, tiny_parts_with(file.data, "<0x7F>", "del"), &error), error,
                "model: byte_fallback with 255 of 256 bytes is not supported");
    llm_token_model_free(&m);
    CHECK(mjson_read(&m, tiny_parts_with(file.data, "\"byte_fallback\":true", "\"x\":0"), &error));
    CHECK(!m.fallback);
    llm_token_model_free(&m);
    file.size = 0;
    CHECK(llm_buffer_print(&file,
                           "{\"type\":\"Unigram\",\"byte_fallback\":true,\"vocab\":[[\"a\",-1]"));
    for (unsigned b = 0; b < 256; b++) CHECK(llm_buffer_print(&file, ",[\"<0x%02X>\",-9]", b));
    CHECK(llm_buffer_print(&file, "]}"));
    CHECK(mjson_read(&m, file.data, &error) && llm_pieces_fallback(&m.pieces));
    CHECK(m.pieces.byte_id[255] == 256 && m.pieces.unknown == -1);
    llm_token_model_free(&m);
    llm_buffer_free(&file);
}

TEST(token_model_json, "what is wrong or not supported is named") {
    static const struct {
        const char *file, *from, *to, *error;
    } row[] = {
        {mjson_bpe, "\"BPE\"", "\"Words\"", "model: type \"Words\" is not supported"},
        {mjson_bpe, "\"BPE\"", "\"WordPiece\"",
         "model: WordPiece with prefix \"\", unknown \"?\" or words other than up to 100"},
        {mjson_bpe, "\"dropout\":null", "\"dropout\":0.1", "model: dropout is not supported"},
        {mjson_bpe, "\"continuing_subword_prefix\":null", "\"continuing_subword_prefix\":\"#\"",
         "model: continuing_subword_prefix is not supported"},
        {mjson_bpe, "\"end_of_word_suffix\":null", "\"end_of_word_suffix\":\"</w>\"",
         "model: end_of_word_suffix is not supported"},
        {mjson_bpe, "\"unk_token\":\"?\"", "\"unk_token\":\"!\"",
         "model: unk_token \"!\" is not in the vocabulary"},
        {mjson_bpe, "\"vocab\"", "\"vocap\"", "vocab: expected an object of ids"},
        {mjson_bpe, "\"merges\"", "\"merge\"", "merges: expected an array"},
        {mjson_bpe, "[[\"a\",\"b\"]]", "{}", "merges: expected an array"},
        {mjson_bpe, "[[\"a\",\"b\"]]", "[[\"a\"]]", "merges, 0: expected two tokens"},
        {mjson_bpe, "[[\"a\",\"b\"]]", "[[\"a\",1]]", "merges, 0: expected two tokens"},
        {mjson_bpe, "[[\"a\",\"b\"]]", "[[1,\"a\"]]", "merges, 0: expected two tokens"},
        {mjson_bpe, "[[\"a\",\"b\"]]", "[[\"a\",\"b\",\"b\"]]", "merges, 0: expected two tokens"},
        {mjson_bpe, "[[\"a\",\"b\"]]", "[\"ab\"]", "merges, 0: expected two tokens"},
        {mjson_bpe, "[[\"a\",\"b\"]]", "[\"a b\",\"a z\"]",
         "merges, 1: \"z\" is not in the vocabulary"},
        {mjson_bpe, "[[\"a\",\"b\"]]", "[\"z a\"]", "merges, 0: \"z\" is not in the vocabulary"},
        {mjson_bpe, "[[\"a\",\"b\"]]", /* cut off */
         "[\"0123456789012345678901234567890123456789012345678901234567890123 a\"]",
         "\"012345678901234567890123456789012345678901234567890123456789\" is not in the"},
        {mjson_bpe, "[[\"a\",\"b\"]]", "[\"a b\",\"b a\"]",
         "merges, 1: the result is not in the vocabulary"},
        {mjson_bpe, "\"a\":1", "\"a\":0",
         "vocab, \"a\": expected a text and an id of its own below"},
        {mjson_bpe, "\"a\":1", "\"a\":1034",
         "vocab, \"a\": expected a text and an id of its own below 1034"},
        {mjson_bpe, "\"a\":1", "\"a\":1.5", "vocab, \"a\": expected a text and an id of its own"},
        {mjson_bpe, "\"a\":1", "\"\":1", "vocab, \"\": expected a text and an id of its own"},
        {mjson_bpe, "\"a\":1", "\"b\":1", "vocab, \"b\": is there twice"},
        {mjson_bpe, "\"a\":1", "\"?\":1", "vocab, \"?\": is there twice"},
        {mjson_uni, "\"vocab\":", "\"vocab\":{},\"x\":", "vocab: expected an array of pieces"},
        {mjson_uni, "[\"a\",-3.5]", "[\"a\"]", "vocab, 3: expected [\"piece\", score]"},
        {mjson_uni, "[\"a\",-3.5]", "[-3.5,\"a\"]", "vocab, 3: expected [\"piece\", score]"},
        {mjson_uni, "[\"a\",-3.5]", "[\"a\",\"b\"]", "vocab, 3: expected [\"piece\", score]"},
        {mjson_uni, "[\"a\",-3.5]", "[\"a\",0,0]", "vocab, 3: expected [\"piece\", score]"},
        {mjson_uni, "[\"a\",-3.5]", "7", "vocab, 3: expected [\"piece\", score]"},
        {mjson_uni, "\"a\"", "\"more\"", "pieces 2 and 3 are the same"},
        {mjson_uni, "\"unk_id\":0", "\"unk_id\":null",
         "pieces: neither an unknown one nor all 256 bytes"},
        {mjson_uni, "\"unk_id\":0", "\"unk_id\":5",
         "pieces: neither an unknown one nor all 256 bytes"},
        {mjson_word, "\"##\"", "\"--\"", "model: WordPiece with prefix \"--\", unknown \"[UNK]\""},
        {mjson_word, "\"[UNK]\"", "\"<unk>\"",
         "model: WordPiece with prefix \"##\", unknown \"<unk>\""},
        {mjson_word, ":100", ":200", "or words other than up to 100 characters is not supported"},
        {mjson_word, "{\"[UNK]\"", "{\"UNK\"", "WordPiece: no token [UNK]"},
        {mjson_word, "\"vocab\":{", "\"vocab\":[],\"x\":{", "vocab: expected an object of ids"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        llm_token_model m;
        llm_error error;
        const char *text = tiny_parts_with(row[i].file, row[i].from, row[i].to);
        if (mjson_read(&m, text, &error)) test_fail(__FILE__, __LINE__, "%s", row[i].to);
        llm_token_model_free(&m);
        CHECK_FAILS(mjson_read(&m, text, &error), error, row[i].error);
        llm_token_model_free(&m);
    }
    llm_token_model m;
    llm_error error;
    CHECK(mjson_read(&m, tiny_parts_with(mjson_bpe, "\"a\":1,", "\"a\":1033,"), &error));
    CHECK(m.bpe.token.count == 1034);
    llm_token_model_free(&m);
    CHECK(mjson_read(&m, tiny_parts_with(mjson_word, "\"max_input_chars_per_word\":100,", ""),
                     &error));
    llm_token_model_free(&m);
    static const char *const root[3] = {"{}", "[]", "null"};
    for (size_t i = 0; i < 3; i++)
        CHECK_FAILS(mjson_read(&m, root[i], &error), error, "model: type \"\" is not supported");
    CHECK(!llm_token_model_json_read(&m, NULL, NULL, NULL, &error));
}

TEST(token_model_json, "when memory is out, it says so and nothing leaks") {
    llm_buffer gap = {NULL, 0, 0}; /* 64 words, then an id without one, where the table grows */
    CHECK(llm_buffer_print(&gap, "{\"type\":\"WordLevel\",\"unk_token\":\"w0\",\"vocab\":{"));
    for (int i = 0; i < 64; i++) CHECK(llm_buffer_print(&gap, "\"w%d\":%d,", i, i));
    CHECK(llm_buffer_print(&gap, "\"last\":65}}"));
    const char *const file[4] = {mjson_bpe, mjson_uni, mjson_word, gap.data};
    for (size_t k = 0; k < 4; k++) {
        bool ok = false;
        size_t failed = 0;
        for (int calls = 0; calls < 300 && !ok; calls++) {
            llm_added_tokens none;
            llm_token_model m = llm_token_model_empty();
            llm_error error;
            llm_json j = tiny_parts_json(file[k]);
            memset(&none, 0, sizeof none);
            mjson_calls = calls;
            ok = llm_token_model_json_read(&m, &j, j.node, &none, &error);
            CHECK(ok == (mjson_calls >= 0)); /* whatever fails is told */
            mjson_calls = 1 << 30;
            llm_json_free(&j);
            llm_token_model_free(&m);
            failed += !ok;
            if (!ok && !strstr(error.message, "out of memory"))
                test_fail(__FILE__, __LINE__, "after %d calls: %s", calls, error.message);
        }
        CHECK(ok && failed > 4);
    }
    llm_buffer_free(&gap);
}
