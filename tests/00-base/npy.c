/* @npy */
#include "../test.h"

/* realloc that runs out after a number of calls */
static int npy_calls = 1 << 30;
static void *npy_realloc(void *p, size_t size) { return npy_calls-- > 0 ? realloc(p, size) : NULL; }
#define realloc npy_realloc

#include "../../llm.h"

/* Reads size bytes as a file, in memory of exactly that size: a byte too many is seen. */
static bool npy_reads(llm_npy *a, const void *data, size_t size, llm_error *e) {
    memset(a, 255, sizeof *a); /* nothing may be taken for 0 */
    e->message[0] = 0;
    a->file.data = (unsigned char *)malloc(size);
    a->file.size = size;
    a->file.mapped = false;
    if (size > 0) memcpy(a->file.data, data, size);
    const bool ok = llm_npy_check(a, e);
    if (!ok) llm_npy_close(a);
    return ok;
}

/* A file of this version and text, and `size` bytes 0, 1, 2, ... of data. */
static bool npy_text(llm_npy *a, int version, const char *text, size_t size, llm_error *e) {
    unsigned char file[70000] = "\x93NUMPY";
    const size_t length = strlen(text), start = version == 1 ? 10 : 12;
    file[6] = (unsigned char)version;
    for (size_t k = 8; k < start; k++) file[k] = (unsigned char)(length >> (8 * (k - 8)) & 255);
    memcpy(file + start, text, length);
    for (size_t i = 0; i < size; i++) file[start + length + i] = (unsigned char)i;
    return npy_reads(a, file, start + length + size, e);
}

static unsigned char *as_bytes(const float *x, size_t n) {
    unsigned char *b = (unsigned char *)test_memory(n, 1);
    for (size_t i = 0; i < n; i++) b[i] = (unsigned char)(int)x[i];
    return b;
}

static const char *const npy_names[12] = {"f0",    "f1", "f2", "f3", "f8", "none",
                                          "empty", "d1", "d2", "i1", "i2", "long"};

TEST(npy, "reads what numpy.save writes, and writes the same bytes: so numpy.load reads them too") {
    for (size_t i = 0; i < 12; i++) {
        size_t size = 0, rank = 0;
        const float *numbers = golden_n(&size, "%s/file", npy_names[i]);
        const unsigned char *bytes = as_bytes(numbers, size);
        const float *shape = golden_n(&rank, "%s/shape", npy_names[i]);
        const char *path = test_path("x.npy");
        llm_error e;
        llm_npy a;
        llm_file f;
        CHECK(llm_file_write(path, bytes, size, &e));
        CHECK(llm_npy_open(&a, path, &e) && a.rank == rank && a.file.mapped);
        CHECK(a.type == (i < 6 ? LLM_NPY_F32 : i < 9 ? LLM_NPY_F64 : LLM_NPY_I32));
        size_t count = 1;
        for (size_t k = 0; k < rank; k++) {
            CHECK(a.shape[k] == (size_t)shape[k]);
            count *= a.shape[k];
        }
        CHECK(a.count == count &&
              a.data == a.file.data + size - count * (i == 6 || i == 7 || i == 8 ? 8 : 4));
        CHECK((a.data - a.file.data) % 64 == 0);
        double *d = doubles(count);
        float *x = floats(count);
        int32_t *n = (int32_t *)test_memory(count, sizeof(int32_t));
        for (size_t k = 0; k < count; k++) {
            d[k] = llm_npy_get(&a, k);
            if (a.type == LLM_NPY_I32) n[k] = (int32_t)d[k];
        }
        CHECK(llm_npy_floats(x, &a, count, &e));
        CHECK_FAILS(llm_npy_floats(x, &a, count + 1, &e), e, "npy: an array of");
        if (i == 2) CHECK(strcmp(e.message, "npy: an array of 6 numbers, expected 7") == 0);
        if (i != 7) { /* the doubles of the next test are none of float's */
            const float *want = golden("%s/floats", npy_names[i]);
            CHECK_ALL_NEAR(x, want, count, 0.0f);
            for (size_t k = 0; k < count; k++) CHECK(signbit(x[k]) == signbit(want[k]));
        }
        const llm_npy_type type = a.type;
        const void *data = type == LLM_NPY_F32   ? (const void *)x
                           : type == LLM_NPY_F64 ? d
                                                 : (const void *)n;
        CHECK(llm_npy_write(path, data, type, a.shape, a.rank, &e));
        CHECK(llm_file_read(&f, path, &e) && f.size == size && memcmp(f.data, bytes, size) == 0);
        llm_file_free(&f);
        if (count < 1000) CHECK_ASSERTS(llm_npy_get(&a, count));
        llm_npy_close(&a);
        CHECK(!a.file.data);
        llm_npy_close(&a);
    }
}

TEST(npy, "numbers are exact, and rounded to float only when floats are asked for") {
    size_t size = 0;
    const double want[4] = {0.1, -1e300, 1e-320, 9007199254740994.0};
    const float rounded[4] = {0.1f, -INFINITY, 0.0f, 9007199254740992.0f},
                integers[6] = {0, 1, -1, 2147483648.0f, -2147483648.0f, 65536};
    const float *numbers = golden_n(&size, "d1/file");
    llm_npy a;
    llm_error e;
    float x[6];
    CHECK(npy_reads(&a, as_bytes(numbers, size), size, &e));
    for (size_t i = 0; i < 4; i++) CHECK(llm_npy_get(&a, i) == want[i]);
    CHECK(llm_npy_floats(x, &a, 4, &e));
    CHECK_ALL_NEAR(x, rounded, 4, 0.0f);
    llm_npy_close(&a);

    numbers = golden_n(&size, "i1/file");
    CHECK(npy_reads(&a, as_bytes(numbers, size), size, &e));
    CHECK(llm_npy_get(&a, 3) == 2147483647.0 && llm_npy_get(&a, 4) == -2147483648.0);
    CHECK(llm_npy_floats(x, &a, 6, &e));
    CHECK_ALL_NEAR(x, integers, 6, 0.0f);
    llm_npy_close(&a);

    const float nan[2] = {NAN, -0.0f};
    const size_t two = 2;
    CHECK(llm_npy_write(test_path("nan.npy"), nan, LLM_NPY_F32, &two, 1, &e));
    CHECK(llm_npy_open(&a, test_path("nan.npy"), &e) && isnan(llm_npy_get(&a, 0)));
    CHECK(llm_npy_get(&a, 1) == 0.0 && signbit(llm_npy_get(&a, 1)));
    llm_npy_close(&a);
}

TEST(npy, "version 2, whose length has four bytes, and texts of more than 255 and 65535 bytes") {
    size_t size = 0;
    const float *numbers = golden_n(&size, "two/file");
    llm_npy a;
    llm_error e;
    float x[6];
    CHECK(npy_reads(&a, as_bytes(numbers, size), size, &e) && a.file.data[6] == 2);
    CHECK(a.rank == 2 && a.shape[0] == 2 && a.shape[1] == 3 && llm_npy_floats(x, &a, 6, &e));
    CHECK_GOLDEN(x, 6, 0.0f, "f2/floats");
    llm_npy_close(&a);

    char *text = (char *)test_memory(66001, 1);
    memset(text, ' ', 66000);
    memcpy(text, "{'descr': '<i4', 'fortran_order': False, 'shape': (2,)}", 55);
    CHECK(npy_text(&a, 2, text, 8, &e) && llm_npy_get(&a, 1) == 0x07060504);
    llm_npy_close(&a);
    text[65500] = 0;
    CHECK(npy_text(&a, 1, text, 8, &e) && llm_npy_get(&a, 0) == 0x03020100);
    llm_npy_close(&a);
}

TEST(npy, "of 34 texts it reads those that NumPy reads") {
    size_t count = 0, all = 0;
    const float *sizes = golden_n(&count, "text/sizes"), *accepted = golden("text/accepted");
    const float *numbers = golden_n(&all, "text/files");
    const unsigned char *files = as_bytes(numbers, all);
    CHECK(count == 34);
    for (size_t i = 0; i < count; files += (size_t)sizes[i++]) {
        llm_npy a;
        llm_error e;
        if (accepted[i] == 0.0f) {
            CHECK_FAILS(npy_reads(&a, files, (size_t)sizes[i], &e), e, "npy: ");
            continue;
        }
        size_t n = 0, rank = 0;
        const float *want = golden_n(&n, "text%zu/values", i),
                    *shape = golden_n(&rank, "text%zu/shape", i);
        CHECK(npy_reads(&a, files, (size_t)sizes[i], &e) && a.count == n && a.rank == rank);
        for (size_t k = 0; k < rank; k++) CHECK(a.shape[k] == (size_t)shape[k]);
        for (size_t k = 0; k < n; k++) CHECK((float)llm_npy_get(&a, k) == want[k]);
        llm_npy_close(&a);
    }
}

TEST(npy, "what is refused is named in one sentence") {
#define NPY_TEXT(descr, order, shape)                                                              \
    "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape ", }\n"
    const struct {
        const char *text, *error;
    } all[] = {
        {NPY_TEXT("'<i4'", "True", "(2,)"),
         "npy: found \"True, 'shape': (2,),\", expected rows first"},
        {NPY_TEXT("'>f4'", "False", "(2,)"),
         "found \"'>f4', 'fortran_orde\", expected '<f4', '<f8' or '<i4'"},
        {NPY_TEXT("'<i8'", "False", "(1,)"), "expected '<f4', '<f8' or '<i4'"},
        {NPY_TEXT("[('a', '<f4')]", "False", "(2,)"),
         "found \"[('a', '<f4')], 'for\", expected '<f4'"},
        {NPY_TEXT("'<f4'", "False", "(2,2)"), "npy: 8 bytes of data, '<f4' and the shape want 16"},
        {NPY_TEXT("'<f8'", "False", "()") "x",
         "found \"x\", expected 'descr', 'fortran_order' and 'shape', and"},
        {NPY_TEXT("'<f8'", "False", "(1)"),
         "found \", }\", expected a shape such as (2, 3) or (5,)"},
        {NPY_TEXT("'<f8'", "False", "\x1b[31m"), "npy: found \"\", expected a shape"},
        {NPY_TEXT("'<f8'", "False", "(,)"), "found \",), }\", expected a shape"},
        {NPY_TEXT("'<f8'", "False", "\x7f"), "npy: found \"\", expected a shape"},
        {NPY_TEXT("'<f8'", "False", "\xe9"), "npy: found \"\", expected a shape"},
        {NPY_TEXT("'<f8'", "False", "~ "), "npy: found \"~ , }\", expected a shape"},
        {NPY_TEXT("'<i4'", "False", "(1, 1, 1, 1, 1, 1, 1, 2, 1)"),
         "found \"1), }\", expected 8 dimensions at most"},
        {NPY_TEXT("'<f4'", "False", "(18446744073709551617, 2)"), "of sizes that fit"},
        {NPY_TEXT("'<f4'", "False", "(18446744073709551616, 2)"), "of sizes that fit"},
        {NPY_TEXT("'<f4'", "False", "(2, 184467440737095516160)"), "of sizes that fit"},
        {NPY_TEXT("'<f4'", "False", "(4611686018427387904, 4)"),
         "npy: 8 bytes of data, '<f4' and the shape want 18446744073709551615"},
        {NPY_TEXT("'<f4'", "False", "(4611686018427387904, 4, 0)"), "want 18446744073709551615"},
        {NPY_TEXT("'<f4'", "False", "(4611686018427387906,)"), "want 18446744073709551615"},
        {NPY_TEXT("'<f8'", "False", "(2305843009213693953,)"), "want 18446744073709551615"},
        {"{'descr': '<f8', 'descr': '<f8', 'fortran_order': False, 'shape': ()}",
         "found \"'descr': '<f8', 'for\", expected 'descr', 'fortran_order' and 'shape', once "
         "each"},
        {"{'descr': '<f8', 'fortran_order': False}",
         "found \"\", expected 'descr', 'fortran_order' and 'shape', and"},
        {"('descr',)", "npy: found \"('descr',)\", expected a dictionary"},
    };
    const size_t count = sizeof all / sizeof *all;
    llm_npy a;
    llm_error e;
    for (int version = 1; version <= 2; version++)
        for (size_t i = 0; i < count; i++)
            CHECK_FAILS(npy_text(&a, version, all[i].text, 8, &e), e, all[i].error);
    CHECK_FAILS(npy_text(&a, 1, all[0].text, 8, &e), e, "numpy.ascontiguousarray(x)");

    const char *good = NPY_TEXT("'<f8'", "False", "(0, 9223372036854775808, 9223372036854775808)");
    CHECK(npy_text(&a, 1, good, 0, &e) && a.count == 0);
    llm_npy_close(&a);
    good = NPY_TEXT("'<f4'", "False", "(1, 1, 1, 1, 1, 1, 1, 2)");
    CHECK(npy_text(&a, 1, good, 8, &e) && a.count == 2 && a.shape[7] == 2);
    llm_npy_close(&a);
    CHECK_FAILS(npy_text(&a, 1, good, 9, &e), e,
                "npy: 9 bytes of data, '<f4' and the shape want 8");
    CHECK_FAILS(npy_text(&a, 1, good, 7, &e), e,
                "npy: 7 bytes of data, '<f4' and the shape want 8");
    CHECK_FAILS(npy_text(&a, 3, good, 8, &e), e, "npy: version 3.0, expected 1.0 or 2.0");
    CHECK_FAILS(npy_text(&a, 0, good, 8, &e), e, "npy: version 0.0, expected 1.0 or 2.0");
    CHECK_FAILS(npy_reads(&a, "\x93NUMPY\1\1\0\0", 10, &e), e, "npy: version 1.1, expected");
    CHECK_FAILS(npy_reads(&a, "\x93NUMPX\1\0\0\0", 10, &e), e,
                "npy: 10 bytes that do not begin with \\x93NUMPY");
    CHECK_FAILS(npy_reads(&a, "\x93NUMPY\1\0\1\0", 10, &e), e,
                "npy: a header of 1 bytes in a file of 10");
    CHECK_FAILS(npy_reads(&a, "\x93NUMPY\2\0\0\0\0\1{}", 14, &e), e,
                "npy: a header of 16777216 bytes in a file of 14");
    CHECK_FAILS(npy_reads(&a, "\x93NUMPY\2\0\0\0\1\0{}", 14, &e), e,
                "npy: a header of 65536 bytes in a file of 14");
    CHECK_FAILS(llm_npy_open(&a, test_path("absent"), &e), e, "absent: cannot be opened");
    CHECK(!a.file.data);
}

TEST(npy, "cut off anywhere, in versions 1 and 2, a file is refused") {
    static const char *const name[4] = {"f2/file", "i2/file", "d2/file", "two/file"};
    for (size_t i = 0; i < 4; i++) {
        size_t size = 0;
        const float *numbers = golden_n(&size, "%s", name[i]);
        const unsigned char *bytes = as_bytes(numbers, size);
        llm_npy a;
        llm_error e;
        for (size_t k = 0; k < size; k++) CHECK_FAILS(npy_reads(&a, bytes, k, &e), e, "npy: ");
        CHECK(npy_reads(&a, bytes, size, &e));
        llm_npy_close(&a);
    }
}

TEST(npy, "a file is written whole or not at all; wrong shapes stop") {
    const char *path = test_path("kept.npy");
    const size_t shape[9] = {2, 3, 1, 1, 1, 1, 1, 1, 1};
    const size_t huge[3] = {SIZE_MAX / 8 + 1, 1, 1},
                 wide[8] = {0,        SIZE_MAX, SIZE_MAX, SIZE_MAX,
                            SIZE_MAX, SIZE_MAX, SIZE_MAX, SIZE_MAX};
    const float x[6] = {1, 2, 3, 4, 5, 6};
    llm_error e;
    llm_npy a;
    float got[6];
    CHECK(llm_npy_write(path, x, LLM_NPY_F32, shape, 2, &e));
    int calls = 0;
    for (;; calls++) {
        npy_calls = calls;
        const bool ok = llm_npy_write(path, got, LLM_NPY_F32, shape, 0, &e);
        npy_calls = 1 << 30;
        if (ok) break;
        CHECK(strcmp(e.message, "npy: out of memory") == 0);
        CHECK(llm_npy_open(&a, path, &e) && llm_npy_floats(got, &a, 6, &e));
        CHECK_ALL_NEAR(got, x, 6, 0.0f);
        llm_npy_close(&a);
    }
    CHECK(calls > 0);
    CHECK_FAILS(llm_npy_write(test_path("no/such"), x, LLM_NPY_F32, shape, 2, &e), e,
                "cannot be created");
    CHECK(llm_npy_write(path, x, LLM_NPY_F32, shape, 8, &e));
    CHECK(llm_npy_open(&a, path, &e) && a.rank == 8 && a.count == 6);
    llm_npy_close(&a);
    CHECK_ASSERTS(llm_npy_write(path, x, LLM_NPY_F32, shape, 9, &e));
    CHECK_ASSERTS(llm_npy_write(path, x, LLM_NPY_F64, huge, 3, &e));
    CHECK(llm_npy_write(path, x, LLM_NPY_I32, wide, 8, &e)); /* nothing, in a long text */
    CHECK(llm_npy_open(&a, path, &e) && a.count == 0 && a.shape[7] == SIZE_MAX &&
          a.file.data[8] == 246);
    llm_npy_close(&a);

    /* 88 bytes and those of the other extents: 40 of them fill 128 bytes, 41 do not */
    const size_t full[6] = {0, 100000, 100000, 100000, 100000, 100000};
    const size_t over[6] = {0, 100000, 100000, 100000, 100000, 1000000};
    CHECK(llm_npy_write(path, x, LLM_NPY_F32, full, 6, &e) && llm_npy_open(&a, path, &e));
    CHECK(a.file.size == 128 && a.file.data[127] == '\n');
    llm_npy_close(&a);
    CHECK(llm_npy_write(path, x, LLM_NPY_F32, over, 6, &e) && llm_npy_open(&a, path, &e));
    CHECK(a.file.size == 192 && a.file.data[191] == '\n' && a.file.data[127] == ' ');
    llm_npy_close(&a);
}
