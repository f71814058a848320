/* @tokenizer_ranks */
#include "../test.h"
#include "../tiny_hostile.h"

/* malloc and its like that fail once, after a number of calls */
static int ranks_calls = 1 << 30;
static void *ranks_malloc(size_t size) { /* of nothing: NULL, as it may be */
    return size > 0 && ranks_calls-- != 0 ? malloc(size) : NULL;
}
static void *ranks_calloc(size_t n, size_t size) {
    return ranks_calls-- != 0 ? calloc(n, size) : NULL;
}
static void *ranks_realloc(void *p, size_t size) {
    return ranks_calls-- != 0 ? realloc(p, size) : NULL;
}
#define malloc ranks_malloc
#define calloc ranks_calloc
#define realloc ranks_realloc

#include "../../llm.h"

static llm_tokenizer ranks_empty(llm_pre_tokenize_kind pattern) {
    llm_tokenizer t;
    llm_bpe none = llm_bpe_empty();
    llm_tokenizer_from_bpe(&t, &none, pattern);
    return t;
}

/* Reads from memory of exactly that size. */
static bool ranks_read(llm_tokenizer *t, const char *text, size_t size, llm_error *error) {
    char *exact = (char *)test_memory(size, 1);
    if (size > 0) memcpy(exact, text, size);
    return llm_tokenizer_ranks_read(t, exact, size, error);
}

static size_t ranks_answer(uint32_t *out, const char *text, size_t size, const void *context) {
    const llm_tokenizer *t = (const llm_tokenizer *)context;
    int *ids;
    size_t count;
    llm_buffer back = {NULL, 0, 0};
    CHECK(llm_tokenizer_encode(t, &ids, &count, text, size, NULL));
    CHECK(llm_tokenizer_decode(t, &back, ids, count, NULL));
    CHECK(back.size == size && (size == 0 || memcmp(back.data, text, size) == 0));
    for (size_t i = 0; i < count; i++) out[i] = (uint32_t)ids[i];
    free(ids);
    llm_buffer_free(&back);
    return count;
}

TEST(tokenizer_ranks, "ids are those of tiktoken on 2,200 hostile strings, under three patterns") {
    const char *const name[3] = {"ids/gpt2", "ids/llama3", "ids/qwen2"};
    const llm_pre_tokenize_kind pattern[3] = {LLM_PRE_TOKENIZE_GPT2, LLM_PRE_TOKENIZE_LLAMA3,
                                              LLM_PRE_TOKENIZE_QWEN2};
    const size_t size = (size_t)*golden("file/size");
    const float *pair = golden("file/text");
    char *text = (char *)test_memory(size, 1);
    for (size_t i = 0; i < size; i++)
        text[i] = (char)(unsigned char)((unsigned)pair[i / 2] >> (i % 2 ? 0 : 8));
    for (size_t k = 0; k < 3; k++) {
        llm_tokenizer t = ranks_empty(pattern[k]);
        CHECK(ranks_read(&t, text, size, NULL));
        CHECK(t.vocab == 700 && t.bpe.merges == 444 && t.ignore_merges);
        tiny_hostile_check(name[k], TINY_HOSTILE_KNOWN, ranks_answer, &t);
        llm_tokenizer_free(&t);
    }
}

/* Base 64 by its definition: the bits of the text as one long number, six at a time. */
static void ranks_spell(char *out, const unsigned char *bytes, size_t size) {
    static const char letter[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;
    for (size_t bit = 0; bit < 8 * size; bit += 6) {
        unsigned six = 0;
        for (size_t b = bit; b < bit + 6; b++)
            six = six << 1 | (b < 8 * size ? bytes[b / 8] >> (7 - b % 8) & 1u : 0u);
        out[n++] = letter[six];
    }
    while (n % 4 != 0) out[n++] = '=';
    out[n] = 0;
}

TEST(tokenizer_ranks, "base 64: all bytes in all places; nothing else spells any") {
    llm_rng rng = llm_rng_seed(1);
    size_t bad;
    for (size_t round = 0; round < 2000; round++) {
        unsigned char bytes[8];
        char text[16];
        const size_t size = round % 9 == 0 ? 0 : 1 + llm_rng_below(&rng, 8);
        for (size_t i = 0; i < size; i++) bytes[i] = (unsigned char)llm_rng_below(&rng, 256);
        ranks_spell(text, bytes, size);
        llm_buffer out = {NULL, 0, 0};
        CHECK(llm_tokenizer_ranks_base64(&out, &bad, text, strlen(text)));
        CHECK(out.size == size && (size == 0 || memcmp(out.data, bytes, size) == 0));
        llm_buffer_free(&out);
    }
    static const char *const wrong[] = {"a",    "ab",   "abc",   "a===", "====", "ab=c", "a=bc",
                                        "ab-c", "ab c", "ab\nc", "IB==", "AAF=", "ab@c", "ab[c",
                                        "ab`c", "ab{c", "ab.c",  "ab:c", "ab*c", "ab,c", "=AAA"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        llm_buffer out = {NULL, 0, 0};
        bad = 7;
        CHECK(!llm_tokenizer_ranks_base64(&out, &bad, wrong[i], strlen(wrong[i])));
        CHECK(bad == 0);
        llm_buffer_free(&out);
    }
    CHECK(llm_tokenizer_ranks_number("", 0, 9) == SIZE_MAX);
    CHECK(llm_tokenizer_ranks_number("8", 1, 9) == 8 && llm_tokenizer_ranks_number("9", 1, 9) > 9);
    CHECK(llm_tokenizer_ranks_number("007", 3, 9) == 7);
    CHECK(llm_tokenizer_ranks_number("1a", 2, 99) == SIZE_MAX);
    CHECK(llm_tokenizer_ranks_number("1/", 2, 99) == SIZE_MAX);
    CHECK(llm_tokenizer_ranks_number("1:", 2, 99) == SIZE_MAX);
    CHECK(llm_tokenizer_ranks_number("99999999999999999999999", 23, SIZE_MAX / 16) == SIZE_MAX);
}

/* The 256 bytes with ranks first, first + 1, ..., but for `skip`, then `more`. */
static char *ranks_file(int first, int skip, const char *more) {
    char *out = (char *)test_memory(8192, 1), spelt[8];
    size_t n = 0;
    for (int b = 0; b < 256; b++) {
        const unsigned char byte = (unsigned char)b;
        ranks_spell(spelt, &byte, 1);
        if (b != skip) n += (size_t)sprintf(out + n, "%s %d\n", spelt, first + b);
    }
    sprintf(out + n, "%s", more);
    return out;
}

TEST(tokenizer_ranks, "gaps, any order, no last newline, carriage returns; a token taken whole") {
    llm_tokenizer t = ranks_empty(LLM_PRE_TOKENIZE_GPT2);
    llm_error error;
    /* "ab" 300, "bc" 299, "abc" 310, "xyz" 305 and "yz" 304 */
    const char *file = ranks_file(2, -1, "\nYWI= 300\r\nYmM= 299\n\neHl6 305\nYWJj 310\neXo= 304");
    CHECK(ranks_read(&t, file, strlen(file), &error));
    CHECK(t.vocab == 311 && t.bpe.merges == 5 && t.bpe.byte_id[0] == 2);
    CHECK(t.bpe.merge[0].result == 299 && t.bpe.merge[1].result == 300);
    CHECK(t.bpe.merge[4].result == 310 && t.bpe.merge[4].left == t.bpe.byte_id['a'] &&
          t.bpe.merge[4].right == 299);
    int *ids;
    size_t count;
    CHECK(llm_tokenizer_encode(&t, &ids, &count, "abc", 3, &error) && count == 1 && ids[0] == 310);
    free(ids);
    CHECK(llm_tokenizer_encode(&t, &ids, &count, "xabc", 4, &error) && count == 2 && ids[1] == 310);
    free(ids);
    llm_tokenizer_free(&t);
}

TEST(tokenizer_ranks, "what is wrong is said in one sentence") {
    static const struct {
        int skip;
        const char *more, *error;
    } row[] = {
        {-1, "YWI=", "ranks, line 257: expected base 64, a space, a rank below 1538"},
        {-1, "YWI= ", "ranks, line 257: expected base 64"},
        {-1, "YWI= 1538", "ranks, line 257: expected base 64, a space, a rank below 1538"},
        {-1, "YWI= -1", "ranks, line 257: expected base 64"},
        {-1, "YWI= 256 ", "ranks, line 257: expected base 64"},
        {-1, "YWI= 9", "ranks, line 257: rank 9 is there twice"},
        {-1, "YQ== 256", "ranks, rank 256, \"YQ==\": is there twice"},
        {-1, "YWI 256", "ranks, rank 256, \"YWI\": is no token in base 64"},
        {-1, " 256", "ranks, rank 256, \"\": is no token in base 64"},
        {97, "", "ranks: byte 0x61 has no rank"},
        {-1, "YWJj 256", "ranks, rank 256: 3 tokens of lower rank make it, expected 2"},
        {-1, "YWJj 256\nYWI= 257", "ranks, rank 256: 3 tokens of lower rank make it, expected 2"},
    };
    llm_error error;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        llm_tokenizer t = ranks_empty(LLM_PRE_TOKENIZE_GPT2);
        char *file = ranks_file(0, row[i].skip, row[i].more);
        CHECK_FAILS(ranks_read(&t, file, strlen(file), &error), error, row[i].error);
        llm_tokenizer_free(&t);
    }
    llm_tokenizer t = ranks_empty(LLM_PRE_TOKENIZE_GPT2);
    const char *last = ranks_file(0, -1, "YWI= 1537");
    CHECK(ranks_read(&t, last, strlen(last), &error) && t.vocab == 1538);
    llm_tokenizer_free(&t);
    t = ranks_empty(LLM_PRE_TOKENIZE_GPT2);
    const char *zero = ranks_file(1, -1, "YWI= 0"); /* a merge may have the id 0 */
    CHECK(ranks_read(&t, zero, strlen(zero), &error) && t.bpe.merge[0].result == 0);
    llm_tokenizer_free(&t);
    char *line = (char *)test_memory(8192, 1); /* an empty line counts for the limit too */
    line[0] = '\n';
    strcpy(line + 1, ranks_file(0, -1, "YWI= 1539"));
    t = ranks_empty(LLM_PRE_TOKENIZE_GPT2);
    CHECK(ranks_read(&t, line, strlen(line), &error) && t.vocab == 1540);
    llm_tokenizer_free(&t);
    t = ranks_empty(LLM_PRE_TOKENIZE_GPT2);
    CHECK_FAILS(ranks_read(&t, "", 0, &error), error, "ranks: byte 0x00 has no rank");
    llm_tokenizer_free(&t);
}

TEST(tokenizer_ranks, "when memory is out, it says so and nothing leaks") {
    const char *file = ranks_file(0, -1, "YWI= 258\nYWJj 259");
    int failed = 0;
    bool ok = false;
    for (int calls = 0; calls < 600 && !ok; calls++) {
        llm_tokenizer t = ranks_empty(LLM_PRE_TOKENIZE_GPT2);
        llm_error error;
        const size_t size = strlen(file);
        char *exact = (char *)test_memory(size, 1);
        memcpy(exact, file, size);
        error.message[0] = 0;
        ranks_calls = calls;
        ok = llm_tokenizer_ranks_read(&t, exact, size, &error);
        ranks_calls = 1 << 30;
        CHECK(ok || strstr(error.message, "out of memory"));
        failed += !ok;
        llm_tokenizer_free(&t);
    }
    CHECK(ok && failed > 250);
}

TEST(tokenizer_ranks, "lines and tokens at the edges: none, the first one twice, long ones") {
    llm_error error;
    size_t line_of[4] = {0}, count = 7;
    CHECK(llm_tokenizer_ranks_lines(line_of, &count, 4, "", 0, &error) && count == 0);
    CHECK(llm_tokenizer_ranks_lines(line_of, &count, 4, "\r\nYQ== 0\r\n", 10, &error) &&
          count == 1);
    CHECK(line_of[0] == 3 && line_of[1] == 0);
    line_of[0] = 0;
    CHECK_FAILS(llm_tokenizer_ranks_lines(line_of, &count, 4, "YQ== 0\nYg== 0", 13, &error), error,
                "line 2: rank 0 is there twice");

    char stars[70];
    memset(stars, '*', sizeof stars);
    llm_bpe bpe = llm_bpe_empty();
    CHECK(
        llm_tokenizer_ranks_put(&bpe, "YWJhYg==", 8, &error)); /* abab, the longest, is the first */
    CHECK_FAILS(llm_tokenizer_ranks_put(&bpe, "YWJhYg==", 8, &error), error, "is there twice");
    CHECK_FAILS(llm_tokenizer_ranks_put(&bpe, stars, 70, &error), error, "is no token in base 64");
    CHECK(strspn(strchr(error.message, '*'), "*") == 60);
    CHECK(llm_tokenizer_ranks_put(&bpe, "YQ==", 4, &error));
    CHECK(llm_tokenizer_ranks_put(&bpe, "Yg==", 4, &error));
    CHECK_FAILS(llm_tokenizer_ranks_merge(&bpe, &error), error, "rank 0: 4 tokens of lower rank");
    llm_bpe_free(&bpe);
    CHECK(llm_tokenizer_ranks_merge(&bpe, &error)); /* of no tokens */
}
