/* @safetensors */
#include "../test.h"

/* calloc that runs out */
static bool st_memory_out;
static void *st_calloc(size_t n, size_t size) { return st_memory_out ? NULL : calloc(n, size); }
#define calloc st_calloc

#include "../../llm.h"

/* Reads size bytes as a file; in memory of exactly that size, so that a byte too many is seen. */
static bool st_reads(llm_safetensors *s, const void *data, size_t size, llm_error *e) {
    memset(s, 0, sizeof *s);
    e->message[0] = 0;
    s->file.data = (unsigned char *)malloc(size);
    s->file.size = size;
    if (size > 0) memcpy(s->file.data, data, size);
    const bool ok = llm_safetensors_check(s, e);
    if (!ok) llm_safetensors_close(s);
    return ok;
}

/* A file with this header, followed by `size` bytes 0, 1, 2, ... */
static bool st_header(llm_safetensors *s, const char *header, size_t size, llm_error *e) {
    unsigned char data[2000] = {0};
    const size_t length = strlen(header);
    data[0] = (unsigned char)(length & 255);
    data[1] = (unsigned char)(length >> 8);
    memcpy(data + 8, header, length);
    for (size_t i = 0; i < size; i++) data[8 + length + i] = (unsigned char)i;
    return st_reads(s, data, 8 + length + size, e);
}

static unsigned char *as_bytes(const float *x, size_t n) {
    unsigned char *b = (unsigned char *)test_memory(n, 1);
    for (size_t i = 0; i < n; i++) b[i] = (unsigned char)(int)x[i];
    return b;
}

TEST(safetensors, "reads a file of the format's own library: all shapes, dtypes, names") {
    const struct {
        const char *name;
        llm_safetensors_dtype dtype;
        size_t rank, shape[8], size;
    } all[] = {{"brain", LLM_SAFETENSORS_BF16, 2, {2, 1}, 4},
               {"bytes", LLM_SAFETENSORS_U8, 1, {5}, 5},
               {"double", LLM_SAFETENSORS_F64, 1, {1}, 8},
               {"e4m3", LLM_SAFETENSORS_F8_E4M3, 1, {2}, 2},
               {"e5m2", LLM_SAFETENSORS_F8_E5M2, 1, {2}, 2},
               {"empty", LLM_SAFETENSORS_F32, 3, {2, 0, 3}, 0},
               {"half", LLM_SAFETENSORS_F16, 1, {3}, 6},
               {"ids", LLM_SAFETENSORS_I64, 1, {2}, 16},
               {"mask", LLM_SAFETENSORS_BOOL, 1, {3}, 3},
               {"scalar", LLM_SAFETENSORS_F32, 0, {0}, 4},
               {"wte.weight", LLM_SAFETENSORS_F32, 2, {2, 3}, 24},
               {"\xc3\xa9\"\n\x7f", LLM_SAFETENSORS_F32, 8, {1, 1, 1, 1, 1, 1, 1, 2}, 8}};
    size_t size = 0;
    const float *numbers = golden_n(&size, "all/file");
    const char *path = test_path("all.safetensors");
    llm_safetensors s;
    llm_error e;
    CHECK(llm_file_write(path, as_bytes(numbers, size), size, &e));
    CHECK(llm_safetensors_open(&s, path, &e) && s.count == 12 && s.file.mapped);
    for (size_t i = 0; i < 12; i++) {
        const llm_safetensors_tensor *t = &s.tensor[i];
        CHECK(strcmp(t->name, all[i].name) == 0 && t->dtype == all[i].dtype);
        CHECK(t->rank == all[i].rank && t->size == all[i].size);
        CHECK(memcmp(t->shape, all[i].shape, t->rank * sizeof(size_t)) == 0);
        CHECK(t->data >= s.file.data && t->data + t->size <= s.file.data + s.file.size);
        CHECK(llm_safetensors_find(&s, all[i].name) == t);
    }
    CHECK(memcmp(llm_safetensors_find(&s, "bytes")->data, "\0\1\2\3\4", 5) == 0);
    CHECK(!llm_safetensors_find(&s, "") && !llm_safetensors_find(&s, "wte.weigh"));
    CHECK(!llm_safetensors_find(&s, "wte.weight2") && !llm_safetensors_find(&s, "__metadata__"));
    const llm_json_node *metadata = llm_json_get(&s.header, s.header.node, "__metadata__");
    CHECK(strcmp(llm_json_get(&s.header, metadata, "format")->text, "pt") == 0);

    const char *const values[6] = {"wte.weight", "half", "brain", "e4m3", "e5m2", "scalar"};
    for (size_t i = 0; i < 6; i++) {
        const llm_safetensors_tensor *t = llm_safetensors_find(&s, values[i]);
        size_t count = 0;
        const float *want = golden_n(&count, "value/%s", values[i]);
        float *got = floats(count);
        CHECK(llm_safetensors_floats(got, t, count, &e));
        CHECK_ALL_NEAR(got, want, count, 0.0f);
        CHECK_FAILS(llm_safetensors_floats(got, t, count - 1, &e), e, values[i]);
        if (i == 0) CHECK(strcmp(e.message, "safetensors: 'wte.weight' has 6 entries, not 5") == 0);
        CHECK_FAILS(llm_safetensors_floats(got, t, count + 1, &e), e, "entries, not");
    }
    float x[8];
    CHECK(llm_safetensors_floats(x, llm_safetensors_find(&s, "empty"), 0, &e));
    CHECK_FAILS(llm_safetensors_floats(x, llm_safetensors_find(&s, "ids"), 2, &e), e,
                "safetensors: 'ids' is I64, expected floats");
    llm_safetensors_close(&s);
    CHECK(!s.tensor && s.count == 0 && !s.file.data && !s.header.node);
    llm_safetensors_close(&s);
}

TEST(safetensors, "refuses what the library refuses and reads what it reads, 101 cases by hand") {
    const float *sizes = golden("case/sizes"), *accepted = golden("case/accepted");
    const float *starts = golden("case/starts"), *ends = golden("case/ends");
    size_t first_size = 0, count = 0, at_head = 0, at_middle = 0;
    const unsigned char *first = as_bytes(golden_n(&first_size, "case/first"), 118);
    golden_n(&count, "case/heads");
    const unsigned char *heads = as_bytes(golden("case/heads"), count);
    golden_n(&count, "case/middles");
    const unsigned char *middles = as_bytes(golden("case/middles"), count);
    CHECK(first_size == 118);
    golden_n(&count, "case/sizes");
    for (size_t i = 0; i < count; i++) {
        const size_t size = (size_t)sizes[i], start = (size_t)starts[i], end = (size_t)ends[i];
        const size_t head = size < 8 ? size : 8, middle = size - head - start - end;
        unsigned char file[500];
        memcpy(file, heads + at_head, head);
        memcpy(file + head, first, start);
        memcpy(file + head + start, middles + at_middle, middle);
        memcpy(file + size - end, first + first_size - end, end);
        at_head += head;
        at_middle += middle;

        llm_safetensors s;
        llm_error e;
        const bool ok = st_reads(&s, file, size, &e);
        if (ok != (accepted[i] != 0.0f))
            test_fail(__FILE__, __LINE__, "case %zu: %s: %.*s", i, ok ? "was read" : e.message,
                      (int)(size > 8 ? size - 8 : 0), file + 8);
        CHECK(ok || strncmp(e.message, "safetensors: ", 13) == 0 ||
              strncmp(e.message, "JSON", 4) == 0);
        if (ok) llm_safetensors_close(&s);
    }
}

TEST(safetensors, "1100 files with one byte changed: the library's verdict, and no crash") {
    size_t size = 0, count = 0, next = 0, reads = 0;
    golden_n(&size, "mutant/file");
    unsigned char *file = as_bytes(golden("mutant/file"), size);
    const float *changes = golden_n(&count, "mutant/changes"),
                *accepted = golden_n(&reads, "mutant/accepted");
    for (size_t i = 0; i < count; i++) {
        const size_t place = (size_t)changes[i] / 256;
        const unsigned char before = file[place];
        file[place] = (unsigned char)((size_t)changes[i] % 256);
        llm_safetensors s;
        llm_error e;
        const bool ok = st_reads(&s, file, size, &e),
                   want = next < reads && accepted[next] == (float)i;
        if (ok != want)
            test_fail(__FILE__, __LINE__, "%zu: %s: %.*s", i, ok ? "was read" : e.message,
                      (int)size - 8, file + 8);
        if (ok) llm_safetensors_close(&s);
        next += want;
        file[place] = before;
    }
    CHECK(count == 1100 && next == reads);
}

TEST(safetensors,
     "stricter than the library where it lets two readers differ, or C cannot follow") {
    llm_safetensors s;
    llm_error e;
    const char *const one = "\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]";
    char header[600];
    snprintf(header, sizeof header, " {\"a\":{%s}}", one);
    CHECK_FAILS(st_header(&s, header, 1, &e), e, "the header does not begin with {");
    snprintf(header, sizeof header, "{\"a\\u0000b\":{%s}}", one);
    CHECK_FAILS(st_header(&s, header, 1, &e), e, "the name of tensor 'a' holds a 0");
    snprintf(header, sizeof header, "{\"a\":{%s,\"shape\":[1]}}", one);
    CHECK_FAILS(st_header(&s, header, 1, &e), e, "'a' has no dtype, shape and two data_offsets");
    snprintf(header, sizeof header, "{\"a\":{%s},\"a\":{%s}}", one, one);
    CHECK_FAILS(st_header(&s, header, 1, &e), e, "a gap or an overlap before 'a'");
    const char *const none = "\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]";
    snprintf(header, sizeof header, "{\"x\":{%s},\"a\":{%s},\"x\":{%s}}", none, none, none);
    CHECK_FAILS(st_header(&s, header, 0, &e), e, "two tensors are called 'x'");
    CHECK_FAILS(st_header(&s, "{\"__metadata__\":{},\"__metadata__\":{}}", 0, &e), e,
                "is not one object");
    snprintf(header, sizeof header,
             "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}");
    CHECK_FAILS(st_header(&s, header, 1, &e), e, "'a' has more than 8 dimensions");
}

TEST(safetensors, "the errors say which tensor and what is wrong with it") {
    const struct {
        const char *header;
        size_t size;
        const char *text;
    } all[] = {{"{\"w\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
                "'w' has dtype F31, not known here"},
               {"{\"w\":{\"dtype\":\"F3\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
                "'w' has dtype F3, not"},
               {"{\"w\":{\"dtype\":\"F32\",\"shape\":[1,-1],\"data_offsets\":[0,4]}}", 4,
                "the shape of 'w' holds what is no size"},
               {"{\"w\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,4]}}", 4,
                "'w' has 4 bytes, its shape and dtype want 12"},
               {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7,
                "'w' lies outside the 7 bytes of data"},
               {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[1,9]}}", 9,
                "a gap or an overlap before 'w'"},
               {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9,
                "bytes behind the last tensor"},
               {"{\"w\":5}", 0, "'w' has no dtype, shape and two data_offsets"},
               {"{\"w\\u001b[2J\":5}", 0, "'w?[2J' has no dtype"},
               {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2],}", 0,
                "JSON, byte 32: found '}', expected a string"},
               {"{\"__metadata__\":{\"a\":\"b\",\"c\":1}}", 0,
                "__metadata__ is not one object of strings"},
               {"{\"__metadata__\":{\"a\":1,\"c\":\"b\"}}", 0,
                "__metadata__ is not one object of strings"},
               {"[]", 0, "the header does not begin with {"}};
    llm_safetensors s;
    llm_error e;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        CHECK_FAILS(st_header(&s, all[i].header, all[i].size, &e), e, all[i].text);
    CHECK_FAILS(st_header(&s,
                          "{\"v\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
                          "\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[3,8]}}",
                          8, &e),
                e, "'w' has 5 bytes, its shape and dtype want 8");
    CHECK_FAILS(st_reads(&s, "\0\0\0\0\0\0\0", 8, &e), e, "the header does not begin with {");
    CHECK_FAILS(st_reads(&s, "1234567", 7, &e), e, "a file of 7 bytes, expected 8 or more");
    CHECK_FAILS(st_reads(&s, "\x03\0\0\0\0\0\0\0{}", 10, &e), e,
                "a header of 3 bytes in a file of 10");
    CHECK_FAILS(st_reads(&s, "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, &e), e,
                "a header of 18446744073709551615");
    CHECK_FAILS(st_reads(&s, "\0\0\0\0\0\0\0\0{}", 10, &e), e, "the header does not begin with {");
    CHECK_FAILS(llm_safetensors_open(&s, test_path("absent"), &e), e, "absent: cannot be opened");
    CHECK(!s.file.data && !s.tensor);
    CHECK(llm_file_write(test_path("short"), "1234567", 7, &e));
    CHECK_FAILS(llm_safetensors_open(&s, test_path("short"), &e), e, "a file of 7 bytes");
    CHECK(!s.file.data && !s.tensor);
}

TEST(safetensors, "a header of 100 million bytes is looked at, one more is not") {
    const size_t most = 100000000;
    const char *const want[2] = {"JSON, byte 1: found byte 0x00", "a header of 100000001 bytes in"};
    char *file = (char *)test_memory(most + 9, 1);
    llm_safetensors s;
    llm_error e;
    for (size_t more = 0; more < 2; more++) {
        for (size_t i = 0; i < 8; i++) file[i] = (char)((most + more) >> (8 * i) & 255);
        file[8] = '{';
        memset(&s, 0, sizeof s);
        s.file.data = (unsigned char *)file;
        s.file.size = most + more + 8;
        CHECK_FAILS(llm_safetensors_check(&s, &e), e, want[more]);
        s.file.data = NULL; /* the test's */
        llm_safetensors_close(&s);
    }
}

TEST(safetensors, "a thousand tensors in any order are found, in order, and cut anywhere refused") {
    enum { N = 1000 };
    llm_buffer b = {NULL, 0, 0};
    llm_safetensors s;
    llm_error e;
    CHECK(llm_buffer_put(&b, "\0\0\0\0\0\0\0\0{", 9));
    for (size_t i = 0; i < N; i++) {
        const size_t k = i * 377 % N; /* tensor k has k % 3 bytes */
        size_t start = 0;
        for (size_t j = 0; j < k; j++) start += j % 3;
        CHECK(llm_buffer_print(
            &b, "%s\"t%zu\":{\"dtype\":\"U8\",\"shape\":[%zu],\"data_offsets\":[%zu,%zu]}",
            i ? "," : "", k, k % 3, start, start + k % 3));
    }
    CHECK(llm_buffer_put(&b, "}", 1));
    const size_t length = b.size - 8;
    for (size_t i = 0; i < 8; i++) b.data[i] = (char)(length >> (8 * i) & 255);
    for (size_t k = 0; k < N; k++)
        for (size_t j = 0; j < k % 3; j++) CHECK(llm_buffer_print(&b, "%c", (int)((k + j) % 256)));
    CHECK(st_reads(&s, b.data, b.size, &e) && s.count == N);
    for (size_t k = 0; k < N; k++) {
        char name[16];
        snprintf(name, sizeof name, "t%zu", k);
        const llm_safetensors_tensor *t = llm_safetensors_find(&s, name);
        CHECK(t && t->size == k % 3 && t->shape[0] == k % 3);
        for (size_t j = 0; j < t->size; j++) CHECK(t->data[j] == (unsigned char)(k + j));
        CHECK(k == 0 || strcmp(s.tensor[k - 1].name, s.tensor[k].name) < 0);
    }
    llm_safetensors_close(&s);
    for (size_t size = 0; size < b.size; size += size < 100 || size + 100 > b.size ? 1 : 997)
        CHECK(!st_reads(&s, b.data, size, &e));
    llm_buffer_free(&b);
}

TEST(safetensors, "when memory is out it says so, and nothing leaks") {
    llm_safetensors s;
    llm_error e;
    st_memory_out = true;
    CHECK_FAILS(st_header(&s, "{}", 0, &e), e, "safetensors: out of memory");
    st_memory_out = false;
    CHECK(st_header(&s, "{}", 0, &e) && s.count == 0 && !llm_safetensors_find(&s, "a"));
    llm_safetensors_close(&s);
}
