/* @decoder */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

enum { B = 2, T = 4, S = 3, C = 4, H = 2, F = 6, L = 2, N = B * T };
static const char *const name[2] = {"post", "pre"};

static llm_sublayer_config config(bool pre) {
    llm_sublayer_config c = llm_sublayer_defaults(L, C, H);
    c.hidden = F;
    c.norm = pre ? LLM_PRENORM_PRE : LLM_PRENORM_POST;
    c.act = pre ? LLM_ACTIVATION_GELU : LLM_ACTIVATION_RELU;
    return c;
}
static llm_decoder_weights bound(float *flat, const llm_sublayer_config *c, llm_arena *arena) {
    llm_decoder_weights w;
    float *matrix = flat, *vector = flat + llm_decoder_matrices(c);
    llm_decoder_bind(&w, &matrix, &vector, true, c, arena);
    CHECK(matrix == flat + llm_decoder_matrices(c));
    CHECK(vector == matrix + llm_decoder_vectors(c));
    return w;
}
static llm_sublayer_view view(void) {
    llm_sublayer_view v = llm_sublayer_look(B, T);
    v.S = S, v.mem = golden("in/mem"), v.hidden = as_bools(golden("in/hidden"), B * S);
    return v;
}

TEST(decoder, "values and gradients equal torch.nn.TransformerDecoder, the memory's too") {
    const llm_sublayer_view v = view();
    for (size_t pre = 0; pre < 2; pre++) {
        const llm_sublayer_config c = config(pre);
        llm_arena arena = test_arena(1 << 17);
        size_t count;
        float *flat = golden_n(&count, "%s/weights", name[pre]), *g = zeros(count);
        CHECK(count == llm_decoder_matrices(&c) + llm_decoder_vectors(&c));
        const llm_decoder_weights w = bound(flat, &c, &arena), dw = bound(g, &c, &arena);
        llm_decoder_acts a;
        bool causal[T * T]; /* the same mask from outside; it is not one for the memory */
        llm_sublayer_view masked = v;
        for (size_t i = 0; i < T * T; i++) causal[i] = i % T > i / T;
        masked.blocked = causal;
        const float *same = llm_decoder_forward(&a, golden("in/x"), &masked, &w, &c, &arena);
        CHECK_GOLDEN(same, N * C, 5e-6f, "%s/y", name[pre]);
        const float *y = llm_decoder_forward(&a, golden("in/x"), &v, &w, &c, &arena);
        CHECK_GOLDEN(y, N * C, 5e-6f, "%s/y", name[pre]);
        float *d = golden("in/dy"), *dmem = zeros(B * S * C);
        const size_t used = arena.used;
        llm_decoder_backward(d, dmem, &dw, &a, &v, &w, &c, &arena);
        CHECK(arena.used == used);
        /* six norms over four channels behind each other */
        CHECK_GOLDEN(d, N * C, 3e-5f, "%s/dx", name[pre]);
        CHECK_GOLDEN(dmem, B * S * C, 3e-5f, "%s/dmem", name[pre]);
        CHECK_GOLDEN(g, count, 3e-5f, "%s/grads", name[pre]);
    }
}

TEST(decoder, "one token at a time gives what all at once give, with a memory and without") {
    for (size_t k = 0; k < 4; k++) {
        llm_sublayer_config c = config(k % 2);
        const size_t room = T + k / 2;
        llm_arena arena = test_arena(1 << 17);
        const llm_decoder_weights w = bound(golden("%s/weights", name[k % 2]), &c, &arena);
        llm_sublayer_view v = view();
        if (k / 2) v.mem = NULL, v.hidden = NULL;
        const float *x = golden("in/x");
        llm_decoder_acts a;
        const float *all = llm_decoder_forward(&a, x, &v, &w, &c, &arena);
        llm_decoder_cache cache;
        llm_decoder_cache_create(&cache, room, &v, &w, &c, &arena);
        c.dropout = 0.5f; /* of training, and no concern of a step */
        for (size_t t = 0; t < T; t++) {
            float one[B * C], y[B * C], want[B * C];
            for (size_t i = 0; i < B * C; i++) {
                one[i] = x[(i / C * T + t) * C + i % C];
                want[i] = all[(i / C * T + t) * C + i % C];
            }
            const size_t used = arena.used;
            CHECK(cache.t == t);
            llm_decoder_step(y, &cache, one, &w, &c, &arena);
            CHECK(arena.used == used);
            CHECK_ALL_NEAR(y, want, B * C, 1e-5f);
        }
        float y[B * C];
        if (room == T) CHECK_ASSERTS(llm_decoder_step(y, &cache, x, &w, &c, &arena));
    }
}

static size_t rounded(size_t bytes) { return (bytes + 63) / 64 * 64; }

TEST(decoder,
     "weights and a cache take what is named: keys and values of tokens and of the memory") {
    const llm_sublayer_config c = config(true);
    llm_arena arena = test_arena(1 << 17);
    const llm_decoder_weights w = bound(golden("pre/weights"), &c, &arena);
    CHECK(arena.used ==
          rounded(2 * L * sizeof(llm_sublayer_attn)) + rounded(L * sizeof(llm_sublayer_mlp)));
    llm_sublayer_view v = view();
    for (size_t room = 2; room <= 40; room += 38) { /* less than the memory's S, and more */
        const size_t used = arena.used;
        llm_decoder_cache cache;
        llm_decoder_cache_create(&cache, room, &v, &w, &c, &arena);
        CHECK(arena.used - used ==
              rounded(2 * L * sizeof(llm_mha_saved)) + rounded(B * room) +
                  2 * L * (rounded(B * room * C * 4) + rounded(B * S * C * 4)));
    }
    const size_t used = arena.used;
    llm_decoder_acts a;
    llm_decoder_forward(&a, golden("in/x"), &v, &w, &c, &arena);
    const size_t one = rounded(N * C * 4), frame = 3 * one + 4 * rounded(N * 4);
    const size_t attn = rounded(B * H * T * T * 4) + 5 * one;
    const size_t cross = rounded(B * H * T * S * 4) + 3 * one + 2 * rounded(B * S * C * 4);
    const size_t mlp = 2 * rounded(N * F * 4);
    CHECK(arena.used - used == rounded(T * T) + rounded(3 * L * sizeof(llm_sublayer_acts)) + one +
                                   2 * rounded(N * 4) +
                                   L * (3 * frame + attn - one + cross - one + mlp));
}

TEST(decoder, "a step stays within the scratch that is named") {
    const llm_sublayer_config c = config(true);
    llm_arena arena = test_arena(1 << 17);
    const llm_decoder_weights w = bound(golden("pre/weights"), &c, &arena);
    const llm_sublayer_view v = view();
    llm_decoder_cache cache;
    llm_decoder_cache_create(&cache, 20, &v, &w, &c, &arena);
    float y[B * C];
    const size_t used = arena.used, floats_ = B * (14 * C + 2 * F + H * 20 + 12);
    arena.peak = used;
    llm_decoder_step(y, &cache, golden("in/x"), &w, &c, &arena);
    CHECK(arena.peak - used <= floats_ * sizeof(float) + 64 * 30); /* each rounded up to 64 */
}

TEST(decoder, "a target changes no output before it; a hidden memory row none, any other all") {
    const llm_sublayer_config c = config(true);
    llm_arena arena = test_arena(1 << 18);
    const llm_decoder_weights w = bound(golden("pre/weights"), &c, &arena);
    const llm_sublayer_view v = view();
    float *x = golden("in/x"), *mem = golden("in/mem");
    llm_sublayer_view moved = v;
    llm_decoder_acts a;
    const float *before = llm_decoder_forward(&a, x, &v, &w, &c, &arena);
    for (size_t j = 0; j < T; j++) {
        const float kept = x[j * C];
        x[j * C] += 0.5f;
        const float *y = llm_decoder_forward(&a, x, &v, &w, &c, &arena);
        x[j * C] = kept;
        CHECK(memcmp(y, before, j * C * sizeof(float)) == 0);
        CHECK(memcmp(y + j * C, before + j * C, C * sizeof(float)) != 0);
        CHECK(memcmp(y + T * C, before + T * C, T * C * sizeof(float)) == 0);
    }
    moved.mem = mem;
    for (size_t s = 0; s < B * S; s++) {
        const float kept = mem[s * C];
        mem[s * C] += 0.5f;
        const float *y = llm_decoder_forward(&a, x, &moved, &w, &c, &arena);
        mem[s * C] = kept;
        for (size_t b = 0; b < B; b++)
            for (size_t i = b * T; i < b * T + T; i++)
                CHECK((memcmp(y + i * C, before + i * C, C * sizeof(float)) == 0) ==
                      (b != s / S || v.hidden[s]));
    }
}

TEST(decoder, "without a memory it is the encoder's stack under a causal mask, or any other") {
    const llm_sublayer_config c = config(true);
    llm_arena arena = test_arena(1 << 17);
    const size_t matrices = llm_encoder_matrices(&c), vectors = llm_encoder_vectors(&c);
    float *flat = floats(matrices + vectors), *g = zeros(2 * (matrices + vectors)), d[2][N * C];
    llm_rng rng = llm_rng_seed(9);
    llm_rng_normal_fill(&rng, flat, matrices + vectors);
    llm_encoder_weights e, de;
    llm_decoder_weights w, dw;
    for (size_t k = 0; k < 4; k++) {
        float *base = k < 2 ? flat : g + (k - 2) * (matrices + vectors);
        float *matrix = base, *vector = base + matrices;
        if (k % 2 == 0) llm_encoder_bind(k ? &de : &e, &matrix, &vector, &c, &arena);
        if (k % 2 == 1) llm_decoder_bind(k == 1 ? &w : &dw, &matrix, &vector, false, &c, &arena);
        CHECK(vector == base + matrices + vectors);
    }
    CHECK(w.cross == NULL);
    bool causal[T * T], window[T * T];
    for (size_t i = 0; i < T * T; i++) causal[i] = i % T > i / T;
    for (size_t i = 0; i < T * T; i++) window[i] = i % T > i / T || i % T + 1 < i / T;
    const float *x = golden("in/x");
    llm_sublayer_view v = llm_sublayer_look(B, T), masked = v;
    for (size_t k = 0; k < 2; k++) {
        llm_encoder_acts ea;
        llm_decoder_acts a;
        masked.blocked = k ? window : causal;
        if (k) v.blocked = window;
        const float *want = llm_encoder_forward(&ea, x, &masked, &e, &c, &arena);
        const float *y = llm_decoder_forward(&a, x, &v, &w, &c, &arena);
        CHECK_ALL_NEAR(y, want, N * C, 0.0f);
        memcpy(d[0], golden("in/dy"), sizeof d[0]);
        memcpy(d[1], golden("in/dy"), sizeof d[1]);
        llm_encoder_backward(d[0], &de, &ea, B, T, &e, &c, &arena);
        llm_decoder_backward(d[1], NULL, &dw, &a, &v, &w, &c, &arena);
        CHECK_ALL_NEAR(d[1], d[0], N * C, 0.0f);
        CHECK_ALL_NEAR(g + matrices + vectors, g, matrices + vectors, 0.0f);
    }
    v.mem = x;
    llm_decoder_acts a;
    CHECK_ASSERTS(llm_decoder_forward(&a, x, &v, &w, &c, &arena));
}

TEST(decoder, "sublayers draw their dropout from numbers of their own; counts; first weights") {
    llm_sublayer_config c = config(true);
    llm_arena arena = test_arena(1 << 17);
    size_t matrices = llm_decoder_matrices(&c), vectors = llm_decoder_vectors(&c), ones = 0;
    float *flat = zeros(matrices + vectors), x[N * C] = {0};
    const llm_decoder_weights w = bound(flat, &c, &arena);
    for (size_t l = 0; l < L; l++)
        for (size_t i = 0; i < C; i++)
            w.attn[l].mha.bo[i] = w.cross[l].mha.bo[i] = w.mlp[l].ffn.down_bias[i] = 1.0f;
    llm_sublayer_view v = view();
    llm_decoder_acts a;
    c.dropout = 0.5f;
    v.number = 5;
    llm_decoder_forward(&a, x, &v, &w, &c, &arena);
    for (size_t i = 0; i < N * C; i++) {
        float want = 0.0f;
        for (size_t k = 5; k < 5 + 3 * L; k++) want += llm_dropout_scale(0.5f, 0, k * N * C + i);
        CHECK(a.x[i] == want);
    }
    llm_rng rng = llm_rng_seed(1);
    for (size_t i = 0; i < matrices + vectors; i++) flat[i] = NAN;
    llm_decoder_init(&w, &c, &rng);
    for (size_t i = 0; i < matrices; i++) CHECK(fabsf(flat[i]) < 4.0f && flat[i] != 0.0f);
    for (size_t i = 0; i < vectors; i++) {
        CHECK(flat[matrices + i] == 0.0f || flat[matrices + i] == 1.0f);
        ones += flat[matrices + i] == 1.0f;
    }
    CHECK(ones == (3 * L + 1) * C && w.norm_w[C - 1] == 1.0f && w.norm_b[C - 1] == 0.0f);
    /* torch.nn.Transformer's decoder: 6 layers of 512 */
    c = llm_sublayer_defaults(6, 512, 8);
    CHECK(llm_decoder_matrices(&c) + llm_decoder_vectors(&c) == 6 * 4204032);
    c.norm = LLM_PRENORM_SANDWICH;
    CHECK(llm_decoder_vectors(&c) == 6 * (8 * 512 + 2048 + 512 + 3 * 4 * 512) + 2 * 512);
}
