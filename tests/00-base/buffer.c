/* @buffer */
#include "../test.h"

/* malloc and realloc that run out after a number of calls */
static int buffer_calls = 1 << 30;
static void *buffer_realloc(void *p, size_t size) {
    void *q = buffer_calls-- > 0 ? realloc(p, size) : NULL;
    if (q && !p) memset(q, 'x', size); /* nothing in it is 0 by chance */
    return q;
}
#define realloc buffer_realloc

#include "../../llm.h"

TEST(buffer, "puts and prints of every length append, and a 0 follows") {
    llm_buffer b = {NULL, 0, 0};
    char want[40000], text[2000];
    size_t size = 0;
    llm_rng rng = llm_rng_seed(1);
    for (int i = 0; i < 300; i++) {
        const size_t n = llm_rng_below(&rng, i % 7 == 0 ? 800 : 70);
        for (size_t k = 0; k < n; k++) text[k] = (char)('a' + llm_rng_below(&rng, 26));
        text[n] = 0;
        if (i % 2) {
            CHECK(llm_buffer_put(&b, text, n));
        } else {
            CHECK(llm_buffer_print(&b, "%s", text));
        }
        memcpy(want + size, text, n);
        size += n;
        CHECK(b.size == size && b.capacity > size && b.data[size] == 0);
        CHECK(b.capacity <= 64 || 2 * b.capacity <= 3 * size + 2); /* half more than needed */
        CHECK(memcmp(b.data, want, size) == 0);
    }
    CHECK(llm_buffer_print(&b, "%d-%05.1f", 42, 3.25) && strcmp(b.data + size, "42-003.2") == 0);
    llm_buffer_free(&b);
    CHECK(!b.data && b.size == 0 && b.capacity == 0);
    llm_buffer_free(&b);
}

TEST(buffer, "nothing put makes an empty string; bytes may be 0") {
    llm_buffer b = {NULL, 0, 0};
    CHECK(llm_buffer_put(&b, NULL, 0) && b.size == 0 && b.data[0] == 0);
    CHECK(llm_buffer_print(&b, "%s", "") && b.size == 0 && b.data[0] == 0);
    CHECK(llm_buffer_put(&b, "a\0b", 3) && b.size == 3 && memcmp(b.data, "a\0b", 4) == 0);
    llm_buffer_free(&b);
}

TEST(buffer, "reserving makes room once, so appending is linear") {
    llm_buffer b = {NULL, 0, 0};
    CHECK(llm_buffer_reserve(&b, 62) && b.capacity == 64 && b.size == 0 && b.data[0] == 0);
    CHECK(llm_buffer_put(&b, "ab", 2) && llm_buffer_reserve(&b, 1000) && strcmp(b.data, "ab") == 0);
    b.size = 0;
    const char *before = b.data;
    const size_t capacity = b.capacity;
    for (int i = 0; i < 1000; i++) CHECK(llm_buffer_put(&b, "x", 1));
    CHECK(b.data == before && b.capacity == capacity);

    buffer_calls = 1 << 20;
    for (int i = 0; i < 2000000; i++) CHECK(llm_buffer_put(&b, "yz", 2));
    CHECK((1 << 20) - buffer_calls < 25); /* log(4e6 / 1e3) / log(1.5) is 20.5 */
    CHECK(b.size == 4001000 && b.capacity < 2 * b.size && b.data[4000999] == 'z');
    llm_buffer_free(&b);
}

TEST(buffer, "when memory is out, or the size would wrap, the buffer stays as it was") {
    llm_buffer b = {NULL, 0, 0};
    buffer_calls = 0;
    CHECK(!llm_buffer_put(&b, "abc", 3) && !b.data && b.size == 0);
    CHECK(!llm_buffer_print(&b, "%d", 5) && !b.data && b.size == 0);
    buffer_calls = 1;
    CHECK(llm_buffer_put(&b, "abc", 3));
    CHECK(!llm_buffer_print(&b, "%0100d", 5) && b.size == 3 && strcmp(b.data, "abc") == 0);
    CHECK(!llm_buffer_reserve(&b, 100) && b.size == 3);
    CHECK(llm_buffer_put(&b, "de", 2) && strcmp(b.data, "abcde") == 0); /* there is still room */
    buffer_calls = 100;
    CHECK(!llm_buffer_reserve(&b, SIZE_MAX) && !llm_buffer_reserve(&b, SIZE_MAX - 5));
    CHECK(!llm_buffer_reserve(&b, SIZE_MAX - 6) && !llm_buffer_reserve(&b, SIZE_MAX / 2 + 1));
    CHECK(!llm_buffer_reserve(&b, SIZE_MAX / 2 - 4)); /* plus 5 it is more than half */
    CHECK(buffer_calls == 100 && strcmp(b.data, "abcde") == 0);
    llm_buffer_free(&b);
}
