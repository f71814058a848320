/* @mha */
#include "../test.h"

#include "../../llm.h"

static const size_t MHA_SCRATCH = 1 << 20;

static size_t mha_bytes(size_t n) { return (n * sizeof(float) + 63) / 64 * 64; } /* in an arena */

/* Parameters of a layer, or gradients: NaN or zeros. */
static llm_mha_params mha_params(const llm_mha_config *c, bool bias, float *(*make)(size_t)) {
    llm_mha_params p;
    const size_t HD = c->H * c->D;
    p.wq = make(HD * c->C), p.wk = make(HD * c->Ck), p.wv = make(HD * c->Cv);
    p.wo = make(c->C * HD);
    p.bq = bias ? make(HD) : NULL, p.bk = bias ? make(HD) : NULL, p.bv = bias ? make(HD) : NULL;
    p.bo = bias ? make(c->C) : NULL;
    return p;
}

static void mha_normal(llm_mha_params *p, const llm_mha_config *c, llm_rng *rng) {
    const size_t HD = c->H * c->D;
    llm_rng_normal_fill(rng, p->wq, HD * c->C);
    llm_rng_normal_fill(rng, p->wk, HD * c->Ck);
    llm_rng_normal_fill(rng, p->wv, HD * c->Cv);
    llm_rng_normal_fill(rng, p->wo, c->C * HD);
    if (!p->bq) return;
    llm_rng_normal_fill(rng, p->bq, HD);
    llm_rng_normal_fill(rng, p->bk, HD);
    llm_rng_normal_fill(rng, p->bv, HD);
    llm_rng_normal_fill(rng, p->bo, c->C);
}

TEST(mha,
     "equals torch.nn.MultiheadAttention: self and cross, both masks, weights, all gradients") {
    const struct {
        const char *name;
        size_t B, T, S, C, Ck, Cv, H;
        bool bias, padding, blocking;
    } cases[4] = {{"self", 2, 4, 4, 6, 6, 6, 2, true, true, true},
                  {"cross", 2, 3, 5, 6, 5, 4, 3, true, true, false},
                  {"plain", 1, 5, 2, 4, 4, 4, 1, false, false, false},
                  {"one", 1, 1, 1, 2, 2, 2, 2, true, false, true}};
    for (size_t i = 0; i < 4; i++) {
        const char *name = cases[i].name;
        llm_mha_config c = llm_mha_defaults(cases[i].B, cases[i].T, cases[i].C, cases[i].H);
        c.S = cases[i].S, c.Ck = cases[i].Ck, c.Cv = cases[i].Cv;
        const size_t HD = c.H * c.D, nx = c.B * c.T * c.C, na = c.B * c.H * c.T * c.S;
        const size_t nk = c.B * c.S * c.Ck, nv = c.B * c.S * c.Cv;
        llm_mha_params p;
        p.wq = golden("%s/wq", name), p.wk = golden("%s/wk", name);
        p.wv = golden("%s/wv", name), p.wo = golden("%s/wo", name);
        p.bq = cases[i].bias ? golden("%s/b", name) : NULL; /* torch keeps the three in a row */
        p.bk = cases[i].bias ? p.bq + HD : NULL;
        p.bv = cases[i].bias ? p.bk + HD : NULL;
        p.bo = cases[i].bias ? golden("%s/bo", name) : NULL;
        llm_mha_params g = mha_params(&c, false, zeros);
        float *db = zeros(3 * HD), *dbo = zeros(c.C), *y = floats(nx), *dx = zeros(nx);
        if (cases[i].bias) g.bq = db, g.bk = db + HD, g.bv = db + 2 * HD, g.bo = dbo;
        const bool self = i == 0;
        const float *x = golden("%s/x", name), *dy = golden("%s/dy", name);
        const float *key = self ? x : golden("%s/key", name);
        const float *value = self ? x : golden("%s/value", name);
        float *dkey = self ? dx : zeros(nk), *dvalue = self ? dx : zeros(nv);
        bool *hidden = as_bools(golden("%s/hidden", name), c.B * c.S);
        bool *blocked = as_bools(golden("%s/blocked", name), c.T * c.S);
        llm_arena arena;
        CHECK(llm_arena_create(&arena, MHA_SCRATCH));
        llm_mha_saved s = llm_mha_take(&c, &arena);
        CHECK(!s.x && !s.key && !s.value);
        const size_t mark = arena.used;

        llm_mha_forward(y, &s, x, key, value, &p, cases[i].padding ? hidden : NULL,
                        cases[i].blocking ? blocked : NULL, &c, &arena);
        CHECK_GOLDEN(y, nx, 2e-6f, "%s/y", name); /* sums of up to 6 products of size 3 */
        CHECK_GOLDEN(s.att, na, 2e-6f, "%s/att", name);
        const size_t project = mha_bytes(c.B * (c.T > c.S ? c.T : c.S) * HD);
        const size_t heads = mha_bytes(c.B * c.T * HD);
        CHECK(arena.peak - mark == (project > heads ? project : heads)); /* as its comment says */
        llm_mha_backward(dx, dkey, dvalue, &g, dy, &s, &p, &c, &arena);
        CHECK_GOLDEN(dx, nx, 1e-5f, "%s/dx", name);
        if (!self) CHECK_GOLDEN(dkey, nk, 1e-5f, "%s/dkey", name);
        if (!self) CHECK_GOLDEN(dvalue, nv, 1e-5f, "%s/dvalue", name);
        CHECK_GOLDEN(g.wq, HD * c.C, 1e-5f, "%s/dwq", name);
        CHECK_GOLDEN(g.wk, HD * c.Ck, 1e-5f, "%s/dwk", name);
        CHECK_GOLDEN(g.wv, HD * c.Cv, 1e-5f, "%s/dwv", name);
        CHECK_GOLDEN(g.wo, c.C * HD, 1e-5f, "%s/dwo", name);
        if (cases[i].bias) CHECK_GOLDEN(db, 3 * HD, 1e-5f, "%s/db", name);
        if (cases[i].bias) CHECK_GOLDEN(dbo, c.C, 1e-5f, "%s/dbo", name);
        CHECK(arena.used == mark);
        CHECK(arena.peak - mark ==
              mha_bytes(c.B * (3 * c.T + 2 * c.S) * HD) + mha_bytes(na) + project);
        llm_arena_destroy(&arena);
    }
}

/* The layer in doubles, without blocks: sum of y dy for a mask of factors keep (B,H,T,S). */
static double mha_plain(const float *x, const float *key, const float *value,
                        const llm_mha_params *p, const bool *hidden, const float *keep,
                        const float *dy, const llm_mha_config *c) {
    const size_t H = c->H, D = c->D, T = c->T, S = c->S;
    double *att = doubles(S), *head = doubles(H * D), loss = 0.0;
    for (size_t b = 0; b < c->B; b++)
        for (size_t i = 0; i < T; i++) {
            for (size_t h = 0; h < H; h++) {
                double total = 0.0;
                for (size_t d = 0; d < D; d++) head[h * D + d] = 0.0;
                for (size_t j = 0; j < S; j++) {
                    double score = 0.0;
                    for (size_t d = h * D; d < (h + 1) * D; d++)
                        score += (dot(p->wq + d * c->C, x + (b * T + i) * c->C, c->C) +
                                  (double)p->bq[d]) *
                                 (dot(p->wk + d * c->Ck, key + (b * S + j) * c->Ck, c->Ck) +
                                  (double)p->bk[d]);
                    att[j] = hidden[b * S + j] ? 0.0 : exp(score / sqrt((double)D));
                    total += att[j];
                }
                for (size_t j = 0; j < S; j++)
                    for (size_t d = h * D; d < (h + 1) * D; d++)
                        head[d] += att[j] / total * (double)keep[((b * H + h) * T + i) * S + j] *
                                   (dot(p->wv + d * c->Cv, value + (b * S + j) * c->Cv, c->Cv) +
                                    (double)p->bv[d]);
            }
            for (size_t n = 0; n < c->C; n++) {
                double y = (double)p->bo[n];
                for (size_t d = 0; d < H * D; d++) y += (double)p->wo[n * H * D + d] * head[d];
                loss += y * (double)dy[(b * T + i) * c->C + n];
            }
        }
    return loss;
}

TEST(mha, "with dropout and D unlike C/H: forward and every gradient equal the plain double loss") {
    llm_mha_config c = llm_mha_defaults(2, 3, 4, 2);
    c.S = 4, c.Ck = 3, c.Cv = 2, c.D = 3;
    c.dropout = 0.3f, c.seed = 11, c.offset = 5;
    const size_t HD = c.H * c.D, nx = c.B * c.T * c.C, nk = c.B * c.S * c.Ck, nv = c.B * c.S * c.Cv;
    const size_t na = c.B * c.H * c.T * c.S;
    llm_rng rng = llm_rng_seed(1);
    llm_mha_params p = mha_params(&c, true, floats), g = mha_params(&c, true, zeros);
    mha_normal(&p, &c, &rng);
    float *x = floats(nx), *key = floats(nk), *value = floats(nv), *dy = floats(nx),
          *y = floats(nx);
    float *dx = zeros(nx), *dkey = zeros(nk), *dvalue = zeros(nv), *keep = floats(na);
    llm_rng_normal_fill(&rng, x, nx);
    llm_rng_normal_fill(&rng, key, nk);
    llm_rng_normal_fill(&rng, value, nv);
    llm_rng_normal_fill(&rng, dy, nx);
    const bool hidden[8] = {false, true, false, false, false, false, false, true};
    size_t dropped = 0;
    for (size_t i = 0; i < na; i++) {
        keep[i] = llm_dropout_scale(0.3f, 11, 5 + i);
        dropped += keep[i] == 0.0f;
    }
    CHECK(dropped > 5 && dropped < na - 5);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, MHA_SCRATCH));
    llm_mha_saved s = llm_mha_take(&c, &arena);
    llm_mha_forward(y, &s, x, key, value, &p, hidden, NULL, &c, &arena);
    llm_mha_backward(dx, dkey, dvalue, &g, dy, &s, &p, &c, &arena);
#define LOSS mha_plain(x, key, value, &p, hidden, keep, dy, &c)
    CHECK_NEAR(dot(y, dy, nx), LOSS, 2e-5);
    CHECK_GRAD(dx, x, nx, 1e-3f, 1e-4f, LOSS); /* curvature times step^2 */
    CHECK_GRAD(dkey, key, nk, 1e-3f, 1e-4f, LOSS);
    CHECK_GRAD(dvalue, value, nv, 1e-3f, 1e-4f, LOSS);
    CHECK_GRAD(g.wq, p.wq, HD * c.C, 1e-3f, 1e-4f, LOSS);
    CHECK_GRAD(g.wk, p.wk, HD * c.Ck, 1e-3f, 1e-4f, LOSS);
    CHECK_GRAD(g.wv, p.wv, HD * c.Cv, 1e-3f, 1e-4f, LOSS);
    CHECK_GRAD(g.wo, p.wo, c.C * HD, 1e-3f, 1e-4f, LOSS);
    CHECK_GRAD(g.bq, p.bq, HD, 1e-3f, 1e-4f, LOSS);
    CHECK_GRAD(g.bk, p.bk, HD, 1e-3f, 1e-4f, LOSS);
    CHECK_GRAD(g.bv, p.bv, HD, 1e-3f, 1e-4f, LOSS);
    CHECK_GRAD(g.bo, p.bo, c.C, 1e-3f, 1e-4f, LOSS);
    for (size_t i = 0; i < c.Ck; i++) /* hidden keys get no gradient at all */
        CHECK(dkey[c.Ck + i] == 0.0f && dkey[7 * c.Ck + i] == 0.0f && dkey[i] != 0.0f);

    /* again, without the gradients that nobody wants: the others double */
    llm_mha_params none = mha_params(&c, false, zeros);
    float *want = floats(HD * c.C);
    for (size_t i = 0; i < HD * c.C; i++) want[i] = 2.0f * g.wq[i];
    none.wq = g.wq;
    none.wk = none.wv = none.wo = NULL;
    llm_mha_backward(NULL, NULL, NULL, &none, dy, &s, &p, &c, &arena);
    CHECK_ALL_NEAR(g.wq, want, HD * c.C, 1e-6f);
    llm_arena_destroy(&arena);
}

TEST(mha, "many positions equal the plain double loss; masked keys are without influence") {
    llm_mha_config c = llm_mha_defaults(1, 67, 4, 2);
    c.S = 130;
    const size_t nx = c.T * c.C, nk = c.S * c.C;
    llm_rng rng = llm_rng_seed(2);
    llm_mha_params p = mha_params(&c, true, floats), g = mha_params(&c, false, zeros);
    mha_normal(&p, &c, &rng);
    float *x = floats(nx), *key = floats(nk), *dy = floats(nx), *y = floats(nx), *y2 = floats(nx);
    float *dkey = zeros(nk), *keep = floats(c.H * c.T * c.S);
    llm_rng_normal_fill(&rng, x, nx);
    llm_rng_normal_fill(&rng, key, nk);
    llm_rng_normal_fill(&rng, dy, nx);
    for (size_t i = 0; i < c.H * c.T * c.S; i++) keep[i] = 1.0f;
    bool *hidden = bools(c.S), *blocked = bools(c.T * c.S);
    for (size_t j = 0; j < c.S; j++) hidden[j] = j % 7 == 3;
    llm_arena arena;
    CHECK(llm_arena_create(&arena, MHA_SCRATCH));
    llm_mha_saved s = llm_mha_take(&c, &arena);
    llm_mha_forward(y, &s, x, key, key, &p, hidden, NULL, &c, &arena);
    CHECK_NEAR(dot(y, dy, nx), mha_plain(x, key, key, &p, hidden, keep, dy, &c), 2e-4);
    llm_mha_backward(NULL, dkey, dkey, &g, dy, &s, &p, &c, &arena);
    CHECK_GRAD(dkey, key, 12, 1e-3f, 3e-4f, mha_plain(x, key, key, &p, hidden, keep, dy, &c));
    for (size_t d = 0; d < c.C; d++) CHECK(dkey[3 * c.C + d] == 0.0f);

    for (size_t j = 0; j < c.S; j++) /* the other mask says the same */
        for (size_t i = 0; i < c.T; i++) blocked[i * c.S + j] = hidden[j];
    for (size_t d = 0; d < c.C; d++) key[3 * c.C + d] = 1e6f;
    llm_mha_forward(y2, &s, x, key, key, &p, NULL, blocked, &c, &arena);
    CHECK_ALL_NEAR(y2, y, nx, 0.0f);

    for (size_t i = 0; i < nx; i++)
        x[i] *= 1e4f; /* scores in the thousands: one key wins, no NaN */
    llm_mha_forward(y2, &s, x, key, key, &p, hidden, NULL, &c, &arena);
    for (size_t i = 0; i < nx; i++) CHECK(isfinite(y2[i]));
    CHECK_NEAR(llm_logsumexp_max(s.att, c.S), 1.0, 1e-6);
    for (size_t i = 0; i < nx; i++) x[i] /= 1e4f;
    llm_mha_forward(y, &s, x, key, key, &p, hidden, NULL, &c, &arena);

    /* nothing to see: y is the bias, and no gradient flows */
    for (size_t j = 0; j < c.S; j++) blocked[5 * c.S + j] = true;
    llm_mha_forward(y2, &s, x, key, key, &p, NULL, blocked, &c, &arena);
    CHECK_ALL_NEAR(y2 + 5 * c.C, p.bo, c.C, 0.0f);
    CHECK_ALL_NEAR(y2, y, 5 * c.C, 0.0f);
    float *dx = zeros(nx);
    float *att = floats(c.B * c.H * c.T * c.S); /* is read, and not touched */
    memcpy(att, s.att, c.B * c.H * c.T * c.S * sizeof(float));
    llm_mha_backward(dx, NULL, NULL, &g, dy, &s, &p, &c, &arena);
    CHECK(memcmp(att, s.att, c.B * c.H * c.T * c.S * sizeof(float)) == 0);
    CHECK_ALL_NEAR(dx + 5 * c.C, zeros(c.C), c.C, 0.0f);
    CHECK(dx[4 * c.C] != 0.0f);
    llm_arena_destroy(&arena);

    c = llm_mha_defaults(2, 3, 6, 2);
    CHECK(c.B == 2 && c.T == 3 && c.S == 3 && c.C == 6 && c.Ck == 6 && c.Cv == 6 && c.H == 2);
    CHECK(c.D == 3 && c.dropout == 0.0f && c.seed == 0 && c.offset == 0);
    CHECK_ASSERTS(llm_mha_defaults(1, 1, 5, 2));
    CHECK_ASSERTS(llm_mha_defaults(1, 1, 5, 0));
}

TEST(mha, "pruned heads are heads whose columns of W_O are zero, and the order of heads is free") {
    llm_mha_config c = llm_mha_defaults(2, 5, 6, 3);
    c.Ck = 4, c.Cv = 5;
    const size_t HD = c.H * c.D, nx = c.B * c.T * c.C;
    llm_rng rng = llm_rng_seed(3);
    llm_mha_params p = mha_params(&c, true, floats), small = mha_params(&c, true, floats);
    mha_normal(&p, &c, &rng);
    float *x = floats(nx), *key = floats(c.B * c.S * 4), *value = floats(c.B * c.S * 5);
    float *y = floats(nx), *want = floats(nx);
    llm_rng_normal_fill(&rng, x, nx);
    llm_rng_normal_fill(&rng, key, c.B * c.S * 4);
    llm_rng_normal_fill(&rng, value, c.B * c.S * 5);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, MHA_SCRATCH));
    llm_mha_saved s = llm_mha_take(&c, &arena);

    const bool keep[3] = {true, false, true}, first[3] = {true, false, false};
    llm_mha_config less = c;
    less.H = llm_mha_prune(&small, &p, keep, &c);
    CHECK(less.H == 2);
    small.bo = p.bo;
    llm_mha_forward(y, &s, x, key, value, &small, NULL, NULL, &less, &arena);
    for (size_t i = 0; i < c.C * HD; i++)
        if (i % HD / c.D == 1) p.wo[i] = 0.0f;
    llm_mha_forward(want, &s, x, key, value, &p, NULL, NULL, &c, &arena);
    CHECK_ALL_NEAR(y, want, nx, 1e-5f);

    /* in place, and without biases */
    llm_mha_params bare = p;
    bare.bq = bare.bk = bare.bv = bare.bo = NULL;
    for (size_t i = 0; i < c.C * HD; i++)
        if (i % HD / c.D != 0) p.wo[i] = 0.0f;
    llm_mha_forward(want, &s, x, key, value, &bare, NULL, NULL, &c, &arena);
    less.H = llm_mha_prune(&bare, &bare, first, &c);
    CHECK(less.H == 1);
    llm_mha_forward(y, &s, x, key, value, &bare, NULL, NULL, &less, &arena);
    CHECK_ALL_NEAR(y, want, nx, 1e-5f);

    /* swap heads 0 and 2 everywhere */
    llm_mha_params turned = mha_params(&c, true, floats);
    mha_normal(&p, &c, &rng);
    turned.bo = p.bo;
    for (size_t d = 0; d < HD; d++) {
        const size_t from = (2 - d / c.D) * c.D + d % c.D;
        memcpy(turned.wq + d * c.C, p.wq + from * c.C, c.C * sizeof(float));
        memcpy(turned.wk + d * c.Ck, p.wk + from * c.Ck, c.Ck * sizeof(float));
        memcpy(turned.wv + d * c.Cv, p.wv + from * c.Cv, c.Cv * sizeof(float));
        turned.bq[d] = p.bq[from], turned.bk[d] = p.bk[from], turned.bv[d] = p.bv[from];
        for (size_t i = 0; i < c.C; i++) turned.wo[i * HD + d] = p.wo[i * HD + from];
    }
    llm_mha_forward(want, &s, x, key, value, &p, NULL, NULL, &c, &arena);
    llm_mha_forward(y, &s, x, key, value, &turned, NULL, NULL, &c, &arena);
    CHECK_ALL_NEAR(y, want, nx, 2e-5f);
    llm_arena_destroy(&arena);
}

/* Trains one layer of H heads to say the last token and the one before it, and returns the loss
 * in nats: the mean over both answers of the last steps. Queries and keys are one-hot positions
 * and values one-hot tokens, so that a head reads at offsets, whatever stands there. y is the
 * logits. */
static double mha_copy_two(size_t H, uint64_t seed) {
    enum { V = 4, T = 8, C = 8, B = 8, STEPS = 300, LAST = 50 };
    llm_mha_config c = llm_mha_defaults(B, T, C, H);
    c.Cv = V;
    const size_t n = 3 * C * C + C * V, nx = B * T * C;
    float *w = floats(n), *gw = zeros(n), *m = zeros(n), *v = zeros(n);
    llm_mha_params p, g;
    p.bq = p.bk = p.bv = p.bo = g.bq = g.bk = g.bv = g.bo = NULL;
    p.wq = w, p.wk = w + C * C, p.wo = w + 2 * C * C, p.wv = w + 3 * C * C;
    g.wq = gw, g.wk = gw + C * C, g.wo = gw + 2 * C * C, g.wv = gw + 3 * C * C;
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, w, n);
    for (size_t i = 0; i < n; i++) w[i] *= 0.3f;
    bool blocked[T * T];
    for (size_t i = 0; i < T * T; i++) blocked[i] = i % T > i / T;
    float *x = zeros(nx), *tokens = floats(B * T * V), *y = floats(nx), *dy = floats(nx);
    for (size_t i = 0; i < B * T; i++) x[i * C + i % T] = 1.0f;
    llm_adamw_config adamw = llm_adamw_defaults();
    adamw.lr = 0.03f, adamw.weight_decay = 0.0f;
    llm_arena arena;
    CHECK(llm_arena_create(&arena, MHA_SCRATCH));
    llm_mha_saved s = llm_mha_take(&c, &arena);
    double sum = 0.0;
    for (size_t step = 1; step <= STEPS; step++) {
        size_t token[B * T];
        for (size_t i = 0; i < nx; i++) dy[i] = 0.0f;
        for (size_t i = 0; i < B * T; i++) {
            token[i] = llm_rng_below(&rng, V);
            for (size_t k = 0; k < V; k++) tokens[i * V + k] = k == token[i] ? 1.0f : 0.0f;
        }
        llm_mha_forward(y, &s, x, x, tokens, &p, NULL, blocked, &c, &arena);
        double loss = 0.0;
        const float share = 1.0f / (float)(B * (T - 2) * 2);
        for (size_t i = 0; i < B * T; i++)
            for (size_t back = 1; back <= 2 && i % T >= 2; back++) {
                float prob[V], *dz = dy + i * C + (back - 1) * V;
                llm_softmax_forward(prob, y + i * C + (back - 1) * V, 1, V, 1.0f);
                loss -= log((double)prob[token[i - back]]) * (double)share;
                for (size_t k = 0; k < V; k++) dz[k] = share * prob[k];
                dz[token[i - back]] -= share;
            }
        if (step > STEPS - LAST) sum += loss / LAST;
        for (size_t i = 0; i < n; i++) gw[i] = 0.0f;
        llm_mha_backward(NULL, NULL, NULL, &g, dy, &s, &p, &c, &arena);
        llm_adamw_step(w, m, v, gw, n, &adamw, step);
    }
    llm_arena_destroy(&arena);
    return sum;
}

TEST(mha, "two heads copy two tokens, which one head of the same size cannot") {
    for (uint64_t seed = 1; seed <= 2; seed++) {
        const double one = mha_copy_two(1, seed), two = mha_copy_two(2, seed);
        CHECK(one - two >
              0.19); /* 0.395 to 0.427 over seeds 11 to 18, and after 2500 steps alike */
    }
}
