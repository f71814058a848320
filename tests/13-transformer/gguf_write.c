/* @gguf_write */
#include "../test.h"

/* realloc that fails once, after a number of calls */
static int gw_calls = 1 << 30;
static void *gw_realloc(void *p, size_t size) { return gw_calls-- != 0 ? realloc(p, size) : NULL; }
#define realloc gw_realloc

#include "../../llm.h"

/* The tensors of the file that the gguf package wrote, in its order. */
static const char *const gw_name[4] = {"wide", "deep", "blocks", "last"};

static bool gw_pairs(llm_buffer *b, size_t *pairs) {
    const double score[3] = {0.5, -1.5, 2.25};
    const char *const token[3] = {"<s>", "", "gr\xc3\xbc\xc3\x9f"};
    bool ok =
        llm_gguf_write_string(b, pairs, "general.architecture", "llama") &&
        llm_gguf_write_value(b, pairs, "llama.block_count", LLM_GGUF_VALUES_U32, 3.0) &&
        llm_gguf_write_value(b, pairs, "llama.rope.freq_base", LLM_GGUF_VALUES_F32, 10000.5) &&
        llm_gguf_write_value(b, pairs, "an.int8", LLM_GGUF_VALUES_I8, -5.0) &&
        llm_gguf_write_value(b, pairs, "a.double", LLM_GGUF_VALUES_F64, 0.1) &&
        llm_gguf_write_value(b, pairs, "a.bool", LLM_GGUF_VALUES_BOOL, 1.0) &&
        llm_gguf_write_array(b, pairs, "tokens", LLM_GGUF_VALUES_STRING, 3);
    for (size_t i = 0; i < 3 && ok; i++) ok = llm_gguf_write_text(b, token[i], strlen(token[i]));
    ok = ok && llm_gguf_write_array(b, pairs, "scores", LLM_GGUF_VALUES_F32, 3);
    for (size_t i = 0; i < 3 && ok; i++)
        ok = llm_gguf_write_number(b, LLM_GGUF_VALUES_F32, score[i]);
    return ok;
}

TEST(gguf_write, "the same pairs and tensors make the very bytes of the gguf package") {
    size_t size, pairs = 0;
    const float *want = golden_n(&size, "file/data");
    unsigned char *data = (unsigned char *)test_memory(size, 1);
    for (size_t i = 0; i < size; i++) data[i] = (unsigned char)want[i];
    llm_gguf_file g;
    llm_error e;
    llm_buffer pair = {NULL, 0, 0};
    const char *from = test_path("from.gguf"), *to = test_path("to.gguf");
    CHECK(llm_file_write(from, data, size, &e) && llm_gguf_file_open(&g, from, &e) && g.count == 4);
    llm_gguf_file_tensor t[4];
    for (size_t i = 0; i < 4; i++) {
        t[i] = *llm_gguf_file_find(&g, gw_name[i]);
        t[i].size = t[i].offset = t[i].count = 99; /* are set, not read */
    }
    CHECK(gw_pairs(&pair, &pairs) && pairs == 8);
    CHECK(llm_gguf_write(to, &pair, pairs, t, 4, &e));
    for (size_t i = 0; i < 4; i++) {
        const llm_gguf_file_tensor *u = llm_gguf_file_find(&g, gw_name[i]);
        CHECK(t[i].size == u->size && t[i].offset == u->offset && t[i].count == u->count);
    }
    llm_file file;
    CHECK(llm_file_read(&file, to, &e) && file.size == size);
    for (size_t i = 0; i < size; i++) CHECK(file.data[i] == data[i]);
    llm_file_free(&file);
    llm_gguf_file_close(&g);
    llm_buffer_free(&pair);
}

TEST(gguf_write, "numbers of every type come back") {
    const double x[LLM_GGUF_VALUES_TYPES][2] = {{0, 255},
                                                {-128, 127},
                                                {0, 65535},
                                                {-32768, 32767},
                                                {0, 4294967295.0},
                                                {-2147483648.0, 7},
                                                {-1.5, 3e38},
                                                {0, 1},
                                                {0, 0},
                                                {0, 0},
                                                {0, 9007199254740992.0},
                                                {-9007199254740992.0, 5},
                                                {-1e300, 0.1}};
    for (int type = 0; type < LLM_GGUF_VALUES_TYPES; type++) {
        if (type == LLM_GGUF_VALUES_STRING || type == LLM_GGUF_VALUES_ARRAY) continue;
        llm_buffer b = {NULL, 0, 0}, head = {NULL, 0, 0};
        size_t pairs = 0;
        llm_error e;
        llm_gguf_values v;
        CHECK(llm_gguf_write_value(&b, &pairs, "k", (llm_gguf_values_type)type, x[type][0]));
        CHECK(llm_gguf_write_array(&b, &pairs, "l", (llm_gguf_values_type)type, 2));
        for (int i = 0; i < 2; i++)
            CHECK(llm_gguf_write_number(&b, (llm_gguf_values_type)type, x[type][i]));
        CHECK(llm_gguf_write_head(&head, &b, pairs, NULL, 0, &e) && head.size % 32 == 0);
        CHECK(llm_gguf_values_read(&v, head.data, head.size, &e) && v.tensors == 0);
        const llm_gguf_values_pair *k = llm_gguf_values_find(&v, "k");
        const llm_gguf_values_pair *l = llm_gguf_values_find(&v, "l");
        CHECK(k && k->type == (llm_gguf_values_type)type && l && l->array && l->count == 2);
        CHECK((float)llm_gguf_values_number(&v, k, 0, 77.0) == (float)x[type][0]);
        for (size_t i = 0; i < 2; i++)
            CHECK((float)llm_gguf_values_number(&v, l, i, 77.0) == (float)x[type][i]);
        llm_gguf_values_free(&v);
        llm_buffer_free(&b);
        llm_buffer_free(&head);
    }
}

TEST(gguf_write, "shapes that break a rule are refused, and nothing is written") {
    const unsigned char data[64] = {0};
    llm_gguf_file_tensor t[2];
    llm_buffer none = {NULL, 0, 0};
    llm_error e;
    llm_file file;
    memset(t, 0, sizeof t);
    const char *path = test_path("bad.gguf");
    strcpy(t[0].name, "a"), strcpy(t[1].name, "b");
    for (size_t i = 0; i < 2; i++) {
        t[i].rank = 1, t[i].shape[0] = 4;
        t[i].data = data;
    }
    CHECK(llm_gguf_write(test_path("good.gguf"), &none, 0, t, 2, &e));
    t[1].type = LLM_GGUF_BLOCKS_Q8_0;
    CHECK_FAILS(llm_gguf_write(path, &none, 0, t, 2, &e), e, "b has rows of 4");
    t[1].type = LLM_GGUF_BLOCKS_I8, t[1].shape[0] = SIZE_MAX - 31;
    CHECK_FAILS(llm_gguf_write(path, &none, 0, t, 2, &e), e, "b is too large");
    t[1].shape[0] = SIZE_MAX - 62; /* fits, but not with what stands in front of it */
    CHECK_FAILS(llm_gguf_write(path, &none, 0, t, 2, &e), e, "b is too large");
    t[1].rank = 5;
    CHECK_ASSERTS(llm_gguf_write(path, &none, 0, t, 2, &e));
    CHECK(!llm_file_read(&file, path, &e));
    CHECK_FAILS(llm_gguf_write(test_path("no/such.gguf"), &none, 0, t, 1, &e), e, "cannot be");
}

TEST(gguf_write, "memory that runs out is said, at every place") {
    for (int calls = 0; calls < 8; calls++) {
        llm_buffer pair = {NULL, 0, 0}, head = {NULL, 0, 0};
        llm_gguf_file_tensor t;
        llm_error e;
        size_t pairs = 0;
        memset(&t, 0, sizeof t);
        strcpy(t.name, "a");
        gw_calls = calls;
        const bool ok =
            gw_pairs(&pair, &pairs) && llm_gguf_write_head(&head, &pair, pairs, &t, 1, &e);
        CHECK(ok == (gw_calls >= 0)); /* below 0: the failing call was reached */
        gw_calls = 1 << 30;
        llm_buffer_free(&pair);
        llm_buffer_free(&head);
    }
}
