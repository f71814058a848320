/* @gpt2_choices */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_bin.h"

enum { V = 9, EXAMPLES = 12, FIRST = 1024 };

static unsigned char *file_of(size_t *n) {
    const float *x = golden_n(n, "file/bytes");
    return tiny_bin_bytes(x, *n);
}

/* A model of pairs: behind each token the logits of its row. */
static void pairs(void *context, float *logits, const int *ids, size_t rows, size_t t) {
    for (size_t i = 0; i < rows * t; i++)
        memcpy(logits + i * V, (const float *)context + (size_t)ids[i] * V, V * sizeof(float));
}

TEST(gpt2_choices, "a file of NumPy's is answered as NumPy answers it, by total and by mean, for "
                   "batches of 1 to 4 answers") {
    size_t n;
    llm_error e;
    const unsigned char *bytes = file_of(&n);
    const float *right = golden("out/right");
    llm_arena arena = test_arena(1 << 16);
    for (size_t rows = 1; rows <= 4; rows++)
        for (size_t by = 0; by < 2; by++) {
            llm_gpt2_choices f;
            const llm_causal_lm m = {V, rows, 8, golden("model/logits"), pairs};
            if (!llm_gpt2_choices_open(&f, tiny_bin_written(bytes, n), V, &e))
                test_fail(__FILE__, __LINE__, "%s", e.message);
            CHECK(f.examples == EXAMPLES && f.most == (size_t)golden("out/most")[0]);
            const llm_gpt2_choices_result r = llm_gpt2_choices_eval(
                &f, &m, by ? LLM_CAUSAL_LM_PER_TOKEN : LLM_CAUSAL_LM_TOTAL, &arena);
            CHECK(arena.used == 0);
            CHECK(r.examples == EXAMPLES && r.right == (size_t)right[by]);
            CHECK(r.greedy == (size_t)golden("out/greedy")[0]);
            const llm_gpt2_choices_result none =
                llm_gpt2_choices_eval(&f, &m, LLM_CAUSAL_LM_TOTAL, &arena);
            CHECK(none.examples == 0 && none.right == 0 && none.greedy == 0); /* all were read */
            CHECK_ASSERTS(llm_gpt2_choices_eval(&f, &m, LLM_CAUSAL_LM_PER_BYTE, &arena));
            llm_gpt2_choices_close(&f);
        }
}

/* A file of one example: a text of `text` tokens 1 2 3 .., answers of 1 and 2 tokens, label 1. */
static size_t small(unsigned char *bytes, size_t text) {
    const size_t words[] = {65535, 0, 0, 1, 2, text};
    size_t at = FIRST;
    memset(bytes, 0, FIRST);
    tiny_bin_put(bytes, 20240522), tiny_bin_put(bytes + 4, 1), tiny_bin_put(bytes + 8, 1);
    for (size_t i = 0; i < 6; i++, at += 2)
        bytes[at] = (unsigned char)words[i], bytes[at + 1] = (unsigned char)(words[i] >> 8);
    const size_t behind[] = {1, 7, 2, 8, 5};
    for (size_t i = 0; i < text + 5; i++, at += 2)
        bytes[at] = (unsigned char)(i < text ? i + 1 : behind[i - text]), bytes[at + 1] = 0;
    bytes[FIRST + 2] = (unsigned char)(at - FIRST);
    return at;
}

TEST(gpt2_choices, "an example's parts are where they should be") {
    unsigned char bytes[FIRST + 64];
    const size_t n = small(bytes, 3);
    llm_gpt2_choices f;
    llm_gpt2_choices_example x;
    llm_error e;
    llm_arena arena = test_arena(1 << 12);
    CHECK(llm_gpt2_choices_open(&f, tiny_bin_written(bytes, n), V, &e));
    CHECK(f.examples == 1 && f.most == 5);
    CHECK(llm_gpt2_choices_next(&x, &f, &arena));
    CHECK(x.label == 1 && x.n == 2 && x.P == 3);
    for (int t = 0; t < 3; t++) CHECK(x.context[t] == t + 1);
    CHECK(x.start[0] == 0 && x.start[1] == 1 && x.start[2] == 3);
    CHECK(x.choice[0] == 7 && x.choice[1] == 8 && x.choice[2] == 5);
    CHECK(x.bytes[0] == 1 && x.bytes[1] == 1);
    CHECK(x.choice[3] == -1); /* the arena's own bytes: nothing behind the last answer is read */
    CHECK(!llm_gpt2_choices_next(&x, &f, &arena));
    llm_gpt2_choices_close(&f);

    for (size_t i = 0; i < 5; i++) /* the longer answer may be the first */
        bytes[FIRST + 18 + 2 * i] = (unsigned char)(i == 0 ? 2 : i == 3 ? 1 : i);
    CHECK(llm_gpt2_choices_open(&f, tiny_bin_written(bytes, n), V, &e));
    CHECK(f.most == 5);
    llm_gpt2_choices_close(&f);

    const size_t words[15] = {65535, 30, 0, 2, 3, 2, 1, 2, 1, 3, 1, 4, 2, 5, 6};
    for (size_t i = 0; i < 15; i++) { /* three answers, on exactly their memory */
        bytes[FIRST + 2 * i] = (unsigned char)words[i];
        bytes[FIRST + 2 * i + 1] = (unsigned char)(words[i] >> 8);
    }
    llm_arena least = test_arena(2 * 64);
    CHECK(llm_gpt2_choices_open(&f, tiny_bin_written(bytes, FIRST + 30), V, &e));
    CHECK(llm_gpt2_choices_next(&x, &f, &least));
    CHECK(least.used == 2 * 64 && x.n == 3 && x.start[3] == 4 && x.choice[3] == 6 && f.most == 4);
    llm_gpt2_choices_close(&f);

    tiny_bin_put(bytes + 8, 0); /* no examples */
    CHECK(llm_gpt2_choices_open(&f, tiny_bin_written(bytes, FIRST), V, &e));
    CHECK(f.examples == 0 && f.most == 0 && !llm_gpt2_choices_next(&x, &f, &arena));
    llm_gpt2_choices_close(&f);
}

TEST(gpt2_choices, "what cannot be is refused, and what is wrong named") {
    static const struct {
        size_t at;
        int value;
        const char *why;
    } refused[] = {{0, 11, "begins with 20240395, not 20240522"},
                   {4, 2, "version 2, expected 1"},
                   {11, 128, "examples, expected 0 to 65536"},
                   {10, 1, "65537 examples, expected 0 to 65536"},
                   {8, 2, "example 1 is cut off"},
                   {8, 0, "28 bytes behind the last of 0 examples"},
                   {FIRST, 3, "example 0 begins with 65283 and number 0"},
                   {FIRST + 4, 1, "example 0 begins with 65535 and number 1"},
                   {FIRST + 2, 30, "example 0 is cut off"},
                   {FIRST + 3, 255, "example 0 is cut off"},
                   {FIRST + 2, 24, "part 2 of example 0 has 2 tokens in 24 bytes"},
                   {FIRST + 2, 27, "part 2 of example 0 has 2 tokens in 27 bytes"},
                   {FIRST + 2, 10, "part 0 of example 0 has 0 tokens in 10 bytes"},
                   {FIRST + 2, 0, "part 0 of example 0 has 0 tokens in 0 bytes"},
                   {FIRST + 6, 2, "label 2 of 2 answers"},
                   {FIRST + 8, 1, "label 1 of 1 answers"},
                   {FIRST + 8, 3, "part 3 of example 0 has 0 tokens in 28 bytes"},
                   {FIRST + 10, 0, "part 0 of example 0 has 0 tokens in 28 bytes"},
                   {FIRST + 11, 255, "tokens in 28 bytes"},
                   {FIRST + 10, 9, "part 0 of example 0 has 9 tokens in 28 bytes"},
                   {FIRST + 12, 9, "token 9 in example 0, the model has 9"},
                   {FIRST + 27, 1, "token 261 in example 0"}};
    llm_gpt2_choices f;
    llm_error e;
    for (size_t k = 0; k < sizeof refused / sizeof *refused; k++) {
        unsigned char bytes[FIRST + 64];
        const size_t n = small(bytes, 3);
        CHECK(n == FIRST + 28);
        bytes[refused[k].at] = (unsigned char)refused[k].value;
        CHECK_FAILS(llm_gpt2_choices_open(&f, tiny_bin_written(bytes, n), V, &e), e,
                    refused[k].why);
    }
    unsigned char bytes[FIRST + 64];
    size_t n = small(bytes, 3);
    bytes[FIRST + 20] = 1, bytes[FIRST + 22] = 1; /* answers of 1, 1 and, at the end, no token */
    CHECK_FAILS(llm_gpt2_choices_open(&f, tiny_bin_written(bytes, n), V, &e), e,
                "ends behind 26 of its 28 bytes");
    small(bytes, 3);
    bytes[FIRST + 2] = 10; /* no room for a text */
    CHECK_FAILS(llm_gpt2_choices_open(&f, tiny_bin_written(bytes, FIRST + 10), V, &e), e,
                "part 0 of example 0 has 0 tokens in 10 bytes");
    n = small(bytes, 3);
    tiny_bin_put(bytes + 8, 65536); /* as many as there can be numbers */
    CHECK_FAILS(llm_gpt2_choices_open(&f, tiny_bin_written(bytes, n), V, &e), e,
                "example 1 is cut off");
    n = small(bytes, 3);
    for (size_t size = 0; size<n; size += size> 1000 ? 1 : 100)
        CHECK_FAILS(llm_gpt2_choices_open(&f, tiny_bin_written(bytes, size), V, &e), e,
                    size < FIRST ? "bytes, a header has 1024" : "example 0 is cut off");
    CHECK_FAILS(llm_gpt2_choices_open(&f, tiny_bin_written(bytes, n + 1), V, &e), e,
                "1 bytes behind the last of 1 examples");
    CHECK_FAILS(llm_gpt2_choices_open(&f, test_path("nowhere"), V, &e), e, "nowhere");
}
