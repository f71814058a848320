/* @tokenizer */
#include "../test.h"

/* malloc and its like that fail once, after a number of calls */
static int tokenizer_calls = 1 << 30;
static bool tokenizer_none = false; /* whether malloc(0) is NULL */
static void *tokenizer_malloc(size_t size) {
    if (size == 0 && tokenizer_none) return NULL;
    return tokenizer_calls-- != 0 ? malloc(size) : NULL;
}
static void *tokenizer_calloc(size_t n, size_t size) {
    return tokenizer_calls-- != 0 ? calloc(n, size) : NULL;
}
static void *tokenizer_realloc(void *p, size_t size) {
    return tokenizer_calls-- != 0 ? realloc(p, size) : NULL;
}
#define malloc tokenizer_malloc
#define calloc tokenizer_calloc
#define realloc tokenizer_realloc

#include "../../llm.h"

/* Two bytes in a number. */
static char *tokenizer_text(size_t *size, const char *name) {
    *size = (size_t)*golden("%s/size", name);
    const float *pair = golden("%s/text", name);
    char *text = (char *)test_memory(*size + 1, 1);
    for (size_t i = 0; i < *size; i++)
        text[i] = (char)(unsigned char)((unsigned)pair[i / 2] >> (i % 2 ? 0 : 8));
    return text;
}

static void tokenizer_write(const char *path, const char *text, size_t size) {
    CHECK(llm_file_write(path, text, size, NULL));
}

/* The vocab.json and merges.txt that say the same as the golden tokenizer.json. */
static char *tokenizer_vocab(void) {
    size_t size;
    const char *file = tokenizer_text(&size, "file");
    const char *start = strstr(file, "\"vocab\":") + 8, *end = strstr(file, ",\"merges\"");
    char *text = (char *)test_memory((size_t)(end - start) + 1, 1);
    memcpy(text, start, (size_t)(end - start));
    return text;
}
static char *tokenizer_merges(void) {
    size_t size;
    llm_json j;
    llm_buffer out = {NULL, 0, 0};
    CHECK(llm_json_parse(&j, tokenizer_text(&size, "file"), size = *golden("file/size"), NULL));
    const llm_json_node *list = llm_json_get(&j, llm_json_get(&j, j.node, "model"), "merges");
    CHECK(llm_buffer_print(&out, "#version: 0.2\n"));
    for (const llm_json_node *v = llm_json_first(&j, list); v; v = llm_json_next(&j, v)) {
        const llm_json_node *left = llm_json_first(&j, v);
        CHECK(llm_buffer_print(&out, "%s %s\n", left->text, llm_json_next(&j, left)->text));
    }
    llm_json_free(&j);
    char *text = (char *)test_memory(out.size + 1, 1);
    memcpy(text, out.data, out.size);
    llm_buffer_free(&out);
    return text;
}

/* Directories "one" with tokenizer.json and "two" with vocab.json and merges.txt; one's path. */
static const char *tokenizer_files(void) {
    size_t size;
    const char *file = tokenizer_text(&size, "file");
    const char *vocab = tokenizer_vocab(), *merges = tokenizer_merges();
    CHECK(mkdir(test_path("one"), 0700) == 0 && mkdir(test_path("two"), 0700) == 0);
    tokenizer_write(test_path("one/tokenizer.json"), file, size);
    tokenizer_write(test_path("two/vocab.json"), vocab, strlen(vocab));
    tokenizer_write(test_path("two/merges.txt"), merges, strlen(merges));
    return test_path("one");
}

TEST(tokenizer, "both forms of file give the ids of tokenizers, and the bytes back") {
    const char *form[3] = {tokenizer_files(), test_path("two"), test_path("one/tokenizer.json")};
    for (int f = 0; f < 3; f++) {
        llm_tokenizer t;
        llm_error error;
        if (!llm_tokenizer_load(&t, form[f], &error))
            test_fail(__FILE__, __LINE__, "%s", error.message);
        CHECK(t.vocab == 287 && llm_tokenizer_id(&t, "<|endoftext|>") == 286);
        CHECK(llm_tokenizer_id(&t, "the") == -1);
        size_t size, n, count;
        const char *text = tokenizer_text(&size, "text");
        for (int special = 0; special < 2; special++) {
            const float *want = golden_n(&n, special ? "text/ids" : "text/plain");
            int *ids;
            CHECK(special ? llm_tokenizer_encode_special(&t, &ids, &count, text, size, &error)
                          : llm_tokenizer_encode(&t, &ids, &count, text, size, &error));
            CHECK(count == n);
            for (size_t i = 0; i < n; i++) CHECK_NEAR(ids[i], want[i], 0);
            llm_buffer out = {NULL, 0, 0};
            CHECK(llm_buffer_print(&out, "> "));
            CHECK(llm_tokenizer_decode(&t, &out, ids, count, &error));
            CHECK(out.size == size + 2 && memcmp(out.data, "> ", 2) == 0);
            CHECK(memcmp(out.data + 2, text, size) == 0);
            llm_buffer_free(&out);
            free(ids);
        }
        llm_tokenizer_free(&t);
        CHECK(t.vocab == 0 && t.bpe.token.count == 0 && t.added.list.size == 0);
        llm_tokenizer_free(&t);
    }
}

TEST(tokenizer, "decode(encode(x)) is x for any bytes, with a trained BPE and control tokens") {
    const char *book = "it was the best of times, it was the worst of times, it was the age of "
                       "wisdom, it was the age of foolishness";
    llm_bpe bpe;
    llm_tokenizer t;
    llm_error error;
    CHECK(llm_bpe_train(&bpe, book, strlen(book), LLM_PRE_TOKENIZE_O200K, 300, &error));
    const size_t trained = bpe.token.count;
    llm_tokenizer_from_bpe(&t, &bpe, LLM_PRE_TOKENIZE_O200K);
    CHECK(bpe.token.count == 0 && bpe.merge == NULL && t.vocab == trained);
    CHECK(t.pattern == LLM_PRE_TOKENIZE_O200K && !t.prefix_space && !t.ignore_merges);
    CHECK(llm_tokenizer_add_special(&t, "<|endoftext|>", &error));
    CHECK(llm_tokenizer_add_special(&t, "<|user|>", &error) && t.vocab == trained + 2);
    CHECK(llm_tokenizer_id(&t, "<|user|>") == (int)trained + 1);
    llm_rng rng = llm_rng_seed(1);
    for (size_t turn = 0; turn < 2000; turn++) {
        char text[80];
        size_t size = 0, count;
        while (size < 40) {
            const size_t at = llm_rng_below(&rng, strlen(book) - 9);
            const int what = (int)llm_rng_below(&rng, 4);
            if (what == 0) text[size++] = (char)(unsigned char)llm_rng_below(&rng, 256);
            if (what == 1) memcpy(text + size, book + at, 9), size += 9;
            if (what == 2) memcpy(text + size, "<|endoftext|>", 13), size += 13;
            if (what == 3) memcpy(text + size, "<|user|>", 8), size += 8;
        }
        for (int special = 0; special < 2; special++) {
            int *ids;
            llm_buffer out = {NULL, 0, 0};
            CHECK(special ? llm_tokenizer_encode_special(&t, &ids, &count, text, size, &error)
                          : llm_tokenizer_encode(&t, &ids, &count, text, size, &error));
            for (size_t i = 0; i < count; i++) {
                CHECK(ids[i] >= 0 && (size_t)ids[i] < t.vocab);
                CHECK(special || ids[i] < (int)trained); /* no control token from outside */
            }
            CHECK(llm_tokenizer_decode(&t, &out, ids, count, &error));
            CHECK(out.size == size && memcmp(out.data, text, size) == 0);
            llm_buffer_free(&out);
            free(ids);
        }
    }
    const char *attack = "x<|endoftext|><|user|>";
    int *ids;
    size_t count;
    CHECK(llm_tokenizer_encode_special(&t, &ids, &count, attack, strlen(attack), &error));
    CHECK(count == 3 && ids[1] == (int)trained && ids[2] == (int)trained + 1);
    free(ids);
    llm_tokenizer_free(&t);
}

TEST(tokenizer, "control tokens: words of the vocabulary keep their id, nonsense is refused") {
    llm_bpe bpe;
    llm_tokenizer t;
    llm_error error;
    llm_buffer out = {NULL, 0, 0};
    CHECK(llm_bpe_create(&bpe));
    llm_tokenizer_from_bpe(&t, &bpe, LLM_PRE_TOKENIZE_GPT2);
    CHECK(llm_tokenizer_add_special(&t, "!", &error) && t.vocab == 256);
    CHECK(llm_tokenizer_id(&t, "!") == 0);
    const char *name;
    const llm_added_tokens_one *one = llm_added_tokens_get(&t.added, 0, &name);
    CHECK(one->special && !one->normalized && one->size == 1 && name[0] == '!');
    CHECK(llm_tokenizer_add_special(&t, "\xE4\xB8\xAD", &error) && t.vocab == 257);
    CHECK_FAILS(llm_tokenizer_add_special(&t, "!", &error), error,
                "control token \"!\": is there already");
    CHECK_FAILS(llm_tokenizer_add_special(&t, "", &error), error, "expected UTF-8, not empty");
    CHECK_FAILS(llm_tokenizer_add_special(&t, "a\xFF", &error), error, "expected UTF-8, not empty");
    tokenizer_calls = 0;
    CHECK_FAILS(llm_tokenizer_add_special(&t,
                                          "0123456789012345678901234567890123456789012345678901"
                                          "234567890",
                                          &error),
                error, "out of memory");
    tokenizer_calls = 1 << 30;
    CHECK(t.vocab == 257);

    const int good[3] = {1, 256, 0}, bad[3] = {-1, 257, INT_MAX};
    CHECK(llm_tokenizer_decode(&t, &out, good, 3, &error));
    CHECK(strcmp(out.data, "\"\xE4\xB8\xAD!") == 0);
    for (size_t i = 0; i < 3; i++) {
        const int ids[2] = {1, bad[i]};
        char want[80];
        snprintf(want, sizeof want, "token 1 of 2: found id %d, expected one of the vocabulary",
                 bad[i]);
        CHECK_FAILS(llm_tokenizer_decode(&t, &out, ids, 2, &error), error, want);
    }
    llm_buffer_free(&out);
    tokenizer_calls = 0;
    CHECK_FAILS(llm_tokenizer_decode(&t, &out, good, 3, &error), error, "decoding: out of memory");
    tokenizer_calls = 1 << 30;
    t.vocab = INT_MAX; /* no id is left */
    CHECK_FAILS(llm_tokenizer_add_special(&t, "new", &error), error, "out of memory");
    llm_tokenizer_free(&t);
}

TEST(tokenizer, "what is wrong with files is said, with the path") {
    llm_tokenizer t;
    llm_error error;
    tokenizer_files();
    CHECK_FAILS(llm_tokenizer_load(&t, test_path("none"), &error), error, "none: cannot be opened");
    CHECK_FAILS(llm_tokenizer_load(&t, test_path("two/vocab.json"), &error), error,
                "vocab.json: model: found type \"\", expected BPE");
    tokenizer_write(test_path("one/tokenizer.json"), "{\"a\":", 5);
    CHECK_FAILS(llm_tokenizer_load(&t, test_path("one"), &error), error, "one: JSON, ");
    const char *merges = test_path("two/merges.txt");
    tokenizer_write(merges, "a b\nc", 5);
    CHECK_FAILS(llm_tokenizer_load(&t, test_path("two"), &error), error, "two: merges, ");
    CHECK(remove(merges) == 0);
    CHECK_FAILS(llm_tokenizer_load(&t, test_path("two"), &error), error, "merges.txt: cannot be");
    CHECK(mkdir(test_path("three"), 0700) == 0);
    CHECK_FAILS(llm_tokenizer_load(&t, test_path("three"), &error), error, "three: ");
    CHECK(t.vocab == 0 && t.bpe.token.count == 0); /* nothing to free */
    /* GPT-2's form without <|endoftext|>: no control token */
    char *vocab = tokenizer_vocab();
    strstr(vocab, "endoftext")[0] = 'E';
    tokenizer_write(test_path("three/vocab.json"), vocab, strlen(vocab));
    tokenizer_write(test_path("three/merges.txt"), "", 0);
    CHECK(llm_tokenizer_load(&t, test_path("three"), &error));
    CHECK(llm_added_tokens_count(&t.added) == 0 && t.vocab == 287 && t.bpe.merges == 0);
    llm_tokenizer_free(&t);
}

TEST(tokenizer, "<|endoftext|> may have the id 0, and files are closed") {
    llm_tokenizer t;
    llm_error error;
    tokenizer_files();
    llm_buffer swapped = {NULL, 0, 0};
    const char *vocab = tokenizer_vocab(), *first = strstr(vocab, "\"!\":0");
    const char *last = strstr(vocab, "\"<|endoftext|>\":286");
    CHECK(first && last && first < last);
    CHECK(llm_buffer_print(&swapped, "%.*s\"!\":286%.*s\"<|endoftext|>\":0%s", (int)(first - vocab),
                           vocab, (int)(last - first - 5), first + 5, last + 19));
    tokenizer_write(test_path("two/vocab.json"), swapped.data, swapped.size);
    llm_buffer_free(&swapped);
    struct rlimit files = {24, 24};
    CHECK(setrlimit(RLIMIT_NOFILE, &files) == 0);
    for (int i = 0; i < 40; i++) {
        if (!llm_tokenizer_load(&t, test_path(i % 2 ? "one" : "two"), &error))
            test_fail(__FILE__, __LINE__, "%s", error.message);
        CHECK(llm_tokenizer_id(&t, "<|endoftext|>") == (i % 2 ? 286 : 0));
        llm_tokenizer_free(&t);
    }
}

static const char tokenizer_bert[] =
    "{\"added_tokens\":[{\"id\":1,\"content\":\"[CLS]\",\"special\":true,\"normalized\":false},"
    "{\"id\":2,\"content\":\"[SEP]\",\"special\":true,\"normalized\":false}],"
    "\"normalizer\":{\"type\":\"BertNormalizer\"},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}"
    ","
    "\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",2],\"cls\":[\"[CLS]\",1]},"
    "\"decoder\":{\"type\":\"WordPiece\"},\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]"
    "\","
    "\"continuing_subword_prefix\":\"##\",\"vocab\":{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"caf\":3,"
    "\"##e\":4,\"[\":5,\"]\":6}}}";

TEST(tokenizer, "a file of parts is loaded, used and refused like others") {
    llm_tokenizer t;
    llm_error error;
    static const char text[] = "Caf\xC3\xA9[SEP]";
    static const int want[2][5] = {{3, 4, 2}, {3, 4, 5, 0, 6}};
    CHECK(llm_file_write(test_path("parts"), tokenizer_bert, sizeof tokenizer_bert - 1, &error));
    if (!llm_tokenizer_load(&t, test_path("parts"), &error))
        test_fail(__FILE__, __LINE__, "%s", error.message);
    CHECK(t.parts && t.vocab == 7 && llm_tokenizer_id(&t, "[CLS]") == 1);
    CHECK(t.parts->model.unknown == -1 && t.parts->model.pieces.unknown == -1);
    CHECK(strcmp(t.single.data, "[CLS] $A [SEP]") == 0);
    CHECK(strcmp(t.pair.data, "[CLS] $A [SEP] $B:1 [SEP]:1") == 0);
    for (size_t plain = 0; plain < 2; plain++) {
        int *ids;
        size_t count;
        llm_buffer out = {NULL, 0, 0};
        CHECK((plain ? llm_tokenizer_encode : llm_tokenizer_encode_special)(
            &t, &ids, &count, text, sizeof text - 1, &error));
        CHECK(count == (plain ? 5 : 3) && memcmp(ids, want[plain], count * sizeof *ids) == 0);
        CHECK(llm_tokenizer_decode(&t, &out, ids, count, &error));
        CHECK(strcmp(out.data, plain ? "cafe [ [UNK] ]" : "cafe [SEP]") == 0);
        llm_buffer_free(&out);
        free(ids);
    }
    int other = 7, *ids = &other;
    size_t count = 7;
    CHECK_FAILS(llm_tokenizer_encode(&t, &ids, &count, text, (size_t)INT_MAX, &error), error,
                "expected below 2^25");
    CHECK(!ids && count == 0);
    tokenizer_none = true;
    CHECK(llm_tokenizer_encode(&t, &ids, &count, "", 0, &error) && ids && count == 0);
    tokenizer_none = false;
    free(ids);
    CHECK_FAILS(llm_tokenizer_add_special(&t, "[MASK]", &error), error,
                "control token \"[MASK]\": this tokenizer takes no further ones");
    CHECK_FAILS(llm_tokenizer_save_json(&t, test_path("copy"), &error), error,
                "only byte-level BPE is written");
    llm_tokenizer_free(&t);
    CHECK(!t.parts && !t.single.data && !t.pair.data);
    bool ok = false;
    for (int calls = 0; calls < 400 && !ok; calls++) { /* memory runs out in loading, in use */
        error.message[0] = 0;
        tokenizer_calls = calls;
        ok = llm_tokenizer_load(&t, test_path("parts"), &error);
        if (ok) ok = llm_tokenizer_encode(&t, &ids, &count, text, sizeof text - 1, &error);
        CHECK(ok == (tokenizer_calls >= 0)); /* whatever fails is told */
        tokenizer_calls = 1 << 30;
        CHECK(ok || strstr(error.message, "memory"));
        if (ok) free(ids);
        llm_tokenizer_free(&t);
    }
    CHECK(ok);
}

TEST(tokenizer, "post-processors may stand in four Sequences, and white space before the file") {
    static const char open[] = "{\"type\":\"Sequence\",\"processors\":[";
    const char *post = strstr(tokenizer_bert, "\"post_processor\":") + 17;
    const char *end = strstr(tokenizer_bert, ",\"decoder\"");
    for (size_t depth = 0; depth < 6; depth++) {
        llm_tokenizer t;
        llm_error error;
        llm_buffer file = {NULL, 0, 0};
        CHECK(llm_buffer_print(&file, " \t\r\n%.*s", (int)(post - tokenizer_bert), tokenizer_bert));
        for (size_t i = 0; i < depth; i++) CHECK(llm_buffer_print(&file, open));
        CHECK(llm_buffer_put(&file, post, (size_t)(end - post)));
        for (size_t i = 0; i < depth; i++) CHECK(llm_buffer_print(&file, "]}"));
        CHECK(llm_buffer_print(&file, "%s", end));
        CHECK(llm_file_write(test_path("deep"), file.data, file.size, &error));
        if (depth < 5) {
            CHECK(llm_tokenizer_load(&t, test_path("deep"), &error));
            CHECK(strcmp(t.single.data, "[CLS] $A [SEP]") == 0);
            llm_tokenizer_free(&t);
        } else {
            CHECK_FAILS(llm_tokenizer_load(&t, test_path("deep"), &error), error,
                        "post_processor: \"Sequence\" is not supported");
        }
        llm_buffer_free(&file);
    }
}

/* <unk>, <s>, a with a space in front */
static const char tokenizer_pieces[] = "\x0A\x09\x0A\x05<unk>\x18\x02\x0A\x07\x0A\x03<s>\x18\x03"
                                       "\x0A\x06\x0A\x04\xE2\x96\x81\x61";

TEST(tokenizer, "a file that is no JSON is read by @tokenizer_binary, and decoded by it") {
    llm_tokenizer t;
    llm_error error;
    llm_buffer out = {NULL, 0, 0};
    int *ids;
    size_t count;
    CHECK(llm_file_write(test_path("p"), tokenizer_pieces, sizeof tokenizer_pieces - 1, &error));
    CHECK(llm_tokenizer_load(&t, test_path("p"), &error) && t.pieces && t.vocab == 3);
    CHECK(llm_tokenizer_encode_special(&t, &ids, &count, "<s>a", 4, &error));
    CHECK(count == 2 && ids[0] == 1 && ids[1] == 2);
    CHECK(llm_tokenizer_decode(&t, &out, ids, count, &error) && strcmp(out.data, "<s>a") == 0);
    llm_buffer_free(&out);
    free(ids);
    llm_tokenizer_free(&t);
    CHECK(t.spm.pieces.text.count == 0);
    CHECK(llm_file_write(test_path("p"), "\0{}", 3, &error)); /* a 0 is no white space */
    CHECK_FAILS(llm_tokenizer_load(&t, test_path("p"), &error), error, "line 1: ");
    CHECK(llm_file_write(test_path("p"), " \n", 2, &error));
    CHECK_FAILS(llm_tokenizer_load(&t, test_path("p"), &error), error, "JSON, ");
}

/* Parses a copy of exactly that size; what is accepted must work. */
static bool tokenizer_try(const char *text, size_t size, const char *merges, size_t merges_size) {
    static const char sample[] = "the cat's <|endoftext|> 12";
    llm_tokenizer t;
    llm_error error;
    llm_file file, lines;
    llm_bpe none = llm_bpe_empty();
    memset(&file, 0, sizeof file);
    memset(&lines, 0, sizeof lines);
    llm_tokenizer_from_bpe(&t, &none, LLM_PRE_TOKENIZE_GPT2);
    file.data = (unsigned char *)malloc(size);
    file.size = size;
    lines.data = (unsigned char *)malloc(merges_size);
    lines.size = merges_size;
    memcpy(file.data, text, size);
    if (merges) memcpy(lines.data, merges, merges_size);
    error.message[0] = 0;
    const bool ok = llm_tokenizer_parse(&t, &file, merges ? &lines : NULL, &error);
    CHECK(ok == !error.message[0]);
    if (ok) {
        int *ids;
        size_t count;
        llm_buffer out = {NULL, 0, 0};
        CHECK(llm_tokenizer_encode_special(&t, &ids, &count, sample, strlen(sample), &error));
        for (size_t i = 0; i < count; i++) CHECK(ids[i] >= 0 && (size_t)ids[i] < t.vocab);
        CHECK(llm_tokenizer_decode(&t, &out, ids, count, &error));
        const size_t spaced = out.size - strlen(sample);
        if (!t.parts) /* a changed part may spell text in its own way */
            CHECK((spaced == 0 || t.prefix_space) && strcmp(out.data + spaced, sample) == 0);
        llm_buffer_free(&out);
        free(ids);
    }
    llm_tokenizer_free(&t);
    free(file.data);
    free(lines.data);
    return ok;
}

TEST(tokenizer, "every truncation and change of a byte of a file is survived") {
    static const unsigned char other[3] = {'"', '1', 0xFF};
    size_t size, accepted = 0;
    const char *file = tokenizer_text(&size, "file"), *vocab = tokenizer_vocab();
    const char *merges = tokenizer_merges();
    CHECK(tokenizer_try(file, size, NULL, 0));
    CHECK(tokenizer_try(vocab, strlen(vocab), merges, strlen(merges)));
    for (size_t n = 0; n < size; n++) CHECK(!tokenizer_try(file, n, NULL, 0));
    for (size_t n = 0; n < 5; n++) CHECK(!tokenizer_try(" \t\r\n", n, NULL, 0));
    for (size_t n = 0; n < strlen(merges); n++)
        accepted += tokenizer_try(vocab, strlen(vocab), merges, n);
    CHECK(accepted >= 30); /* at least those cut at the end of a line */
    char *text = (char *)test_memory(size, 1);
    memcpy(text, file, size);
    for (size_t i = 0; i < size; i++) {
        for (size_t k = 0; k < 3; k++) {
            text[i] = (char)other[k];
            tokenizer_try(text, size, NULL, 0);
        }
        text[i] = (char)(file[i] ^ 1);
        tokenizer_try(text, size, NULL, 0);
        text[i] = file[i];
    }
    memcpy(text, merges, strlen(merges));
    for (size_t i = 0; i < strlen(merges); i++) {
        for (int c = 0; c < 256; c++) {
            text[i] = (char)(unsigned char)c;
            if (c % 16 == (int)i % 16) tokenizer_try(vocab, strlen(vocab), text, strlen(merges));
        }
        text[i] = merges[i];
    }
}

TEST(tokenizer, "when memory is out, loading says so and nothing leaks") {
    const char *one = tokenizer_files(), *path[2] = {one, test_path("two")};
    for (int form = 0; form < 2; form++) {
        size_t failed = 0;
        for (int calls = 0; calls < 900; calls++) {
            llm_tokenizer t;
            llm_error error;
            tokenizer_calls = calls;
            const bool ok = llm_tokenizer_load(&t, path[form], &error);
            CHECK(ok == (tokenizer_calls >= 0)); /* whatever fails is told */
            tokenizer_calls = 1 << 30;
            llm_tokenizer_free(&t);
            if (ok) break;
            failed++;
            if (!strstr(error.message, "memory"))
                test_fail(__FILE__, __LINE__, "after %d calls: %s", calls, error.message);
        }
        CHECK(failed > 250 && failed < 900);
    }
}
