/* @token_windows */
#include "../test.h"

#include "../../llm.h"

TEST(token_windows, "lengths by each strategy, against taking tokens off one by one") {
    for (size_t a = 0; a < 12; a++)
        for (size_t b = 0; b < 12; b++)
            for (size_t most = 0; most < 14; most++) {
                size_t n[2] = {a, b}, x = a, y = b;
                CHECK(llm_token_windows_cut(n, most, LLM_TOKEN_WINDOWS_LONGEST));
                while (x + y >
                       most) { /* off the longer; of equal ones off the first if it is not b */
                    if (x > y || (x == y && a <= b))
                        x--;
                    else
                        y--;
                }
                CHECK(n[0] == x && n[1] == y);
                for (int second = 0; second < 2; second++) {
                    size_t m[2] = {a, b};
                    const size_t go = a + b > most ? a + b - most : 0, of = second ? b : a;
                    const bool ok = llm_token_windows_cut(
                        m, most, second ? LLM_TOKEN_WINDOWS_SECOND : LLM_TOKEN_WINDOWS_FIRST);
                    CHECK(ok == (go == 0 || of > go));
                    if (ok) CHECK(m[0] == a - (second ? 0 : go) && m[1] == b - (second ? go : 0));
                }
            }
    for (size_t n = 0; n < 30; n++)
        for (size_t most = 1; most < 9; most++)
            for (size_t stride = 0; stride < most; stride++) {
                size_t windows = 1, end = most;
                for (; end < n; end += most - stride) windows++;
                CHECK(llm_token_windows_count(n, most, stride) == windows);
            }
    CHECK_ASSERTS(llm_token_windows_count(5, 3, 3));
    CHECK(llm_token_windows_count(3, 3, 3) == 1); /* a text that fits needs no stride */
}

TEST(token_windows, "every stretch of at most `stride` tokens lies whole in a window") {
    for (size_t n = 1; n < 25; n++)
        for (size_t most = 1; most < 9; most++)
            for (size_t stride = 0; stride < most; stride++) {
                const size_t count = llm_token_windows_count(n, most, stride);
                for (size_t from = 0; from < n; from++)
                    for (size_t to = from; to < n && to < from + stride; to++) {
                        bool whole = false;
                        for (size_t w = 0; w < count; w++) {
                            const size_t start = w * (most - stride);
                            whole = whole || (start <= from && to < start + most);
                        }
                        CHECK(whole);
                    }
                CHECK(count == 1 || (count - 1) * (most - stride) < n); /* none is empty */
            }
}
