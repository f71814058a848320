/* @lanes */
#include "../test.h"

#include "../../llm.h"

TEST(lanes, "loads, stores and sums at any address, and nothing beside them") {
    float x[3 * LLM_LANES + 1], y[3 * LLM_LANES + 1];
    for (size_t at = 0; at <= LLM_LANES; at++) {
        float want = 0.0f;
        for (size_t i = 0; i < 3 * LLM_LANES + 1; i++) x[i] = (float)(i * i), y[i] = -1.0f;
        for (size_t l = 0; l < LLM_LANES; l++) want += x[at + l];
        const llm_lanes v = llm_lanes_load(x + at);
        CHECK(llm_lanes_sum(v) == want); /* small integers: exact in any order */
        llm_lanes_store(y + at + 1, v + v * 2.0f);
        for (size_t i = 0; i < 3 * LLM_LANES + 1; i++)
            CHECK(y[i] == (i > at && i <= at + LLM_LANES ? 3.0f * x[i - 1] : -1.0f));
    }
}

TEST(lanes, "the sum goes from the first lane to the last") {
    float x[LLM_LANES], want = 0.0f;
    for (size_t l = 0; l < LLM_LANES; l++) x[l] = l % 2 ? -1e8f : 1e8f + (float)(8 * l);
    for (size_t l = 0; l < LLM_LANES; l++) want += x[l];
    CHECK(llm_lanes_sum(llm_lanes_load(x)) == want);
}

TEST(lanes, "a vector has as many floats as it says, and there are registers for it") {
    CHECK(sizeof(llm_lanes) == LLM_LANES * sizeof(float));
    CHECK(LLM_LANES == 1 || LLM_LANES == 4 || LLM_LANES == 8 || LLM_LANES == 16);
    CHECK(LLM_LANES_REGISTERS == 16 || LLM_LANES_REGISTERS == 32);
    const float x[2] = {1.0f, 2.0f};
    float sum = 0.0f;
    LLM_LANES_UNROLL
    for (size_t i = 0; i < 2; i++) {
        LLM_LANES_FETCH(x + i);
        sum += x[i];
    }
    CHECK(sum == 3.0f);
}

TEST(lanes, "the larger of each pair; a NaN on the left is passed over, one on the right stays") {
    float a[LLM_LANES], b[LLM_LANES], y[LLM_LANES];
    for (size_t l = 0; l < LLM_LANES; l++) a[l] = 0.0f, b[l] = -0.0f;
    llm_lanes_store(y, llm_lanes_max(llm_lanes_load(a), llm_lanes_load(b)));
    for (size_t l = 0; l < LLM_LANES; l++) CHECK(signbit(y[l])); /* equal: the second */
    for (size_t at = 0; at < LLM_LANES; at++) {
        for (size_t l = 0; l < LLM_LANES; l++)
            a[l] = (float)(l % 3) - 1.0f, b[l] = (float)(l % 2) - 0.5f;
        a[at] = NAN;
        llm_lanes_store(y, llm_lanes_max(llm_lanes_load(a), llm_lanes_load(b)));
        for (size_t l = 0; l < LLM_LANES; l++) CHECK(y[l] == (l == at ? b[l] : fmaxf(a[l], b[l])));
        llm_lanes_store(y, llm_lanes_max(llm_lanes_load(b), llm_lanes_load(a)));
        for (size_t l = 0; l < LLM_LANES; l++)
            CHECK(l == at ? isnan(y[l]) : y[l] == fmaxf(a[l], b[l]));
    }
}
