/* @gpt2_bin */
#include "../test.h"

#include "../../llm.h"

#include "../tiny_bin.h"

enum { B = 2, T = 3, V = 5 };

static unsigned char *bytes_of(size_t *n, int version) {
    const float *x = golden_n(n, "v%d/file", version);
    return tiny_bin_bytes(x, *n);
}

TEST(gpt2_bin, "the logits of versions 1, 3 and 5 are transformers' for the same weights") {
    for (int version = 1; version <= 5; version += 2) {
        size_t n;
        llm_gpt2 g;
        llm_error e;
        const unsigned char *bytes = bytes_of(&n, version);
        CHECK(llm_gpt2_bin_load(&g, tiny_bin_written(bytes, n), B, 0, &e));
        CHECK(g.config.vocab == V && g.config.context == T && g.config.layers == 2);
        CHECK(g.config.heads == 2 && g.config.width == 4 && g.config.hidden == 16);
        llm_gpt2_forward(&g, as_ints(golden("out/ids"), B * T), NULL, B, T);
        CHECK_GOLDEN(g.logits, B * T * V, 2e-6f, "out/logits");
        llm_gpt2_destroy(&g);
        for (size_t t = 2; t <= T; t++) { /* room for two tokens, or for all */
            CHECK(llm_gpt2_bin_load(&g, test_path("model.bin"), 1, t, &e));
            llm_gpt2_destroy(&g);
        }
    }
}

TEST(gpt2_bin, "a file that is cut off anywhere, or longer, is refused") {
    for (int version = 1; version <= 5; version += 2) {
        size_t n;
        llm_gpt2 g;
        llm_error e;
        const unsigned char *bytes = bytes_of(&n, version);
        for (size_t size = 0; size < n; size += size >= 976 && size < 1030 ? 1 : 61) {
            const char *why = size < 1024 ? "bytes, a header has 1024" : "bytes, the header says";
            CHECK_FAILS(llm_gpt2_bin_load(&g, tiny_bin_written(bytes, size), 0, 0, &e), e, why);
        }
        CHECK_FAILS(llm_gpt2_bin_load(&g, tiny_bin_written(bytes, n - 1), 0, 0, &e), e,
                    "the header says");
        CHECK_FAILS(llm_gpt2_bin_load(&g, tiny_bin_written(bytes, n + 1), 0, 0, &e), e,
                    "the header says");
        CHECK_FAILS(llm_gpt2_bin_load(&g, tiny_bin_written(bytes, n), 1, T + 1, &e), e,
                    "a context of 3");
        CHECK_FAILS(llm_gpt2_bin_load(&g, test_path("nowhere"), 0, 0, &e), e, "nowhere");
    }
}

TEST(gpt2_bin, "a header that cannot be is refused, and what is wrong named") {
    static const struct {
        size_t at;
        long value;
        const char *why;
    } refused[] = {{0, 20240327, "begins with 20240327"},
                   {1, 2, "version 2, expected 1, 3 or 5"},
                   {1, 4, "version 4"},
                   {1, 6, "version 6"},
                   {2, 0, "Tmax is 0, expected 1 to 16777216"},
                   {2, 16777217, "Tmax is 16777217"},
                   {3, -1, "V is -1"},
                   {3, 16777217, "V is 16777217"},
                   {4, 0, "L is 0"},
                   {4, 4097, "L is 4097"},
                   {5, 65537, "H is 65537"},
                   {6, 65537, "C is 65537"},
                   {5, 3, "width 4 is not a multiple of 3 heads"},
                   {7, 4, "a table of 4 rows for 5 tokens"},
                   {7, -1, "a table of -1 rows"},
                   {7, 33554433, "a table of 33554433 rows"},
                   {7, 9, "the header says"},
                   {4, 1, "the header says"},
                   {4, 3, "the header says"}};
    size_t n;
    llm_gpt2 g;
    llm_error e;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        unsigned char *bytes = bytes_of(&n, 3);
        tiny_bin_put(bytes + 4 * refused[i].at, refused[i].value);
        CHECK_FAILS(llm_gpt2_bin_load(&g, tiny_bin_written(bytes, n), 0, 0, &e), e, refused[i].why);
    }
    /* the largest that is allowed passes the header */
    llm_gpt2_bin_header h;
    unsigned char *bytes = bytes_of(&n, 3);
    tiny_bin_put(bytes + 4 * 2, 1 << 24), tiny_bin_put(bytes + 4 * 3, 1 << 24),
        tiny_bin_put(bytes + 4 * 4, 4096), tiny_bin_put(bytes + 4 * 5, 1 << 16);
    tiny_bin_put(bytes + 4 * 6, 1 << 16), tiny_bin_put(bytes + 4 * 7, 1 << 25);
    CHECK(llm_gpt2_bin_read(&h, bytes, n, &e) && h.padded == 1 << 25 && h.config.hidden == 1 << 18);
}
