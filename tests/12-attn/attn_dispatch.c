/* @attn_dispatch */
#include "../test.h"

#include "../../llm.h"

/* The choice for c, and that the reasons are these. */
static llm_attn_dispatch_form chosen(const llm_memory_efficient_attn_config *c, const char *why) {
    llm_buffer text = {NULL, 0, 0};
    const llm_attn_dispatch_form form = llm_attn_dispatch(&text, c);
    CHECK(form == llm_attn_dispatch(NULL, c));
    CHECK(text.size == strlen(why) && memcmp(text.data ? text.data : "", why, text.size) == 0);
    llm_buffer_free(&text);
    return form;
}

TEST(attn_dispatch, "takes the fastest form that can do it, and says why not a faster one") {
    static const size_t equal[] = {0, 2, 5}, other[] = {0, 1, 4};
    llm_memory_efficient_attn_config c = llm_memory_efficient_attn_defaults(1, 1, 5, 1, 2);
    CHECK(chosen(&c, "") == LLM_ATTN_DISPATCH_SPLIT);
    c.mask = LLM_MEMORY_EFFICIENT_ATTN_LOWER_RIGHT;
    CHECK(chosen(&c, "") == LLM_ATTN_DISPATCH_SPLIT);
    c.mask = LLM_MEMORY_EFFICIENT_ATTN_LOWER; /* one query sees one key of five */
    CHECK(chosen(&c, "flash_split cannot have a mask\n"
                     "flash23 cannot have a diagonal from the upper left corner\n") ==
          LLM_ATTN_DISPATCH_CHUNKS);
    c.M = 5;
    CHECK(chosen(&c, "flash_split cannot have more than one query\n") == LLM_ATTN_DISPATCH_FLASH);
    c.mask = LLM_MEMORY_EFFICIENT_ATTN_BLOCKS_CAUSAL, c.blocks = 2, c.start_q = c.start_k = equal;
    CHECK(chosen(&c, "flash_split cannot have more than one query\n") == LLM_ATTN_DISPATCH_FLASH);
    c.start_k = other;
    CHECK(chosen(&c, "flash_split cannot have more than one query\n"
                     "flash23 cannot have a diagonal from the upper left corner\n") ==
          LLM_ATTN_DISPATCH_CHUNKS);
    c.mask = LLM_MEMORY_EFFICIENT_ATTN_BLOCKS;
    CHECK(chosen(&c, "flash_split cannot have more than one query\n") == LLM_ATTN_DISPATCH_FLASH);
    c.M = 1;
    CHECK(chosen(&c, "flash_split cannot have a mask\n") == LLM_ATTN_DISPATCH_FLASH);
    c.dropout = 0.1f;
    CHECK(chosen(&c, "flash_split cannot have dropout\nflash23 cannot have dropout\n") ==
          LLM_ATTN_DISPATCH_CHUNKS);
    const float bias[5] = {0};
    c.dropout = 0.0f, c.bias = bias;
    CHECK(chosen(&c, "flash_split cannot have a bias\nflash23 cannot have a bias\n") ==
          LLM_ATTN_DISPATCH_CHUNKS);
}

TEST(attn_dispatch, "the form that is chosen gives what the one for everything gives") {
    enum { M = 9, MK = 9, H = 2, K = 4 };
    static const size_t start[] = {0, 4, 9}, one[] = {0, M};
    float q[M * H * K], k[MK * H * K], v[MK * H * K], out[M * H * K], want[M * H * K], lse[M * H];
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, q, M * H * K);
    llm_rng_normal_fill(&rng, k, MK * H * K);
    llm_rng_normal_fill(&rng, v, MK * H * K);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 14));
    for (int mask = 0; mask < 5; mask++) {
        llm_memory_efficient_attn_config c = llm_memory_efficient_attn_defaults(1, M, MK, H, K);
        c.mask = (llm_memory_efficient_attn_mask)mask;
        c.start_q = c.start_k = start, c.blocks = 2;
        llm_memory_efficient_attn_forward(want, lse, q, k, v, &c, &arena);
        CHECK(llm_attn_dispatch(NULL, &c) == LLM_ATTN_DISPATCH_FLASH);
        const bool texts = mask >= LLM_MEMORY_EFFICIENT_ATTN_BLOCKS;
        llm_flash23_config f = llm_flash23_defaults(texts ? start : one, texts ? 2 : 1, H, H, K);
        if (mask == LLM_MEMORY_EFFICIENT_ATTN_ALL || mask == LLM_MEMORY_EFFICIENT_ATTN_BLOCKS)
            f.right = SIZE_MAX;
        llm_flash23_forward(out, lse, q, k, v, &f);
        CHECK_ALL_NEAR(out, want, M * H * K, 2e-6f);
    }
    llm_memory_efficient_attn_config c = llm_memory_efficient_attn_defaults(1, 1, MK, 1, H * K);
    llm_memory_efficient_attn_forward(want, lse, q, k, v, &c, &arena);
    CHECK(llm_attn_dispatch(NULL, &c) == LLM_ATTN_DISPATCH_SPLIT);
    llm_flash_split_decode(out, lse, q, k, v, 1, MK, H * K, 3, c.scale, &arena);
    CHECK_ALL_NEAR(out, want, H * K, 2e-6f);
    llm_arena_destroy(&arena);
}
