/* @transformer_weights */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_transformer.h"

/* Where a part of @transformer_layout is bound: its weight, or its bias. */
static float *where(const llm_transformer_weights *w, const llm_transformer_layout_tensor *t) {
    const size_t k = strncmp(t->name, "decoder", 7) == 0 || strncmp(t->name, "model", 5) == 0 ||
                     strncmp(t->name, "h.", 2) == 0 || strncmp(t->name, "ln_f", 4) == 0;
    const bool bias = strcmp(t->name + strlen(t->name) - 5, ".bias") == 0;
    const llm_transformer_weights_stack *s = &w->stack[k];
    const llm_transformer_weights_layer *l = &s->layer[t->layer];
    const llm_mha_params *m =
        t->part < LLM_TRANSFORMER_LAYOUT_BUCKETS ? &l->attn.mha : &l->cross.mha;
    switch (t->part) {
    case LLM_TRANSFORMER_LAYOUT_TOKENS:
        return w->tokens;
    case LLM_TRANSFORMER_LAYOUT_PLACES:
        return w->places;
    case LLM_TRANSFORMER_LAYOUT_TYPES:
        return w->types;
    case LLM_TRANSFORMER_LAYOUT_FIRST_NORM:
        return bias ? w->first.b : w->first.w;
    case LLM_TRANSFORMER_LAYOUT_NORM:
        return bias ? l->attn.norm.b : l->attn.norm.w;
    case LLM_TRANSFORMER_LAYOUT_CROSS_NORM:
        return bias ? l->cross.norm.b : l->cross.norm.w;
    case LLM_TRANSFORMER_LAYOUT_BUCKETS:
        return s->distances;
    case LLM_TRANSFORMER_LAYOUT_Q:
    case LLM_TRANSFORMER_LAYOUT_CROSS_Q:
        return bias ? m->bq : m->wq;
    case LLM_TRANSFORMER_LAYOUT_Q + 1:
    case LLM_TRANSFORMER_LAYOUT_CROSS_Q + 1:
        return bias ? m->bk : m->wk;
    case LLM_TRANSFORMER_LAYOUT_Q + 2:
    case LLM_TRANSFORMER_LAYOUT_CROSS_Q + 2:
        return bias ? m->bv : m->wv;
    case LLM_TRANSFORMER_LAYOUT_Q + 3:
    case LLM_TRANSFORMER_LAYOUT_CROSS_Q + 3:
        return bias ? m->bo : m->wo;
    case LLM_TRANSFORMER_LAYOUT_MLP_NORM:
        return bias ? l->norm.b : l->norm.w;
    case LLM_TRANSFORMER_LAYOUT_GATE:
        return l->ffn.gate;
    case LLM_TRANSFORMER_LAYOUT_UP:
        return bias ? l->ffn.up_bias : l->ffn.up;
    case LLM_TRANSFORMER_LAYOUT_DOWN:
        return bias ? l->ffn.down_bias : l->ffn.down;
    case LLM_TRANSFORMER_LAYOUT_LAST_NORM:
        return bias ? s->norm.b : s->norm.w;
    case LLM_TRANSFORMER_LAYOUT_POOLER:
        return bias ? w->pool_b : w->pool_w;
    default:
        return w->head;
    }
}

TEST(transformer_weights, "every part is bound where the layout lists it, in five families") {
    for (size_t k = 0; k < 6; k++) {
        llm_transformer_config c = tiny_transformer(k);
        if (k == 2) continue; /* GPT-2's layout has fused matrices */
        size_t numbers;
        llm_transformer_layout_tensor list[64];
        const size_t n = llm_transformer_layout(list, &numbers, &c);
        llm_arena arena = test_arena(1 << 14);
        float *flat = floats(numbers);
        llm_transformer_weights w;
        llm_transformer_weights_bind(&w, flat, &c, &arena);
        for (size_t i = 0; i < n; i++) CHECK(where(&w, &list[i]) == flat + list[i].offset);
        CHECK((w.head == w.tokens) == c.tied);
    }
}

TEST(transformer_weights, "what a model has not is NULL") {
    llm_arena arena = test_arena(1 << 14);
    llm_transformer_config c = tiny_transformer_of(4); /* Llama */
    float *flat = floats(llm_transformer_count(&c));
    llm_transformer_weights w;
    memset(&w, 255, sizeof w);
    llm_transformer_weights_bind(&w, flat, &c, &arena);
    const llm_transformer_weights_layer *l = &w.stack[1].layer[1];
    CHECK(!w.places && !w.types && !w.pool_w && !w.pool_b && !w.first.w && !w.first.b);
    CHECK(!l->attn.mha.bq && !l->attn.mha.bk && !l->attn.mha.bv && !l->attn.mha.bo);
    CHECK(!l->cross.mha.wq && !l->cross.norm.w && !l->ffn.up_bias && !l->ffn.down_bias);
    CHECK(!w.stack[1].distances && !w.stack[0].norm.w && !l->norm.b && l->ffn.gate);
    CHECK(w.head == flat + llm_transformer_count(&c) - 7 * 4);
    c = tiny_transformer_of(0); /* 2017: post-norm */
    flat = floats(llm_transformer_count(&c));
    llm_transformer_weights_bind(&w, flat, &c, &arena);
    CHECK(!w.stack[0].norm.w && !w.stack[1].norm.w && !w.stack[0].layer->ffn.gate);
    CHECK(!w.stack[0].layer->cross.mha.wq && w.stack[1].layer->cross.mha.bo);
}

TEST(transformer_weights, "first weights: the deviations of GPT-2, gains 1, biases 0") {
    for (size_t k = 0; k < 5; k++) {
        llm_transformer_config c = tiny_transformer_of(k);
        c.width = 32, c.hidden = 64, c.vocab = 60, c.head_size = 16, c.places = k == 1 ? 60 : 0;
        c.pooler = k == 1, c.types = k == 1 ? 32 : 0, c.buckets = k == 3 ? 512 : 0;
        if (k == 2) c.tied = false;
        llm_arena arena = test_arena(1 << 14);
        llm_rng rng = llm_rng_seed(k);
        const size_t count = llm_transformer_count(&c);
        float *flat = floats(count);
        llm_transformer_weights w;
        llm_transformer_weights_bind(&w, flat, &c, &arena);
        llm_transformer_weights_init(&w, flat, &c, &rng);
        for (size_t i = 0; i < count; i++) CHECK(fabsf(flat[i]) < 0.12f || flat[i] == 1.0f);
        /* four standard errors of the 1024 or more numbers of a matrix */
        const size_t stack = c.decoder > 0, n = 32 * 32;
        const llm_transformer_weights_layer *l = &w.stack[stack].layer[0];
        const size_t added = (stack && c.encoder ? 3 : 2) * (stack ? c.decoder : c.encoder);
        const double deviation = 0.02, out = 0.02 / sqrt((double)added);
        const float *usual[9] = {w.tokens,  w.head,      l->attn.mha.wq,
                                 l->ffn.up, l->ffn.gate, w.pool_w,
                                 w.places,  w.types,     w.stack[stack].distances};
        const float *small[3] = {l->attn.mha.wo, l->ffn.down, l->cross.mha.wo};
        for (size_t i = 0; i < 9; i++)
            if (usual[i])
                CHECK_NEAR(sqrt(dot(usual[i], usual[i], n) / (double)n) / deviation, 1, 0.09);
        for (size_t i = 0; i < 3; i++)
            if (small[i]) CHECK_NEAR(sqrt(dot(small[i], small[i], n) / (double)n) / out, 1, 0.09);
        const size_t narrow = c.kv_heads * c.head_size * 32;
        const float *keys[2] = {l->attn.mha.wk, l->attn.mha.wv};
        for (size_t i = 0; i < 2; i++)
            CHECK_NEAR(sqrt(dot(keys[i], keys[i], narrow) / (double)narrow) / deviation, 1, 0.13);
        size_t ones = 0, norms = 0;
        for (size_t i = 0; i < count; i++) ones += flat[i] == 1.0f;
        norms = 2 * (c.encoder + c.decoder) + (c.encoder ? c.decoder : 0) + c.first_norm;
        norms += c.last_norm ? (size_t)((c.encoder > 0) + (c.decoder > 0)) : 0;
        CHECK(ones == 32 * norms);
        if (l->attn.mha.bq) CHECK(l->attn.mha.bq[3] == 0.0f && l->ffn.up_bias[5] == 0.0f);
        size_t drawn = 0; /* each once */
        for (size_t i = 0; i < count; i++) drawn += flat[i] != 0.0f && flat[i] != 1.0f;
        llm_rng same = llm_rng_seed(k);
        llm_rng_normal_fill(&same, floats(drawn), drawn);
        CHECK(rng.block == same.block && rng.used == same.used);
    }
}

TEST(transformer_weights, "a gated MLP with biases and heads that do not divide are refused") {
    llm_arena arena = test_arena(1 << 14);
    llm_transformer_config c = tiny_transformer_of(4);
    llm_transformer_weights w;
    float *flat = floats(4 * llm_transformer_count(&c));
    c.biases = true;
    CHECK_ASSERTS(llm_transformer_weights_bind(&w, flat, &c, &arena));
    c.biases = false, c.heads = 3, c.kv_heads = 2;
    CHECK_ASSERTS(llm_transformer_weights_bind(&w, flat, &c, &arena));
    c.kv_heads = 0;
    CHECK_ASSERTS(llm_transformer_weights_bind(&w, flat, &c, &arena));
}
