/* @gpt2_state */
#include "../test.h"

#include "../../llm.h"

#include "../tiny_bin.h"

enum { B = 2, T = 3, V = 5, C = 4, HEAD = 1024, IDS = 4 * B * T };

/* The model, room for its batch, and the bytes of the state file. */
static unsigned char *start(llm_gpt2 *g, size_t *n) {
    size_t size;
    llm_error e;
    const float *x = golden_n(&size, "model/file");
    CHECK(llm_gpt2_bin_load(g, tiny_bin_written(tiny_bin_bytes(x, size), size), B, 0, &e));
    x = golden_n(n, "v2/file");
    CHECK(*n == (size_t)golden("v2/size")[0]);
    return tiny_bin_bytes(x, *n);
}
static void add(unsigned char *at, float by) {
    float x;
    memcpy(&x, at,
           sizeof x); /* this machine is little-endian, or the golden model would not load */
    x += by;
    memcpy(at, &x, sizeof x);
}

TEST(gpt2_state,
     "logits, loss and all sixteen gradients are transformers'; each number that differs "
     "shows in its own group") {
    llm_gpt2 g;
    llm_gpt2_state s;
    llm_error e;
    size_t n;
    unsigned char *bytes = start(&g, &n);
    CHECK(llm_gpt2_state_open(&s, tiny_bin_written(bytes, n), &g.config, &e));
    CHECK(s.B == B && s.T == T && s.padded == 8);
    for (size_t pass = 0; pass < 2; pass++) { /* gradients do not add up */
        const llm_gpt2_state_result r = llm_gpt2_state_compare(&g, &s);
        CHECK(r.logits < 1e-5f && r.loss < 1e-6f && r.logits > 0.0f);
        for (size_t k = 0; k < 16; k++) CHECK(r.grad[k] < 3e-6f);
    }
    llm_gpt2_state_close(&s);

    /* the first and the last number of each group of each layer */
    const size_t F = 16, L = 2;
    const size_t size[16] = {8 * C, T * C, C,     C, 3 * C * C, 3 * C, C * C, C,
                             C,     C,     F * C, F, C * F,     C,     C,     C};
    size_t at = HEAD + 2 * IDS;
    for (size_t k = 0; k < 18; k++) {
        const size_t numbers = k == 0 ? B * T * V : k == 1 ? 1 : size[k - 2];
        const size_t layers = k >= 4 && k < 16 ? L : 1;
        for (size_t turn = 0; turn < 2 * layers; turn++) {
            const size_t used = k == 2 ? V * C : numbers; /* rows of no token are not compared */
            unsigned char *p = bytes + at + 4 * (turn / 2 * numbers + (turn % 2 ? used - 1 : 0));
            add(p, 0.5f);
            CHECK(llm_gpt2_state_open(&s, tiny_bin_written(bytes, n), &g.config, &e));
            const llm_gpt2_state_result r = llm_gpt2_state_compare(&g, &s);
            for (size_t i = 0; i < 18; i++) {
                const float off = i == 0 ? r.logits : i == 1 ? r.loss : r.grad[i - 2];
                CHECK_NEAR(off, i == k ? 0.5 : 0.0, 1e-4);
            }
            llm_gpt2_state_close(&s);
            add(p, -0.5f);
        }
        at += 4 * layers * numbers;
    }
    CHECK(at == n);
    const float nan = NAN; /* one among right numbers is seen */
    memcpy(bytes + HEAD + 2 * IDS + 8, &nan, 4);
    memcpy(bytes + n - 4 * (2 * C + 3), &nan, 4); /* of the MLP's last bias, layer 1 */
    CHECK(llm_gpt2_state_open(&s, tiny_bin_written(bytes, n), &g.config, &e));
    const llm_gpt2_state_result r = llm_gpt2_state_compare(&g, &s);
    CHECK(isnan(r.logits) && isnan(r.grad[13]) && !isnan(r.loss) && !isnan(r.grad[12]));
    llm_gpt2_state_close(&s);
    llm_gpt2_destroy(&g);
}

TEST(gpt2_state, "files of version 1 have no rows of no token; what cannot be is refused") {
    llm_gpt2 g;
    llm_gpt2_state s;
    llm_error e;
    size_t n;
    unsigned char *bytes = start(&g, &n);
    const size_t rows = HEAD + 2 * IDS + 4 * (B * T * V + 1 + V * C), tail = n - rows - 4 * 3 * C;
    unsigned char *plain = tiny_bin_bytes(golden("v2/file"), n);
    memmove(plain + rows, plain + rows + 4 * 3 * C, tail);
    const size_t less = n - 4 * 3 * C;
    CHECK(less == (size_t)golden("v1/size")[0]);
    for (int version = 1; version <= 2; version++) { /* version 2 without padding is one, too */
        plain[4] = (unsigned char)version;
        CHECK(llm_gpt2_state_open(&s, tiny_bin_written(plain, less), &g.config, &e));
        CHECK(s.padded == V);
        const llm_gpt2_state_result r = llm_gpt2_state_compare(&g, &s);
        for (size_t k = 0; k < 16; k++) CHECK(r.grad[k] < 3e-6f);
        llm_gpt2_state_close(&s);
    }
    static const struct {
        size_t at;
        long value;
        const char *why;
    } refused[] = {{0, 20240326, "begins with 20240326, not 20240327"},
                   {4, 3, "version 3, expected 1 or 2"},
                   {4, 1, "a table of 8 rows for 5 tokens"},
                   {8, 0, "0 rows of 3 tokens, the model has 3 places"},
                   {8, -1, "-1 rows of 3 tokens, the model has 3 places"},
                   {12, 0, "2 rows of 0 tokens, the model has 3 places"},
                   {12, 4, "2 rows of 4 tokens, the model has 3 places"},
                   {8, 0x7fffffff, "are not 2147483647 rows of 3 tokens of this model"},
                   {8, 3, "are not 3 rows of 3 tokens"},
                   {HEAD, 5, "token 5, the model has 5"},
                   {HEAD + 2 * IDS - 4, -1, "token -1, the model has 5"}};
    for (size_t k = 0; k < sizeof refused / sizeof *refused; k++) {
        unsigned char was[4];
        memcpy(was, bytes + refused[k].at, 4);
        tiny_bin_put(bytes + refused[k].at, refused[k].value);
        CHECK_FAILS(llm_gpt2_state_open(&s, tiny_bin_written(bytes, n), &g.config, &e), e,
                    refused[k].why);
        memcpy(bytes + refused[k].at, was, 4);
    }
    for (size_t size = 0; size<n; size += size> 1000 && size < 1040 ? 1 : 203) {
        const char *why = size < HEAD ? "bytes, a header has 1024" : "are not 2 rows of 3 tokens";
        CHECK_FAILS(llm_gpt2_state_open(&s, tiny_bin_written(bytes, size), &g.config, &e), e, why);
    }
    unsigned char *more = tiny_bin_bytes(golden("v2/file"), n - 8); /* 128 rows of no token */
    more = (unsigned char *)realloc(more, n + 4 * 125 * C);
    memset(more + n - 8, 0, 8 + 4 * 125 * C);
    memcpy(more, bytes, n);
    CHECK(llm_gpt2_state_open(&s, tiny_bin_written(more, n + 4 * 124 * C), &g.config, &e));
    CHECK(s.padded == V + 127);
    llm_gpt2_state_close(&s);
    CHECK_FAILS(llm_gpt2_state_open(&s, tiny_bin_written(more, n + 4 * 125 * C), &g.config, &e), e,
                "a table of 133 rows for 5 tokens");
    for (size_t k = 1; k < 4; k++)
        CHECK_FAILS(llm_gpt2_state_open(&s, tiny_bin_written(bytes, n + k), &g.config, &e), e,
                    "are not 2 rows");
    CHECK_FAILS(llm_gpt2_state_open(&s, tiny_bin_written(bytes, n - 4), &g.config, &e), e,
                "are not 2 rows");
    /* a whole row of the table less than there must be */
    CHECK_FAILS(llm_gpt2_state_open(&s, tiny_bin_written(bytes, n - 4 * 4 * C), &g.config, &e), e,
                "are not 2 rows");
    for (size_t texts = 1; texts <= B; texts++) /* batches of any size, of token 0 alone */
        for (size_t tokens = 1; tokens <= T; tokens++) {
            const size_t places = texts * tokens;
            const size_t size =
                HEAD + 8 * places + 4 * (places * V + 1 + llm_gpt2_count(&g.config));
            unsigned char *zero = (unsigned char *)test_memory(size, 1);
            memcpy(zero, bytes, 8);
            tiny_bin_put(zero + 8, (long)texts), tiny_bin_put(zero + 12, (long)tokens);
            CHECK(llm_gpt2_state_open(&s, tiny_bin_written(zero, size), &g.config, &e));
            CHECK(s.B == texts && s.T == tokens && s.padded == V);
            llm_gpt2_state_close(&s);
        }
    CHECK_FAILS(llm_gpt2_state_open(&s, test_path("nowhere"), &g.config, &e), e, "nowhere");
    free(more);
    llm_gpt2_destroy(&g);
}
