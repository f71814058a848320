/* @decoder_only_file */
#include "../test.h"

#include "../../llm.h"

#include "../tiny_bin.h"

enum { B = 2, T = 4, V = 5 };
static const char *const name[4] = {"v0_tied", "v0_untied", "v1_tied", "v2_untied"};

static unsigned char *bytes_of(size_t *n, size_t k) {
    const float *x = golden_n(n, "%s/file", name[k]);
    return tiny_bin_bytes(x, *n);
}

TEST(decoder_only_file, "the logits of all versions are transformers' for the same weights") {
    for (size_t k = 0; k < 4; k++) {
        size_t n;
        llm_decoder_only g;
        llm_error e;
        const bool tied = k == 0 || k == 2;
        const unsigned char *bytes = bytes_of(&n, k);
        CHECK(llm_decoder_only_file_load(&g, tiny_bin_written(bytes, n), B, 0, &e));
        CHECK(g.config.tied == tied && g.config.context == T && g.config.block.hidden == 4);
        CHECK(g.config.block.kv_heads == 1 && g.config.block.head_size == 4);
        llm_decoder_only_forward(&g, as_ints(golden("in/ids"), B * T), NULL, B, T);
        CHECK_GOLDEN(g.logits, B * T * V, 2e-6f, "%s/logits", tied ? "tied" : "untied");
        llm_decoder_only_destroy(&g);
        for (size_t t = 2; t <= T; t += 2) {
            CHECK(llm_decoder_only_file_load(&g, test_path("model.bin"), 1, t, &e));
            llm_decoder_only_destroy(&g);
        }
    }
}

TEST(decoder_only_file, "a file that is cut off anywhere, or longer, is refused") {
    for (size_t k = 0; k < 4; k++) {
        size_t n;
        llm_decoder_only g;
        llm_error e;
        const unsigned char *bytes = bytes_of(&n, k);
        for (size_t size = 0; size < n; size += size < 40 || (size > 250 && size < 260) ? 1 : 53) {
            const bool head = size < (k < 2 || size < 4 ? 28 : 256);
            CHECK_FAILS(llm_decoder_only_file_load(&g, tiny_bin_written(bytes, size), 1, 0, &e), e,
                        head ? "hold no header" : "the header says");
        }
        CHECK_FAILS(llm_decoder_only_file_load(&g, tiny_bin_written(bytes, n - 1), 1, 0, &e), e,
                    "says");
        CHECK_FAILS(llm_decoder_only_file_load(&g, tiny_bin_written(bytes, n + 1), 1, 0, &e), e,
                    "says");
        CHECK_FAILS(llm_decoder_only_file_load(&g, tiny_bin_written(bytes, n), 1, T + 1, &e), e,
                    "a context of 4, 5 were asked for");
        CHECK_FAILS(llm_decoder_only_file_load(&g, test_path("nowhere"), 1, 0, &e), e, "nowhere");
    }
}

TEST(decoder_only_file, "a header that cannot be is refused, and what is wrong named") {
    static const struct {
        size_t file, at; /* a number of the seven; 8: version, 9: group */
        long value;
        const char *why;
    } refused[] = {{0, 0, 0, "dim is 0, expected 1 to 65536"},
                   {0, 0, 65537, "dim is 65537"},
                   {0, 1, 1048577, "hidden is 1048577"},
                   {1, 2, 4097, "layers is 4097"},
                   {1, 3, 4097, "heads is 4097"},
                   {2, 4, 0, "key heads is 0"},
                   {0, 5, -16777217, "vocabulary is 16777217"},
                   {2, 4, 4097, "key heads is 4097"},
                   {2, 5, -5, "vocabulary is"},
                   {2, 6, 16777217, "context is 16777217"},
                   {3, 3, 3, "8 channels in 3 heads on 1"},
                   {3, 3, 8, "8 channels in 8 heads on 1"},
                   {3, 4, 4, "8 channels in 2 heads on 4"},
                   {2, 8, 0, "version 0, expected 1 or 2"},
                   {2, 8, 3, "version 3"},
                   {3, 9, 0, "groups of 0 do not divide 8 channels"},
                   {3, 9, 3, "groups of 3 do not divide 8 channels"},
                   {3, 9, 1, "the header says"},
                   {3, 9, 8, "the header says"},
                   {1, 5, 5, "the header says"},
                   {0, 6, 5, "the header says"}};
    size_t n;
    llm_decoder_only g;
    llm_error e;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        unsigned char *bytes = bytes_of(&n, refused[i].file);
        const size_t at = refused[i].at, first = refused[i].file < 2 ? 0 : 8;
        tiny_bin_put(bytes + (at == 8 ? 4 : at == 9 ? 37 : first + 4 * at), refused[i].value);
        CHECK_FAILS(llm_decoder_only_file_load(&g, tiny_bin_written(bytes, n), 1, 0, &e), e,
                    refused[i].why);
    }
    llm_decoder_only_file_reader r; /* the largest that are allowed pass the header */
    unsigned char *bytes = bytes_of(&n, 1);
    const long most[7] = {1 << 16, 1 << 20, 4096, 4096, 4096, -(1 << 24), 1 << 24};
    for (size_t i = 0; i < 7; i++) tiny_bin_put(bytes + 4 * i, most[i]);
    CHECK(llm_decoder_only_file_header(&r, bytes, n, &e) && !r.config.tied);
    CHECK(r.config.vocab == 1 << 24 && r.config.block.pairing == LLM_ROPE_NEIGHBOURS);
}

TEST(decoder_only_file, "bytes of groups are signed and each group has its own scale") {
    llm_decoder_only_file_reader r;
    unsigned char data[16] = {127, 128, 255, 1};
    const float scale[2] = {0.5f, -4.0f};
    float w[4];
    memset(&r, 0, sizeof r);
    memcpy(data + 4, scale, sizeof scale);
    r.data = data, r.version = 2, r.group = 2;
    llm_decoder_only_file_take(&r, w, 4, true);
    CHECK(w[0] == 63.5f && w[1] == -64.0f && w[2] == 4.0f && w[3] == -4.0f && r.at == 12);
    r.at = 4;
    llm_decoder_only_file_take(&r, w, 2, false); /* a vector is floats in all versions */
    CHECK(w[0] == 0.5f && w[1] == -4.0f && r.at == 12);
}
