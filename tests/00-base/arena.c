/* @arena */
#include "../test.h"

#include "../../llm.h"

TEST(arena, "parts are aligned, apart, and inside") {
    llm_arena a;
    CHECK(llm_arena_create(&a, 4096));
    CHECK(a.size == 4096 && a.used == 0 && a.peak == 0);
    const size_t count[6] = {1, 0, 3, 16, 17, 100}; /* floats: 64, 0, 64, 64, 128, 448 bytes */
    float *part[6];
    size_t used = 0;
    for (size_t i = 0; i < 6; i++) {
        part[i] = llm_arena_floats(&a, count[i]);
        CHECK((uintptr_t)part[i] % 64 == 0);
        CHECK((unsigned char *)part[i] == a.memory + used);
        used += (count[i] * sizeof(float) + 63) / 64 * 64;
        CHECK(a.used == used && a.peak == used);
        for (size_t k = 0; k < count[i]; k++) part[i][k] = (float)(i * 1000 + k);
    }
    for (size_t i = 0; i < 6; i++)
        for (size_t k = 0; k < count[i]; k++) CHECK(part[i][k] == (float)(i * 1000 + k));

    double *d = llm_arena_doubles(&a, 9); /* 72 bytes take 128 */
    d[8] = 1.0;
    CHECK(a.used == used + 128);
    struct {
        char c[5];
    } *five = llm_arena_take(&a, 13, 5); /* 65 bytes take 128 */
    five[12].c[4] = 1;
    CHECK(a.used == used + 256);
    llm_arena_destroy(&a);
}

TEST(arena, "a mark gives memory back, the peak stays") {
    llm_arena a;
    CHECK(llm_arena_create(&a, 1024));
    llm_arena_floats(&a, 16);
    const size_t mark = a.used;
    float *first = llm_arena_floats(&a, 100);
    CHECK(a.used == 512 && a.peak == 512);
    a.used = mark;
    CHECK(llm_arena_floats(&a, 5) == first);
    CHECK(a.used == 128 && a.peak == 512);
    llm_arena_floats(&a, 112); /* 448: fills 576 of 1024 */
    CHECK(a.peak == 576);
    llm_arena_destroy(&a);
}

TEST(arena, "too much is an assert, exactly full is not") {
    llm_arena a;
    CHECK(llm_arena_create(&a, 256));
    llm_arena_floats(&a, 16);
    const size_t mark = a.used;
    llm_arena_take(&a, 192, 1);
    CHECK(a.used == 256);
    llm_arena_floats(&a, 0);
    CHECK_ASSERTS(llm_arena_take(&a, 1, 1));
    a.used = mark;
    CHECK_ASSERTS(llm_arena_take(&a, 193, 1)); /* rounded up it is 256 */
    CHECK_ASSERTS(llm_arena_take(&a, SIZE_MAX, 1));
    CHECK_ASSERTS(llm_arena_take(&a, SIZE_MAX - 62, 1));    /* the rounding would wrap to 0 */
    CHECK_ASSERTS(llm_arena_take(&a, SIZE_MAX / 4 + 2, 4)); /* the product would wrap to 4 */
    CHECK_ASSERTS(llm_arena_floats(&a, (size_t)1 << 62));
    CHECK_ASSERTS(llm_arena_doubles(&a, 25));
    a.used = 257; /* a mark of another arena */
    CHECK_ASSERTS(llm_arena_take(&a, 1, 1));
    a.used = mark;
    CHECK(llm_arena_take(&a, SIZE_MAX, 0) == a.memory + mark);
    llm_arena_destroy(&a);
}

TEST(arena, "an arena that cannot be had says so and can be destroyed, twice too") {
    llm_arena a;
    memset(&a, 255, sizeof a);
    CHECK(!llm_arena_create(&a, SIZE_MAX));
    CHECK(!a.memory && a.size == 0 && a.used == 0 && a.peak == 0);
    memset(&a, 255, sizeof a);
    CHECK(!llm_arena_create(&a, SIZE_MAX - 127)); /* 128 more would wrap */
    CHECK(!a.memory && a.size == 0);
    llm_arena_destroy(&a);
    for (size_t bytes = 0; bytes < 200; bytes += 13) {
        CHECK(llm_arena_create(&a, bytes));
        CHECK((uintptr_t)a.memory % 64 == 0);
        if (bytes >= 64) memset(llm_arena_take(&a, 64, 1), 7, 64);
        llm_arena_destroy(&a);
        CHECK(!a.memory && a.size == 0 && a.used == 0 && a.peak == 0);
        llm_arena_destroy(&a);
    }
}

#if defined(TEST_ASAN)
TEST(arena, "AddressSanitizer knows what is free, given back, padding, or past the end") {
    llm_arena a;
    CHECK(llm_arena_create(&a, 4096));
    CHECK(__asan_address_is_poisoned(a.memory) && __asan_address_is_poisoned(a.memory + 4095));
    float *x = llm_arena_floats(&a, 10), *y = llm_arena_floats(&a, 100);
    CHECK(!__asan_region_is_poisoned(x, 40) && !__asan_region_is_poisoned(y, 400));
    CHECK(__asan_address_is_poisoned(x + 10) && __asan_address_is_poisoned(y + 100));
    const size_t mark = a.used;
    float *z = llm_arena_floats(&a, 300);
    CHECK(!__asan_region_is_poisoned(z, 1200));
    a.used = mark;
    float *small = llm_arena_floats(&a, 2);
    CHECK(small == z && !__asan_region_is_poisoned(small, 8));
    CHECK(__asan_address_is_poisoned(z + 2) && __asan_address_is_poisoned(z + 299));
    CHECK(!__asan_region_is_poisoned(x, 40) && !__asan_region_is_poisoned(y, 400));
    void *others[64]; /* memory of others is not poisoned by what is given back here */
    for (size_t i = 0; i < 64; i++) others[i] = malloc(4096 + 128);
    llm_arena_take(&a, a.size - a.used, 1);
    a.used = 2048;
    llm_arena_take(&a, 1, 1);
    CHECK(__asan_region_is_poisoned(a.memory + 2049, 2047) == a.memory + 2049);
    for (size_t i = 0; i < 64; i++) {
        CHECK(!__asan_region_is_poisoned(others[i], 4096 + 128));
        free(others[i]);
    }
    llm_arena_destroy(&a);
    unsigned char *reused = (unsigned char *)malloc(4096 + 128); /* malloc may hand out the block */
    memset(reused, 1, 4096 + 128);
    free(reused);
}
#endif
