/* @llama_attend */
#include "../test.h"

#include "../../llm.h"

enum { FIRST = 5, APART = 3 }; /* numbers in front of a head, and between rows */

/* A head with random keys and values: NaN in front of them and between, nothing behind. */
static llm_llama_attend_head la_head(size_t n, size_t past, size_t window, size_t D, bool half,
                                     llm_rng *rng) {
    llm_llama_attend_head h;
    const size_t step = D + APART, size = FIRST + (past + n - 1) * step + D;
    llm_llama_cache *cache[2];
    memset(&h, 0, sizeof h);
    h.first = FIRST, h.step = step, h.D = D, h.past = past, h.n = n;
    h.window = window > 0 ? window : past + n;
    h.scale = 1.0f / sqrtf((float)D);
    cache[0] = &h.keys, cache[1] = &h.values;
    for (size_t c = 0; c < 2; c++) {
        float *row = floats(D);
        if (half)
            cache[c]->half = (uint16_t *)test_memory(size, sizeof(uint16_t));
        else
            cache[c]->wide = floats(size);
        for (size_t i = 0; half && i < size; i++) cache[c]->half[i] = 0x7fc0; /* NaN */
        for (size_t j = 0; j < past + n; j++) {
            llm_rng_normal_fill(rng, row, D);
            llm_llama_cache_write(cache[c], FIRST + j * step, row, D);
        }
    }
    return h;
}

/* n rows with NaN between them. */
static float *la_queries(const llm_llama_attend_head *h, llm_rng *rng) {
    float *q = floats((h->n - 1) * (h->D + APART) + h->D);
    for (size_t i = 0; i < h->n; i++) llm_rng_normal_fill(rng, q + i * (h->D + APART), h->D);
    return q;
}

static bool la_sees(const llm_llama_attend_head *h, size_t i, size_t j) {
    return j <= h->past + i && j + h->window > h->past + i;
}

/* Row i by the definition, in doubles. */
static void la_want(double *want, const float *q, const llm_llama_attend_head *h, size_t i) {
    double *s = (double *)test_memory(h->past + h->n, sizeof(double)), sum = 0.0, most = -INFINITY;
    float *row = floats(h->D);
    for (size_t j = 0; j < h->past + h->n; j++) {
        if (!la_sees(h, i, j)) continue;
        const float *k = llm_llama_cache_read(row, &h->keys, h->first + j * h->step, h->D);
        s[j] = (double)h->scale * dot(q + i * (h->D + APART), k, h->D);
        if (h->cap > 0.0f) s[j] = (double)h->cap * tanh(s[j] / (double)h->cap);
        most = fmax(most, s[j]);
    }
    for (size_t d = 0; d < h->D; d++) want[d] = 0.0;
    for (size_t j = 0; j < h->past + h->n; j++) {
        if (!la_sees(h, i, j)) continue;
        const float *v = llm_llama_cache_read(row, &h->values, h->first + j * h->step, h->D);
        const double p = exp(s[j] - most);
        sum += p;
        for (size_t d = 0; d < h->D; d++) want[d] += p * (double)v[d];
    }
    for (size_t d = 0; d < h->D; d++) want[d] /= sum;
    free(s), free(row);
}

/* out (n rows, as q's) <- key by key, or in tiles; what stands between the rows stays. */
static float *la_run(const float *q, const llm_llama_attend_head *h, bool many) {
    const size_t ld = h->D + APART;
    float *out = floats((h->n - 1) * ld + h->D);
    for (size_t i = 0; i < (h->n - 1) * ld + h->D; i++) out[i] = i % ld < h->D ? NAN : 7.0f;
    if (many)
        llm_llama_attend_many(out, q, ld, h);
    else
        llm_llama_attend_few(out, floats(h->past + h->n), floats(h->D), q, ld, h);
    for (size_t i = 0; i < (h->n - 1) * ld + h->D; i++) CHECK(i % ld < h->D || out[i] == 7.0f);
    return out;
}

static void la_check(const float *out, const float *q, const llm_llama_attend_head *h) {
    double *want = (double *)test_memory(h->D, sizeof(double));
    for (size_t i = 0; i < h->n; i++) {
        la_want(want, q, h, i);
        for (size_t d = 0; d < h->D; d++) CHECK_NEAR(out[i * (h->D + APART) + d], want[d], 2e-5);
    }
    free(want);
}

TEST(llama_attend, "key by key and in tiles it is the definition: any number of queries, texts in "
                   "front, windows, caps, 16 bits, heads wider than a tile is deep") {
    static const struct {
        size_t n, past, window, D;
        float cap;
        bool half;
    } shape[] = {
        {1, 0, 0, 1, 0.0f, false},       {1, 0, 1, 3, 0.0f, true},
        {2, 5, 3, 3, 0.5f, false},       {7, 0, 0, 4, 0.0f, false},
        {7, 63, 0, 5, 0.0f, true},       {8, 64, 1, 16, 0.0f, false},
        {17, 1, 16, 65, 0.5f, false},    {33, 200, 64, 2, 0.0f, true},
        {66, 65, 65, 31, 0.0f, true},    {70, 3, 1000, 1, 0.0f, false},
        {130, 30, 100, 48, 2.0f, false}, {257, 0, 0, 3, 0.0f, false},
        {300, 129, 90, 8, 0.0f, true},   {9, 10, 0, 300, 0.0f, false},
        {20, 70, 30, 257, 0.0f, true},   {519, 10, 200, 2, 0.0f, false},
        {64, 128, 64, 6, 0.0f, false},   {15, 0, 0, 4, 0.0f, false},
        {9, 4, 0, 128, 0.0f, false},     {9, 4, 0, 256, 0.0f, true},
    };
    llm_rng rng = llm_rng_seed(1);
    for (size_t k = 0; k < sizeof shape / sizeof *shape; k++) {
        llm_llama_attend_head h =
            la_head(shape[k].n, shape[k].past, shape[k].window, shape[k].D, shape[k].half, &rng);
        h.cap = shape[k].cap;
        const float *q = la_queries(&h, &rng);
        la_check(la_run(q, &h, false), q, &h);
        la_check(la_run(q, &h, true), q, &h);
    }
}

TEST(llama_attend, "a row's bits are the same whichever pass it came with") {
    enum { N = 150, PAST = 21, D = 9, LD = D + APART };
    for (size_t windowed = 0; windowed < 2; windowed++) {
        llm_rng rng = llm_rng_seed(2);
        const llm_llama_attend_head h = la_head(N, PAST, windowed ? 45 : 0, D, windowed == 1, &rng);
        const float *q = la_queries(&h, &rng), *all = la_run(q, &h, true);
        for (size_t at = 0, n = 1; at < N; at += n, n = n * 3 % 41) {
            llm_llama_attend_head part = h;
            part.past = PAST + at, part.n = n < N - at ? n : N - at;
            const float *out = la_run(q + at * LD, &part, true);
            for (size_t i = 0; i < part.n; i++)
                CHECK(memcmp(out + i * LD, all + (at + i) * LD, D * sizeof(float)) == 0);
        }
    }
}

TEST(llama_attend, "a NaN reaches the queries that see it and no other") {
    enum { N = 90, PAST = 20, D = 4, LD = D + APART };
    for (size_t windowed = 0; windowed < 2; windowed++) {
        llm_rng rng = llm_rng_seed(3);
        const llm_llama_attend_head h = la_head(N, PAST, windowed ? 37 : 0, D, false, &rng);
        const float *q = la_queries(&h, &rng);
        for (size_t many = 0; many < 2; many++) {
            const float *plain = la_run(q, &h, many == 1);
            for (size_t t = 0; t < 2 * (PAST + N); t++) {
                const size_t j = t / 2;
                float *bad = (t % 2 ? h.keys : h.values).wide + h.first + j * h.step + t % D;
                const float kept = *bad;
                *bad = NAN;
                float *out = la_run(q, &h, many == 1);
                for (size_t i = 0; i < N; i++) {
                    if (la_sees(&h, i, j))
                        CHECK(isnan(out[i * LD + t % D]));
                    else
                        CHECK(memcmp(out + i * LD, plain + i * LD, D * sizeof(float)) == 0);
                }
                free(out);
                *bad = kept;
            }
        }
    }
}

TEST(llama_attend, "scores of thousands, rising and falling, and keys that are infinitely far") {
    enum { N = 70, PAST = 130, D = 2, LD = D + APART };
    llm_rng rng = llm_rng_seed(4);
    llm_llama_attend_head h = la_head(N, PAST, 0, D, false, &rng);
    float *q = la_queries(&h, &rng);
    h.scale = 1.0f;
    for (size_t i = 0; i < N; i++) q[i * LD] = i % 2 ? 32.0f : -32.0f, q[i * LD + 1] = 0.0f;
    for (size_t j = 0; j < PAST + N; j++) /* exact products: multiples of 1/4 up to 1600 */
        h.keys.wide[h.first + j * h.step] = (float)j / 4.0f;
    for (size_t many = 0; many < 2; many++) la_check(la_run(q, &h, many == 1), q, &h);
    for (size_t j = 0; j < 70; j++) h.keys.wide[h.first + j * h.step] = -FLT_MAX;
    for (size_t i = 0; i < N; i++) q[i * LD] = 32.0f / 1024.0f * (float)(i + 1) + 2.0f;
    for (size_t many = 0; many < 2; many++) { /* -inf: the first tile has nothing else */
        const float *out = la_run(q, &h, many == 1);
        llm_llama_attend_head rest = h; /* the same without these keys */
        rest.first += 70 * h.step, rest.past -= 70;
        rest.window = rest.past + N;
        la_check(out, q, &rest);
    }
    for (size_t j = 70; j < PAST + N; j++) h.keys.wide[h.first + j * h.step] = -FLT_MAX;
    for (size_t many = 0; many < 2; many++) { /* all of them: there are no weights */
        const float *out = la_run(q, &h, many == 1);
        for (size_t i = 0; i < N * LD - APART; i++) CHECK(i % LD >= D || isnan(out[i]));
    }
}
