/* @protobuf */
#include "../test.h"

#include "../../llm.h"

static unsigned char *proto_bytes(size_t *size, const char *name) {
    const float *x = golden_n(size, "%s", name);
    unsigned char *data = (unsigned char *)test_memory(*size, 1); /* exactly that long */
    for (size_t i = 0; i < *size; i++) data[i] = (unsigned char)x[i];
    return data;
}

TEST(protobuf, "messages that google.protobuf writes, field by field") {
    for (int i = 0; i < 12; i++) {
        char name[16];
        size_t size, n, k = 0;
        snprintf(name, sizeof name, "%d/data", i);
        const unsigned char *data = proto_bytes(&size, name);
        const float *want = golden_n(&n, "%d/fields", i);
        llm_protobuf p = llm_protobuf_begin(data, size, "m");
        llm_protobuf_field f;
        while (llm_protobuf_next(&p, &f, NULL)) {
            CHECK(k < n && f.number == ((uint32_t)want[k] << 16 | (uint32_t)want[k + 1]));
            CHECK((int)f.wire == (int)want[k + 2]);
            if (f.wire == LLM_PROTOBUF_BYTES) {
                double sum = 0.0;
                for (size_t b = 0; b < f.size; b++) sum += (double)((b + 1) * f.data[b]);
                CHECK(f.size == (size_t)want[k + 3] && sum == (double)want[k + 4]);
                CHECK(f.data + f.size <= data + size && f.value == 0);
                k += 5;
                continue;
            }
            for (size_t w = 0; w < 4; w++)
                CHECK((f.value >> (48 - 16 * w) & 0xFFFF) == (uint64_t)want[k + 3 + w]);
            k += 7;
        }
        CHECK(!p.broken && k == n && p.at == size);
        CHECK(!llm_protobuf_next(&p, &f, NULL) && !p.broken);
    }
}

TEST(protobuf, "values by the types of a schema") {
    size_t size, n;
    const unsigned char *data = proto_bytes(&size, "zigzag/data");
    const float *want = golden_n(&n, "zigzag/value");
    llm_protobuf p = llm_protobuf_begin(data, size, "m");
    llm_protobuf_field f;
    for (size_t i = 0; i < n; i++) {
        CHECK(llm_protobuf_next(&p, &f, NULL));
        CHECK_NEAR((double)llm_protobuf_zigzag(&f) / 1024.0, want[i], 1e-7 * fabs((double)want[i]));
        CHECK((llm_protobuf_zigzag(&f) < 0) == (want[i] < 0.0f));
    }
    f.value = 0;
    CHECK(llm_protobuf_zigzag(&f) == 0);
    f.value = 1;
    CHECK(llm_protobuf_zigzag(&f) == -1);
    f.value = UINT64_MAX;
    CHECK(llm_protobuf_zigzag(&f) == INT64_MIN);
    f.value = UINT64_MAX - 1;
    CHECK(llm_protobuf_zigzag(&f) == INT64_MAX);
    data = proto_bytes(&size, "numbers/data");
    p = llm_protobuf_begin(data, size, "m");
    size_t floats_seen = 0, doubles_seen = 0;
    int64_t ints[2], count = 0;
    while (llm_protobuf_next(&p, &f, NULL)) {
        if (f.wire == LLM_PROTOBUF_32)
            CHECK(llm_protobuf_float(&f) == golden("numbers/float")[floats_seen++]);
        if (f.wire == LLM_PROTOBUF_64) {
            const double d = (double)golden("numbers/double")[doubles_seen++];
            CHECK(fabs(llm_protobuf_double(&f) - d) <= 1e-7 * fabs(d));
        }
        if (f.wire == LLM_PROTOBUF_VARINT) ints[count++] = llm_protobuf_int(&f);
    }
    CHECK(floats_seen == 2 && doubles_seen == 2 && count == 2 && ints[0] == -5 && ints[1] == 7);
}

TEST(protobuf, "broken messages end with a sentence, and nothing comes after it") {
    static const struct {
        const char *data;
        size_t size, fields;
        const char *error;
    } row[] = {
        {"\x08", 1, 0, "m, byte 1: expected a varint of at most 64 bits"},
        {"\x08\x80", 2, 0, "m, byte 1: expected a varint of at most 64 bits"},
        {"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02", 11, 0, "m, byte 1: expected a varint"},
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x00", 12, 0, "m, byte 1: expected a varint"},
        {"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 12, 0, "m, byte 1: expected a varint"},
        {"\x08\x05\x10", 3, 1, "m, byte 3: expected a varint"},
        {"\x08\x05\x00\x01", 4, 1, "m, byte 2: expected a field number from 1 to 2^29 - 1"},
        {"\x80\x80\x80\x80\x10\x01", 6, 0, "m, byte 0: expected a field number"},
        {"\x02\x00", 2, 0, "m, byte 0: expected a field number"},
        {"\x0d\x01\x02\x03", 4, 0, "m, byte 1: expected 4 bytes"},
        {"\x09\x01\x02\x03\x04\x05\x06\x07", 8, 0, "m, byte 1: expected 8 bytes"},
        {"\x0a\x02"
         "a",
         3, 0, "m, byte 0: expected a field that ends with its message"},
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
         "a",
         12, 0, "m, byte 0: expected a field that"},
        {"\x0a", 1, 0, "m, byte 1: expected a varint"},
        {"\x0b\x0c", 2, 0, "m, byte 0: expected wire type 0, 1, 2 or 5"},
        {"\x0c\x0c", 2, 0, "m, byte 0: expected wire type 0, 1, 2 or 5"},
        {"\x0e\x0c", 2, 0, "m, byte 0: expected wire type 0, 1, 2 or 5"},
        {"\x0f\x0c", 2, 0, "m, byte 0: expected wire type 0, 1, 2 or 5"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        unsigned char *exact = (unsigned char *)test_memory(row[i].size, 1);
        memcpy(exact, row[i].data, row[i].size);
        llm_protobuf p = llm_protobuf_begin(exact, row[i].size, "m");
        llm_protobuf_field f;
        llm_error error;
        for (size_t k = 0; k < row[i].fields; k++) CHECK(llm_protobuf_next(&p, &f, &error));
        CHECK_FAILS(llm_protobuf_next(&p, &f, &error), error, row[i].error);
        CHECK(p.broken && !llm_protobuf_next(&p, &f, NULL));
    }
    llm_protobuf p = llm_protobuf_begin("\x0a\x00\x0a\x01z\xfa\xff\xff\xff\x0f\x00", 11, "m");
    llm_protobuf_field f;
    CHECK(llm_protobuf_next(&p, &f, NULL) && f.size == 0 && f.number == 1);
    CHECK(llm_protobuf_next(&p, &f, NULL) && f.size == 1 && f.data[0] == 'z');
    CHECK(llm_protobuf_next(&p, &f, NULL) && f.number == (1 << 29) - 1); /* the last number */
    CHECK(!llm_protobuf_next(&p, &f, NULL) && !p.broken);
    p = llm_protobuf_begin("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, "m");
    CHECK(llm_protobuf_next(&p, &f, NULL) && f.value == UINT64_MAX);
    p = llm_protobuf_begin("\x09\x01\x02\x03\x04\x05\x06\x07\x88", 9, "m");
    CHECK(llm_protobuf_next(&p, &f, NULL) && f.value == 0x8807060504030201u && p.at == 9);
    p = llm_protobuf_begin("", 0, "m");
    CHECK(!llm_protobuf_next(&p, &f, NULL) && !p.broken);
}
