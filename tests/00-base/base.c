/* @base */
#include "../test.h"

#include <setjmp.h>

/* a program's own LLM_ASSERT and LLM_API */
static const char *base_failed;
static jmp_buf base_back;
static void base_fail(const char *condition) {
    base_failed = condition;
    longjmp(base_back, 1);
}
#define LLM_ASSERT(cond) ((cond) ? (void)0 : base_fail(#cond))
#define LLM_API __attribute__((unused)) static

#include "../../llm.h"

TEST(base, "LLM_ASSERT can be replaced, and gets the condition") {
    if (setjmp(base_back) == 0) {
        llm_rng rng = llm_rng_seed(1);
        llm_rng_below(&rng, 0);
        CHECK(!"the replaced assert was called");
    }
    CHECK(strcmp(base_failed, "n > 0") == 0);
}

TEST(base, "LLM_PI is the float nearest to pi") {
    CHECK(LLM_PI == (float)acos(-1.0));
    CHECK(sizeof(LLM_PI) == sizeof(float));
}

TEST(base, "a parallel loop writes every output once, a simd sum adds every term") {
    enum { N = 1003 };
    static int written[N];
    float sum = 0.0f;
    LLM_PARALLEL_FOR
    for (int i = 0; i < N; i++) written[i]++;
    for (int i = 0; i < N; i++) CHECK(written[i] == 1);
    for (int times = 10; times < 30; times += 10) { /* N numbers 10 times are few, 20 times many */
        LLM_PARALLEL_MANY(N, times)
        for (int i = 0; i < N; i++) written[i]++;
    }
    for (int i = 0; i < N; i++) CHECK(written[i]-- == 3);
    for (int i = 0; i < N; i++) CHECK(written[i]-- == 2);

    LLM_SIMD_SUM(sum)
    for (int i = 0; i < N; i++) sum += (float)i; /* all partial sums are whole numbers below 2^24 */
    CHECK(sum == (float)(N * (N - 1) / 2));
    LLM_SIMD
    for (int i = 0; i < N; i++) written[i] = 2 * written[i] + i; /* in place */
    for (int i = 0; i < N; i++) CHECK(written[i] == 2 + i);
}
