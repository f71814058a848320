/* The cases of flash23.txt, for the suites of @flash23 and @flash23_backward, and random inputs. */
#ifndef TINY_FLASH23_H
#define TINY_FLASH23_H

typedef struct {
    const char *name;
    size_t start_q[4], start_k[4], B, H, Hkv, D, left, right;
    float cap;
    bool slopes;
} tiny_flash23_case;

static const tiny_flash23_case tiny_flash23[5] = {
    {"causal", {0, 3, 3, 8}, {0, 3, 3, 8}, 3, 2, 1, 3, SIZE_MAX, 0, 0.0f, false},
    {"corner", {0, 2, 7, 7}, {0, 5, 7, 7}, 2, 2, 2, 2, SIZE_MAX, 0, 0.0f, false},
    {"window", {0, 6, 10, 10}, {0, 6, 13, 13}, 2, 4, 2, 2, 2, 1, 0.0f, false},
    {"capped", {0, 4, 7, 7}, {0, 4, 9, 9}, 2, 2, 1, 3, SIZE_MAX, SIZE_MAX, 1.25f, false},
    {"alibi", {0, 5, 5, 5}, {0, 6, 6, 6}, 1, 3, 1, 2, SIZE_MAX, 0, 0.75f, true},
};

TEST_UNUSED static llm_flash23_config tiny_flash23_config(const tiny_flash23_case *z,
                                                          const float *slope) {
    llm_flash23_config c = llm_flash23_defaults(z->start_q, z->B, z->H, z->Hkv, z->D);
    c.start_k = z->start_k, c.left = z->left, c.right = z->right, c.cap = z->cap;
    c.slope = z->slopes ? slope : NULL;
    return c;
}

TEST_UNUSED static float *tiny_flash23_normal(size_t n, llm_rng *rng) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    return x;
}

/* to (H,T,D) <- from (T,H,D). */
TEST_UNUSED static void tiny_flash23_turn(float *to, const float *from, size_t T, size_t H,
                                          size_t D) {
    for (size_t i = 0; i < T * H * D; i++) to[(i / D % H * T + i / D / H) * D + i % D] = from[i];
}

#endif
