/* @gguf_file */
#include "../test.h"

/* calloc that runs out, and has nothing for nothing */
static bool gguf_memory_out;
static void *gguf_calloc(size_t n, size_t size) {
    return gguf_memory_out || n == 0 ? NULL : calloc(n, size);
}
#define calloc gguf_calloc

#include "../../llm.h"

/* Reads size bytes as a file; in memory of exactly that size, so that a byte too many is seen. */
static bool gguf_reads(llm_gguf_file *g, const void *data, size_t size, llm_error *e) {
    memset(g, 0, sizeof *g);
    if (e) e->message[0] = 0;
    g->file.data = (unsigned char *)malloc(size > 0 ? size : 1);
    g->file.size = size;
    if (size > 0) memcpy(g->file.data, data, size);
    const bool ok = llm_gguf_file_check(g, e);
    if (!ok) llm_gguf_file_close(g);
    return ok;
}

static unsigned char *gguf_golden(size_t *size) {
    const float *x = golden_n(size, "file/data");
    unsigned char *data = (unsigned char *)test_memory(*size, 1);
    for (size_t i = 0; i < *size; i++) data[i] = (unsigned char)x[i];
    return data;
}

/* A file built by hand: what is put into it, little-endian. */
static unsigned char gguf_made[4096];
static size_t gguf_at;
static void gguf_bits(uint64_t x, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) gguf_made[gguf_at++] = (unsigned char)(x >> 8 * i);
}
static void gguf_text(const char *text, size_t size) {
    gguf_bits(size, 8);
    memcpy(gguf_made + gguf_at, text, size);
    gguf_at += size;
}
static void gguf_begin(uint64_t tensors, uint64_t pairs) {
    gguf_at = 0;
    memset(gguf_made, 0, sizeof gguf_made);
    gguf_bits(0x46554747, 4);
    gguf_bits(3, 4);
    gguf_bits(tensors, 8);
    gguf_bits(pairs, 8);
}
static void gguf_tensor(const char *name, uint64_t rank, const uint64_t *dims, uint64_t type,
                        uint64_t offset) {
    gguf_text(name, strlen(name));
    gguf_bits(rank, 4);
    for (uint64_t i = 0; i < rank; i++) gguf_bits(dims[i], 8);
    gguf_bits(type, 4);
    gguf_bits(offset, 8);
}
static void gguf_data(size_t size) { /* behind a gap to a multiple of 32 */
    while (gguf_at % 32 != 0) gguf_at++;
    for (size_t i = 0; i < size; i++) gguf_made[gguf_at++] = (unsigned char)(i + 1);
}

TEST(gguf_file, "the gguf package's file: names, shapes, types and values") {
    const struct {
        const char *name;
        llm_gguf_blocks_type type;
        size_t rank, shape[4];
    } all[7] = {{"a.vector", LLM_GGUF_BLOCKS_F32, 1, {7}},
                {"blk.0.q4", LLM_GGUF_BLOCKS_Q4_0, 2, {3, 32}},
                {"blk.0.q8", LLM_GGUF_BLOCKS_Q8_0, 2, {2, 64}},
                {"brain", LLM_GGUF_BLOCKS_BF16, 2, {1, 3}},
                {"four", LLM_GGUF_BLOCKS_F32, 4, {2, 1, 2, 3}},
                {"half", LLM_GGUF_BLOCKS_F16, 2, {2, 3}},
                {"token_embd.weight", LLM_GGUF_BLOCKS_F32, 2, {3, 5}}};
    size_t size, n;
    llm_gguf_file g;
    llm_error e;
    const unsigned char *data = gguf_golden(&size);
    const char *path = test_path("t.gguf");
    memset(&g, 0xff, sizeof g); /* what stood there is not looked at */
    CHECK(llm_file_write(path, data, size - 32, &e));
    CHECK_FAILS(llm_gguf_file_open(&g, path, &e), e, "bytes from");
    CHECK(!g.tensor && g.count == 0 && !g.file.data);
    memset(&g, 0xff, sizeof g);
    CHECK(llm_file_write(path, data, size, &e));
    CHECK(llm_gguf_file_open(&g, path, &e) && g.count == 7 && g.file.mapped);
    for (size_t i = 0; i < 7; i++) {
        const llm_gguf_file_tensor *t = &g.tensor[i];
        float x[200];
        CHECK(strcmp(t->name, all[i].name) == 0 && t->type == all[i].type);
        CHECK(t->rank == all[i].rank);
        CHECK(memcmp(t->shape, all[i].shape, t->rank * sizeof *t->shape) == 0);
        CHECK(llm_gguf_file_find(&g, all[i].name) == t);
        const float *want = golden_n(&n, "value/%s", all[i].name);
        CHECK(t->count == n && llm_gguf_file_floats(x, t, n, &e));
        for (size_t k = 0; k < n; k++) CHECK(x[k] == want[k]);
        CHECK_FAILS(llm_gguf_file_floats(x, t, n + 1, &e), e, "weights, not");
    }
    CHECK(!llm_gguf_file_find(&g, "") && !llm_gguf_file_find(&g, "hal") &&
          !llm_gguf_file_find(&g, "half2"));
    char longer[1000];
    memset(longer, 'x', 999), longer[999] = 0;
    CHECK(!llm_gguf_file_find(&g, longer));
    longer[64] = 0;
    CHECK(!llm_gguf_file_find(&g, longer));
    CHECK(llm_gguf_values_number(&g.values, llm_gguf_values_find(&g.values, "llama.block_count"), 0,
                                 0.0) == 3.0);
    llm_gguf_file_close(&g);
    CHECK(!g.tensor && g.count == 0 && !g.file.data);
    memset(&g, 0xff, sizeof g);
    CHECK_FAILS(llm_gguf_file_open(&g, test_path("no.gguf"), &e), e, "cannot be opened");
}

TEST(gguf_file,
     "every beginning of the file is refused, and every changed byte keeps it in bounds") {
    size_t size, n;
    llm_gguf_file g;
    llm_error e;
    unsigned char *data = gguf_golden(&size);
    const size_t least = size - 26; /* the last tensor has 6 bytes; the gap behind may be missing */
    for (size_t cut = 0; cut < least; cut++) CHECK(!gguf_reads(&g, data, cut, &e) && e.message[0]);
    CHECK(gguf_reads(&g, data, least, &e));
    llm_gguf_file_close(&g);
    float x[4096];
    for (size_t i = 0; i < size; i++) {
        for (int k = 0; k < 4; k++) {
            static const unsigned char by[4] = {1, 0x80, 0xff, 0x20};
            data[i] ^= by[k];
            if (gguf_reads(&g, data, size, &e)) {
                for (size_t t = 0; t < g.count; t++) {
                    n = g.tensor[t].count;
                    CHECK(g.tensor[t].data >= g.file.data);
                    CHECK(g.tensor[t].size <= (size_t)(g.file.data + size - g.tensor[t].data));
                    if (n <= 4096) llm_gguf_file_floats(x, &g.tensor[t], n, &e);
                }
                llm_gguf_file_close(&g);
            } else {
                CHECK(e.message[0]);
            }
            data[i] ^= by[k];
        }
    }
}

TEST(gguf_file,
     "dimensions are turned around, a rank of 0 is one number, an empty tensor has no bytes") {
    const uint64_t dims[3] = {4, 3, 2}, none[2] = {5, 0};
    llm_gguf_file g;
    llm_error e;
    float x[24];
    gguf_begin(3, 0);
    gguf_tensor("z", 3, dims, LLM_GGUF_BLOCKS_I8, 0);
    gguf_tensor("empty", 2, none, LLM_GGUF_BLOCKS_F32, 32);
    gguf_tensor("one", 0, NULL, LLM_GGUF_BLOCKS_F32, 32);
    gguf_data(36);
    CHECK(gguf_reads(&g, gguf_made, gguf_at, &e) && g.count == 3);
    const llm_gguf_file_tensor *t = llm_gguf_file_find(&g, "z");
    CHECK(t->shape[0] == 2 && t->shape[1] == 3 && t->shape[2] == 4 && t->count == 24);
    CHECK(t->data[0] == 1 && t->data[23] == 24 && t->size == 24);
    CHECK_FAILS(llm_gguf_file_floats(x, t, 24, &e), e, "z is I8, expected floats");
    t = llm_gguf_file_find(&g, "one");
    CHECK(t->count == 1 && t->size == 4 && t->data[0] == 33 && llm_gguf_file_floats(x, t, 1, &e));
    t = llm_gguf_file_find(&g, "empty");
    CHECK(t->count == 0 && t->size == 0 && t->shape[0] == 0 && t->shape[1] == 5);
    llm_gguf_file_close(&g);
    CHECK(!gguf_reads(&g, gguf_made, gguf_at - 1, &e) && strstr(e.message, "one has 4 bytes"));
    const uint64_t full[1] = {32}, zero[1] = {0};
    gguf_begin(2, 0); /* nothing may begin at the end, and a name may have no letters */
    gguf_tensor("all", 1, full, LLM_GGUF_BLOCKS_I8, 0);
    gguf_tensor("", 1, zero, LLM_GGUF_BLOCKS_I8, 32);
    gguf_data(32);
    CHECK(gguf_reads(&g, gguf_made, gguf_at, &e) && llm_gguf_file_find(&g, "")->size == 0);
    llm_gguf_file_close(&g);
    gguf_begin(1, 0);
    gguf_tensor("", 1, full, LLM_GGUF_BLOCKS_I8, 0);
    gguf_data(32);
    CHECK(gguf_reads(&g, gguf_made, gguf_at, &e) && llm_gguf_file_find(&g, "")->size == 32);
    llm_gguf_file_close(&g);
    gguf_begin(0, 0); /* a vocabulary alone has no tensors */
    CHECK(gguf_reads(&g, gguf_made, gguf_at, &e) && g.count == 0);
    llm_gguf_file_close(&g);
}

TEST(gguf_file, "where a description ends too early is said") {
    const uint64_t dims[1] = {1};
    const char *const part[5] = {"a string of", "a tensor's rank", "a dimension", "a tensor's type",
                                 "an offset"};
    const size_t end[5] = {48, 52, 60, 64, 72}; /* of each part, behind the header's 24 bytes */
    gguf_begin(1, 0);
    gguf_tensor("a.name.of.forty.letters.and.signs.so.long", 1, dims, LLM_GGUF_BLOCKS_I8, 0);
    CHECK(gguf_at == 24 + 73);
    for (size_t cut = 24; cut < 73; cut++) {
        llm_gguf_file g;
        llm_error e;
        size_t k = 0;
        while (cut >= end[k] + 1) k++;
        CHECK(!gguf_reads(&g, gguf_made, 24 + cut, &e));
        CHECK(strstr(e.message, part[k]));
    }
}

TEST(gguf_file, "the alignment is the file's own where it says one") {
    const uint64_t three[1] = {3};
    const struct {
        uint64_t alignment;
        bool fits;
    } all[] = {{1, true},  {2, true},   {64, true},      {65536, true},      {0, false},
               {3, false}, {96, false}, {131072, false}, {UINT32_MAX, false}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        llm_gguf_file g;
        llm_error e;
        const uint64_t alignment = all[i].alignment;
        static unsigned char file[200000];
        memset(file, 7, sizeof file);
        gguf_begin(2, 1);
        gguf_text("general.alignment", 17);
        gguf_bits(LLM_GGUF_VALUES_U32, 4);
        gguf_bits(alignment, 4);
        gguf_tensor("a", 1, three, LLM_GGUF_BLOCKS_I8, 0);
        gguf_tensor("b", 1, three, LLM_GGUF_BLOCKS_I8,
                    alignment < 3 ? alignment == 2 ? 4 : 3 : alignment);
        memcpy(file, gguf_made, gguf_at);
        const bool ok = gguf_reads(&g, file, sizeof file, &e);
        CHECK(ok == all[i].fits);
        if (!ok) {
            CHECK(strstr(e.message, "alignment"));
            continue;
        }
        const size_t first =
            (gguf_at + (size_t)alignment - 1) / (size_t)alignment * (size_t)alignment;
        CHECK(g.tensor[0].data == g.file.data + first);
        CHECK(g.tensor[1].data == g.tensor[0].data + g.tensor[1].offset);
        llm_gguf_file_close(&g);
    }
}

/* A file with one pair of tensors a and b of 4 weights, but for what the caller changes. */
static bool gguf_pair(llm_error *e, const char *a, const char *b, uint64_t rank, uint64_t dim,
                      uint64_t type, uint64_t offset) {
    const uint64_t four[5] = {4, 1, 1, 1, 1}, dims[5] = {dim, 1, 1, 1, 1};
    llm_gguf_file g;
    gguf_begin(2, 0);
    gguf_tensor(a, 1, four, LLM_GGUF_BLOCKS_F32, 0);
    gguf_tensor(b, rank, dims, type, offset);
    gguf_data(64);
    const bool ok = gguf_reads(&g, gguf_made, gguf_at, e);
    if (ok) llm_gguf_file_close(&g);
    return ok;
}

TEST(gguf_file, "what breaks a rule is refused in a sentence") {
    char name[65];
    llm_error e;
    memset(name, 'n', 64), name[64] = 0;
    CHECK(gguf_pair(&e, "a", "b", 1, 4, 0, 32) && gguf_pair(&e, "a", "b", 4, 4, 0, 32));
    CHECK(!gguf_pair(&e, "a", name, 1, 4, 0, 32) && strstr(e.message, "name of 64 bytes"));
    name[63] = 0;
    CHECK(gguf_pair(&e, "a", name, 1, 4, 0, 32));
    CHECK(!gguf_pair(&e, "a", "a", 1, 4, 0, 32) && strstr(e.message, "two tensors are called a"));
    CHECK(!gguf_pair(&e, "a", "b", 5, 4, 0, 32) && strstr(e.message, "b has 5 dimensions"));
    CHECK(!gguf_pair(&e, "a", "b", 1, 4, 4, 32) && strstr(e.message, "type 4"));
    CHECK(!gguf_pair(&e, "a", "b", 1, 4, 0, 16) && strstr(e.message, "begins at 16, expected 32"));
    CHECK(!gguf_pair(&e, "a", "b", 1, 4, 0, 64) && strstr(e.message, "begins at 64, expected 32"));
    CHECK(!gguf_pair(&e, "a", "b", 1, 4, 0, 0) && strstr(e.message, "begins at 0"));
    CHECK(!gguf_pair(&e, "a", "b", 1, 31, LLM_GGUF_BLOCKS_Q4_0, 32));
    CHECK(strstr(e.message, "rows of 31, expected a multiple of 32"));
    CHECK(gguf_pair(&e, "a", "b", 1, 32, LLM_GGUF_BLOCKS_Q4_0, 32));
    CHECK(!gguf_pair(&e, "a", "b", 0, 0, LLM_GGUF_BLOCKS_Q4_0, 32)); /* one number is no block */
    CHECK(!gguf_pair(&e, "a", "b", 1, (uint64_t)1 << 62, 0, 32) && strstr(e.message, "too large"));
    CHECK(!gguf_pair(&e, "a", "b", 1, UINT64_MAX, LLM_GGUF_BLOCKS_I8, 32));
    CHECK(strstr(e.message, "b is too large"));
    CHECK(!gguf_pair(&e, "a", "b", 1, UINT64_MAX - 40, LLM_GGUF_BLOCKS_I8, 32));
    CHECK(strstr(e.message, "b is too large"));
    CHECK(!gguf_pair(&e, "a", "b", 1, 9, 0, 32));
    CHECK(strstr(e.message, "b has 36 bytes from 32 on, the file 64"));
    CHECK(gguf_pair(&e, "a", "b", 1, 8, 0, 32));

    const uint64_t wrap[3] = {(uint64_t)1 << 32, (uint64_t)1 << 32, 2}, one[1] = {1};
    llm_gguf_file g;
    gguf_begin(1, 0); /* a product that wraps to 0 */
    gguf_tensor("w", 3, wrap, LLM_GGUF_BLOCKS_I8, 0);
    gguf_data(64);
    CHECK(!gguf_reads(&g, gguf_made, gguf_at, &e) && strstr(e.message, "w is too large"));
    llm_gguf_file_tensor t; /* blocks smaller than their weights; weights larger than a byte */
    memset(&t, 0, sizeof t);
    t.rank = 3, t.type = LLM_GGUF_BLOCKS_Q4_0;
    for (size_t i = 0; i < 3; i++) t.shape[i] = wrap[2 - i];
    CHECK_FAILS(llm_gguf_file_measure(&t, &e), e, "too large");
    t.rank = 1, t.type = LLM_GGUF_BLOCKS_F32, t.shape[0] = (size_t)1 << 63;
    CHECK_FAILS(llm_gguf_file_measure(&t, &e), e, "too large");
    gguf_begin(2, 0);
    CHECK(!gguf_reads(&g, gguf_made, gguf_at + 47, &e));
    CHECK(strstr(e.message, "2 tensors do not fit into 47 bytes"));
    CHECK(!gguf_reads(&g, gguf_made, gguf_at + 48, &e) && !strstr(e.message, "do not fit into 48"));
    gguf_begin((uint64_t)1 << 60, 0);
    gguf_tensor("w", 1, one, LLM_GGUF_BLOCKS_I8, 0);
    CHECK(!gguf_reads(&g, gguf_made, gguf_at, &e) && strstr(e.message, "tensors do not fit"));
    gguf_begin(1, 0);
    gguf_text("a\0b", 3);
    gguf_bits(0, 8), gguf_bits(0, 8);
    gguf_data(64);
    CHECK(!gguf_reads(&g, gguf_made, gguf_at, &e) && strstr(e.message, "without 0"));
    gguf_begin(1, 0);
    gguf_tensor("w", 1, one, LLM_GGUF_BLOCKS_I8, 0);
    gguf_data(1);
    gguf_memory_out = true;
    CHECK(!gguf_reads(&g, gguf_made, gguf_at, &e) && strstr(e.message, "out of memory"));
    gguf_memory_out = false;
    CHECK(gguf_reads(&g, gguf_made, gguf_at, &e));
    llm_gguf_file_close(&g);
}
