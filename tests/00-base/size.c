/* @size */
#include "../test.h"

#include "../../llm.h"

__extension__ typedef unsigned __int128 size_wide; /* holds every product and sum: the oracle */

TEST(size, "equals 128-bit arithmetic around every power of two") {
    size_t value[64 * 3 + 8], count = 0;
    for (int bit = 0; bit < 64; bit++)
        for (size_t near = 0; near < 3; near++) value[count++] = ((size_t)1 << bit) + near - 1;
    value[count++] = SIZE_MAX;
    value[count++] = SIZE_MAX - 1;
    value[count++] = 4294967279u; /* the largest prime below 2^32 */
    value[count++] = SIZE_MAX / 3;
    value[count++] = SIZE_MAX / 3 + 1;
    value[count++] = SIZE_MAX / 10;
    value[count++] = SIZE_MAX / 10 + 1;

    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < count; j++) {
            const size_wide product = (size_wide)value[i] * value[j];
            const size_wide sum = (size_wide)value[i] + value[j];
            size_t out = 12345;
            CHECK(llm_size_mul(&out, value[i], value[j]) == (product <= SIZE_MAX));
            CHECK(out == (product <= SIZE_MAX ? (size_t)product : SIZE_MAX));
            out = 12345;
            CHECK(llm_size_add(&out, value[i], value[j]) == (sum <= SIZE_MAX));
            CHECK(out == (sum <= SIZE_MAX ? (size_t)sum : SIZE_MAX));
        }
    }
}

TEST(size, "out may be an operand, so a shape multiplies in place") {
    const size_t shape[4] = {3, 5, 7, 11};
    size_t n = 1;
    for (size_t i = 0; i < 4; i++) CHECK(llm_size_mul(&n, n, shape[i]));
    CHECK(n == 1155);
    CHECK(llm_size_add(&n, n, n) && n == 2310);
    CHECK(!llm_size_mul(&n, n, SIZE_MAX) && n == SIZE_MAX);
    CHECK(!llm_size_add(&n, 1, n) && n == SIZE_MAX);
}
