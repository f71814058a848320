/* @tokenizer_text */
#include "../test.h"

/* malloc and its like that fail once, after a number of calls */
static int text_calls = 1 << 30;
static void *text_malloc(size_t size) { return text_calls-- != 0 ? malloc(size) : NULL; }
static void *text_calloc(size_t n, size_t size) {
    return text_calls-- != 0 ? calloc(n, size) : NULL;
}
static void *text_realloc(void *p, size_t size) {
    return text_calls-- != 0 ? realloc(p, size) : NULL;
}
#define malloc text_malloc
#define calloc text_calloc
#define realloc text_realloc

#include "../../llm.h"

static char *text_bytes(const char *name) {
    size_t size;
    const float *values = golden_n(&size, "%s/bytes", name);
    char *text = (char *)test_memory(size, 1);
    for (size_t i = 0; i < size; i++) text[i] = (char)(unsigned char)values[i];
    return text;
}

/* The tokenizer of tokenizer_text.py. */
static llm_tokenizer text_tokenizer(void) {
    llm_tokenizer t;
    size_t n;
    memset(&t, 0, sizeof t);
    CHECK(llm_bpe_create(&t.bpe));
    const float *left = golden_n(&n, "merge/left"), *right = golden("merge/right");
    for (size_t r = 0; r < n; r++)
        CHECK(llm_bpe_add(&t.bpe, (int)left[r], (int)right[r]) == 256 + (int)r);
    const float *size = golden_n(&n, "extra/size");
    const char *bytes = text_bytes("extra");
    for (size_t i = 0; i < n; bytes += (size_t)size[i++])
        CHECK(llm_vocab_table_add(&t.bpe.token, bytes, (size_t)size[i]) >= 256);
    size = golden_n(&n, "added/size");
    bytes = text_bytes("added");
    const float *id = golden("added/id"), *special = golden("added/special");
    const float *normalized = golden("added/normalized");
    for (size_t i = 0; i < n; bytes += (size_t)size[i++])
        CHECK(llm_added_tokens_put(&t.added, (int)id[i], bytes, (size_t)size[i], special[i] != 0.0f,
                                   normalized[i] != 0.0f));
    t.vocab = t.bpe.token.count + n;
    return t;
}

static void text_free(llm_tokenizer *t) {
    llm_bpe_free(&t->bpe);
    llm_added_tokens_free(&t->added);
}

TEST(tokenizer_text, "ids are those of Hugging Face tokenizers, with and without control tokens") {
    static const char *const name[4] = {"plain", "prefix", "ignore", "llama3"};
    size_t texts;
    const float *size = golden_n(&texts, "text/size");
    CHECK(texts > 50);
    for (size_t k = 0; k < 8; k++) {
        const char *text = text_bytes("text");
        const bool special = k % 2;
        const float *count = golden("%s%s/count", name[k / 2], special ? "_special" : "");
        const float *want = golden("%s%s/ids", name[k / 2], special ? "_special" : "");
        llm_tokenizer t = text_tokenizer();
        t.prefix_space = k / 2 == 1;
        t.ignore_merges = k / 2 == 2;
        t.pattern = k / 2 == 3 ? LLM_PRE_TOKENIZE_LLAMA3 : LLM_PRE_TOKENIZE_GPT2;
        for (size_t i = 0; i < texts; i++) {
            const size_t bytes = (size_t)size[i];
            char *exact = (char *)test_memory(bytes, 1);
            memcpy(exact, text, bytes);
            int *ids;
            size_t n;
            CHECK(llm_tokenizer_text_encode(&t, &ids, &n, exact, bytes, special, NULL));
            if (n != (size_t)count[i])
                test_fail(__FILE__, __LINE__, "%s, text %zu: %zu ids, want %g", name[k / 2], i, n,
                          (double)count[i]);
            for (size_t m = 0; m < n; m++) CHECK_NEAR(ids[m], want[m], 0);
            want += n;
            text += bytes;
            free(ids);
        }
        text_free(&t);
    }
}

TEST(tokenizer_text, "a word in the cache has the ids that it has without") {
    llm_tokenizer t = text_tokenizer();
    llm_rng rng = llm_rng_seed(1);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, llm_bpe_scratch(64)));
    enum { SIZE = 60000 };
    char *text = (char *)test_memory(SIZE, 1);
    size_t size = 0, at = 0;
    while (size + 32 < SIZE) { /* words of 1 to 24 letters, a few thousand of them often */
        llm_rng word = llm_rng_seed(llm_rng_below(&rng, 1 + llm_rng_below(&rng, 9000)));
        text[size++] = ' ';
        for (size_t n = 1 + llm_rng_below(&word, 8) * (1 + llm_rng_below(&word, 3)); n-- > 0;)
            text[size++] = "theobnrsa"[llm_rng_below(&word, 9)];
    }
    int *ids, want[64];
    size_t count, used = 0;
    CHECK(llm_tokenizer_text_encode(&t, &ids, &count, text, size, false, NULL));
    while (at < size) { /* "the" is an added token: cut there as the tokenizer does */
        size_t end = at;
        for (end = at; end < size && (end == at || text[end] != ' '); end++)
            if (end + 3 <= size && memcmp(text + end, "the", 3) == 0) break;
        size_t n = end - at;
        if (n == 0) {
            n = 3;
            CHECK(ids[used++] == llm_added_tokens_find(&t.added, "the", 3));
        } else {
            const size_t m = llm_bpe_encode(want, &t.bpe, text + at, n, 0.0f, NULL, &arena);
            for (size_t i = 0; i < m; i++) CHECK(used < count && ids[used++] == want[i]);
        }
        at += n;
    }
    CHECK(used == count);
    free(ids);
    llm_arena_destroy(&arena);
    text_free(&t);
}

TEST(tokenizer_text, "bytes without merges give an id each, also in long lines") {
    llm_tokenizer t;
    memset(&t, 0, sizeof t);
    CHECK(llm_bpe_create(&t.bpe));
    for (size_t size = 0; size < 70000; size = size < 20 ? size + 1 : 3 * size) {
        char *text = (char *)test_memory(size, 1);
        for (size_t i = 0; i < size; i++) text[i] = (char)(unsigned char)(i * 7 + 3);
        if (size > 4000) memset(text, 'x', size); /* one pre-token */
        int *ids;
        size_t count;
        CHECK(llm_tokenizer_text_encode(&t, &ids, &count, text, size, false, NULL));
        CHECK(count == size);
        for (size_t i = 0; i < size; i++) CHECK(ids[i] == t.bpe.byte_id[(unsigned char)text[i]]);
        free(ids);
    }
    text_free(&t);
}

TEST(tokenizer_text, "a token that no merge makes may have the id 0") {
    llm_tokenizer t;
    memset(&t, 0, sizeof t);
    CHECK(llm_vocab_table_add(&t.bpe.token, "ab", 2) == 0);
    t.bpe.byte_id['a'] = llm_vocab_table_add(&t.bpe.token, "a", 1);
    t.bpe.byte_id['b'] = llm_vocab_table_add(&t.bpe.token, "b", 1);
    for (size_t ignore = 0; ignore < 2; ignore++) {
        int *ids;
        size_t count;
        t.ignore_merges = ignore == 1;
        CHECK(llm_tokenizer_text_encode(&t, &ids, &count, "ab", 2, false, NULL));
        CHECK(count == 2 - ignore && ids[0] == 1 - (int)ignore);
        free(ids);
    }
    text_free(&t);
}

TEST(tokenizer_text, "between added tokens a SentencePiece model cuts, and memory out is told") {
    static const char *const piece[5] = {"<unk>", "\xE2\x96\x81", "a", "b", "ab"};
    static const char text[] = "ab<s>ba \xC3\xA9<s><s>a";
    llm_tokenizer t;
    llm_error error;
    int *part[3], want[32], *ids;
    size_t size[3], n = 0, count;
    memset(&t, 0, sizeof t);
    t.spm = llm_spm_empty();
    t.pieces = true;
    for (size_t i = 0; i < 5; i++)
        CHECK(llm_pieces_put(&t.spm.pieces, piece[i], strlen(piece[i]), -(double)i,
                             i == 0 ? LLM_PIECES_UNKNOWN : LLM_PIECES_NORMAL, &error));
    CHECK(llm_pieces_ready(&t.spm.pieces, &error));
    CHECK(llm_added_tokens_put(&t.added, 9, "<s>", 3, true, false));
    CHECK(llm_spm_encode(&t.spm, &part[0], &size[0], text, 2, &error));
    CHECK(llm_spm_encode(&t.spm, &part[1], &size[1], text + 5, 5, &error));
    CHECK(llm_spm_encode(&t.spm, &part[2], &size[2], text + 16, 1, &error));
    for (size_t k = 0; k < 3; k++) {
        for (size_t i = 0; i < size[k]; i++) want[n++] = part[k][i];
        for (size_t i = 0; i < (k == 0 ? 1 : k == 1 ? 2 : 0); i++) want[n++] = 9;
        free(part[k]);
    }
    CHECK(n > 8);
    int calls = 0;
    for (bool ok = false; !ok; calls++) {
        text_calls = calls;
        ok = llm_tokenizer_text_encode(&t, &ids, &count, text, 17, true, &error);
        CHECK(ok == (text_calls >= 0));
        text_calls = 1 << 30;
        if (ok) CHECK(count == n && memcmp(ids, want, n * sizeof *ids) == 0);
        free(ids);
    }
    CHECK(calls > 6);
    llm_spm_free(&t.spm);
    llm_added_tokens_free(&t.added);
}

TEST(tokenizer_text, "spaces of which each becomes three ids: more room than the text has bytes") {
    static const char text[] = "        <s>    "; /* 8 spaces, 4, and one in front of each */
    llm_tokenizer t;
    int *ids;
    size_t count;
    memset(&t, 0, sizeof t);
    t.spm = llm_spm_empty();
    t.spm.squeeze = false;
    t.pieces = true;
    for (unsigned b = 0; b < 256; b++) {
        char piece[8];
        snprintf(piece, sizeof piece, "<0x%02X>", b);
        CHECK(llm_pieces_put(&t.spm.pieces, piece, 6, 0.0, LLM_PIECES_BYTE, NULL));
    }
    CHECK(llm_pieces_ready(&t.spm.pieces, NULL));
    CHECK(llm_added_tokens_put(&t.added, 256, "<s>", 3, true, false));
    CHECK(llm_tokenizer_text_encode(&t, &ids, &count, text, sizeof text - 1, true, NULL));
    CHECK(count == 3 * 9 + 1 + 3 * 5 && ids[27] == 256);
    for (size_t i = 0; i < 9; i++)
        CHECK(ids[3 * i] == 0xE2 && ids[3 * i + 1] == 0x96 && ids[3 * i + 2] == 0x81);
    free(ids);
    llm_spm_free(&t.spm);
    llm_added_tokens_free(&t.added);
}

TEST(tokenizer_text, "texts too long are refused, and memory that runs out is reported") {
    llm_tokenizer t = text_tokenizer();
    llm_error error;
    int *ids = &text_calls, *want;
    size_t count = 5, failed = 0;
    CHECK_FAILS(llm_tokenizer_text_encode(&t, &ids, &count, "", (size_t)INT_MAX - 1, false, &error),
                error, "text of 2147483646 bytes: expected below 2^31");
    CHECK(!ids && count == 0);
    text_calls = 0; /* the largest size is no error, but that memory is out at once */
    CHECK_FAILS(llm_tokenizer_text_encode(&t, &ids, &count, "", (size_t)INT_MAX - 2, false, &error),
                error, "tokenizing 2147483645 bytes: out of memory");
    text_calls = 1 << 30;
    t.prefix_space = true;
    const char *text = "low lower<|end|>banana then some longer-words-of-little-use";
    size_t want_count;
    CHECK(llm_tokenizer_text_encode(&t, &want, &want_count, text, strlen(text), true, &error));
    for (int calls = 0; calls < 40; calls++) {
        text_calls = calls;
        const bool ok =
            llm_tokenizer_text_encode(&t, &ids, &count, text, strlen(text), true, &error);
        CHECK(ok == (text_calls >= 0)); /* whatever fails is told */
        text_calls = 1 << 30;
        CHECK(ok == (ids != NULL) && ok == (count > 0));
        if (!ok) CHECK(strcmp(error.message, "tokenizing 59 bytes: out of memory") == 0);
        failed += !ok;
        if (ok) CHECK(count == want_count && memcmp(ids, want, count * sizeof *ids) == 0);
        free(ids);
    }
    free(want);
    CHECK(failed > 5 && failed < 20);
    text_free(&t);
}
