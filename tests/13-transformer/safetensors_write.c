/* @safetensors_write */
#include "../test.h"

/* malloc and realloc that run out after a number of calls */
static int stw_calls = 1 << 30;
static void *stw_malloc(size_t size) { return stw_calls-- > 0 ? malloc(size) : NULL; }
static void *stw_realloc(void *p, size_t size) { return stw_calls-- > 0 ? realloc(p, size) : NULL; }
#define malloc stw_malloc
#define realloc stw_realloc

#include "../../llm.h"

static llm_safetensors_tensor stw_tensor(const char *name, llm_safetensors_dtype dtype, size_t n,
                                         const void *data) {
    llm_safetensors_tensor t;
    memset(&t, 255, sizeof t); /* what it must not read */
    t.name = name;
    t.dtype = dtype;
    t.rank = 1;
    t.shape[0] = n;
    t.data = (const unsigned char *)data;
    return t;
}

TEST(safetensors_write,
     "writes the bytes that the format's own library writes, given in any order") {
    size_t size = 0, sizes = 0;
    const float *numbers = golden_n(&size, "all/file");
    unsigned char *want = (unsigned char *)test_memory(size, 1);
    for (size_t i = 0; i < size; i++) want[i] = (unsigned char)(int)numbers[i];
    const char *path = test_path("library"), *ours = test_path("ours");
    llm_safetensors s;
    llm_file f;
    llm_error e;
    CHECK(llm_file_write(path, want, size, &e) && llm_safetensors_open(&s, path, &e));
    for (size_t turn = 0; turn < 12; turn++) {
        llm_safetensors_tensor t[12];
        for (size_t i = 0; i < 12; i++) t[i] = s.tensor[(5 * i + turn) % 12];
        for (size_t i = 0; i < 12; i++) t[i].size = SIZE_MAX; /* is not read */
        CHECK(llm_safetensors_write(ours, t, 12, "{\"format\":\"pt\"}", &e));
        CHECK(llm_file_read(&f, ours, &e) && f.size == size && memcmp(f.data, want, size) == 0);
        llm_file_free(&f);
    }
    llm_safetensors_close(&s);

    const float *plain = golden_n(&size, "plain/file"), *none = golden_n(&sizes, "none/file");
    const float one[3] = {0.5f, -1.0f, 2.0f};
    const llm_safetensors_tensor t = stw_tensor("b", LLM_SAFETENSORS_F32, 3, one);
    CHECK(llm_safetensors_write(ours, &t, 1, NULL, &e) && llm_file_read(&f, ours, &e) &&
          f.size == size);
    for (size_t i = 0; i < size; i++) CHECK((float)f.data[i] == plain[i]);
    llm_file_free(&f);
    CHECK(llm_safetensors_write(ours, NULL, 0, NULL, &e) && llm_file_read(&f, ours, &e) &&
          f.size == sizes);
    for (size_t i = 0; i < sizes; i++) CHECK((float)f.data[i] == none[i]);
    llm_file_free(&f);
}

TEST(safetensors_write, "every tensor stands at a multiple of its element, and reads back") {
    llm_rng rng = llm_rng_seed(1);
    const char *path = test_path("random");
    unsigned char data[64 * 8];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)llm_rng_u32(&rng);
    for (int round = 0; round < 100; round++) {
        const size_t count = llm_rng_below(&rng, 20);
        llm_safetensors_tensor t[20];
        char name[20][8];
        for (size_t i = 0; i < count; i++) {
            snprintf(name[i], sizeof name[i], "%c%zu", (int)('a' + llm_rng_below(&rng, 3)), i);
            t[i] = stw_tensor(name[i],
                              (llm_safetensors_dtype)llm_rng_below(&rng, LLM_SAFETENSORS_DTYPES), 1,
                              data + llm_rng_below(&rng, 64));
            t[i].rank = llm_rng_below(&rng, 5);
            for (size_t k = 0; k < t[i].rank; k++)
                t[i].shape[k] = llm_rng_below(&rng, 8) ? 1 + llm_rng_below(&rng, 3) : 0;
            while (llm_safetensors_bytes(&t[i].size, &t[i]) && t[i].size > 64 * 7) t[i].rank--;
        }
        llm_safetensors s;
        llm_error e;
        CHECK(llm_safetensors_write(path, t, count, round % 2 ? "{}" : NULL, &e));
        CHECK(llm_safetensors_open(&s, path, &e) && s.count == count);
        for (size_t i = 0; i < count; i++) {
            const llm_safetensors_tensor *r = llm_safetensors_find(&s, t[i].name);
            size_t element;
            llm_safetensors_dtype_name(&element, t[i].dtype);
            CHECK(r && r->dtype == t[i].dtype && r->rank == t[i].rank && r->size == t[i].size);
            CHECK(memcmp(r->shape, t[i].shape, r->rank * sizeof(size_t)) == 0);
            CHECK(memcmp(r->data, t[i].data, r->size) == 0);
            CHECK((size_t)(r->data - s.file.data) % element == 0);
        }
        llm_safetensors_close(&s);
    }
}

TEST(safetensors_write, "refuses what nobody could read, and leaves the old file") {
    const unsigned char data[8] = {0};
    llm_safetensors_tensor t[2] = {stw_tensor("a", LLM_SAFETENSORS_U8, 1, data),
                                   stw_tensor("b", LLM_SAFETENSORS_F32, 1, data)};
    const char *path = test_path("kept");
    llm_error e;
    CHECK(llm_safetensors_write(path, t, 2, NULL, &e));
    llm_file before, after;
    CHECK(llm_file_read(&before, path, &e));
    CHECK_FAILS(llm_safetensors_write(path, t, 2, "{\"a\":1}", &e), e,
                "metadata is not an object of strings");
    CHECK_FAILS(llm_safetensors_write(path, t, 2, "[]", &e), e,
                "metadata is not an object of strings");
    CHECK_FAILS(llm_safetensors_write(path, t, 2, "{", &e), e, "JSON, byte 1: the text ends");
    t[0].name = "b"; /* of another dtype, so not side by side in the file */
    CHECK_FAILS(llm_safetensors_write(path, t, 2, NULL, &e), e, "no second one, may be called 'b'");
    llm_safetensors_tensor three[3];
    for (size_t i = 0; i < 3; i++) three[i] = t[1]; /* b a b: not side by side as they are given */
    three[1].name = "a";
    CHECK_FAILS(llm_safetensors_write(path, three, 3, NULL, &e), e, "may be called 'b'");
    t[0].name = "__metadata__";
    CHECK_FAILS(llm_safetensors_write(path, t, 2, NULL, &e), e, "may be called '__metadata__'");
    t[0].name = "\xff";
    CHECK_FAILS(llm_safetensors_write(path, t, 2, NULL, &e), e, "a name is no UTF-8");
    t[0] = stw_tensor("a", LLM_SAFETENSORS_F64, SIZE_MAX / 8 + 1, data);
    CHECK_FAILS(llm_safetensors_write(path, t, 2, NULL, &e), e, "too large");
    t[0] = stw_tensor("a", LLM_SAFETENSORS_U8, SIZE_MAX - 3,
                      data); /* with b's 4 bytes it wraps to 0 */
    CHECK_FAILS(llm_safetensors_write(path, t, 2, NULL, &e), e, "too large");
    t[0].name = "ok";
    t[0].rank = 9;
    CHECK_ASSERTS(llm_safetensors_write(path, t, 2, NULL, &e));
    t[0] = stw_tensor("a", LLM_SAFETENSORS_U8, 1, data);
    CHECK_FAILS(llm_safetensors_write(test_path("no/such"), t, 2, NULL, &e), e,
                "cannot be created");
    CHECK_FAILS(llm_safetensors_write(path, t, SIZE_MAX, NULL, &e), e,
                "safetensors: out of memory");
    CHECK_FAILS(llm_safetensors_write(path, t, SIZE_MAX / 16, NULL, &e), e,
                "safetensors: out of memory");
    CHECK(llm_file_read(&after, path, &e) && after.size == before.size);
    CHECK(memcmp(after.data, before.data, after.size) == 0);
    llm_file_free(&before);
    llm_file_free(&after);
}

TEST(safetensors_write, "a header of more than 100 million bytes is refused: no reader takes it") {
    const size_t one_more = 100000001 - strlen("{\"__metadata__\":{\"k\":\"\"}}");
    char *metadata = (char *)test_memory(one_more + 10, 1);
    llm_error e;
    memset(metadata, 'v', one_more + 6);
    memcpy(metadata, "{\"k\":\"", 6);
    memcpy(metadata + 6 + one_more, "\"}", 3);
    CHECK_FAILS(llm_safetensors_write(test_path("no/such"), NULL, 0, metadata, &e), e, "too large");
}

TEST(safetensors_write, "when memory is out, at any call, nothing leaks and the old file stays") {
    const unsigned char data[8] = {0};
    const llm_safetensors_tensor t[2] = {stw_tensor("a", LLM_SAFETENSORS_U8, 1, data),
                                         stw_tensor("b", LLM_SAFETENSORS_F32, 1, data)};
    const char *path = test_path("kept");
    llm_error e;
    CHECK(llm_file_write(path, "old", 3, &e));
    int calls = 0;
    for (;; calls++) {
        stw_calls = calls;
        memset(&e, 0, sizeof e);
        const bool ok = llm_safetensors_write(path, t, 2, "{\"k\":\"v\"}", &e);
        stw_calls = 1 << 30;
        llm_file f;
        CHECK(llm_file_read(&f, path, &e) &&
              (ok || (f.size == 3 && memcmp(f.data, "old", 3) == 0)));
        llm_file_free(&f);
        if (ok) break;
        CHECK(e.message[0]);
    }
    CHECK(calls > 6);
}
