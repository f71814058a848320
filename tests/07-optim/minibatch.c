/* @minibatch */
#include "../test.h"

#include "../../llm.h"

/* Linear regression, mean of (x.w - y)^2 / 2, in the order of the rows. The step writes down what
 * it is called with. */
enum { MB_D = 5 };
typedef struct {
    float lr, *m, *v;
    size_t steps, first_t, last_t, rows[64];
} mb_context;

static double mb_loss(float *dw, const float *w, const float *x, const float *y, size_t B,
                      void *context) {
    mb_context *c = (mb_context *)context;
    double loss = 0.0;
    for (size_t i = 0; i < B; i++) {
        double e = -(double)y[i];
        for (size_t j = 0; j < MB_D; j++) e += (double)x[i * MB_D + j] * (double)w[j];
        loss += 0.5 * e * e / (double)B;
        for (size_t j = 0; j < MB_D; j++) dw[j] += (float)(e * (double)x[i * MB_D + j] / (double)B);
    }
    if (c->steps < 64) c->rows[c->steps] = B;
    return loss;
}
static void mb_step(float *w, const float *g, size_t params, size_t t, void *context) {
    mb_context *c = (mb_context *)context;
    if (c->steps++ == 0) c->first_t = t;
    c->last_t = t;
    if (c->m) {
        llm_adamw_config a = llm_adamw_defaults();
        a.lr = c->lr;
        llm_adamw_step(w, c->m, c->v, g, params, &a, t);
    } else {
        llm_gradient_descent_step(w, g, params, c->lr);
    }
}

typedef struct {
    float x[2048 * MB_D], y[2048];
} mb_data;
static mb_data *mb_world(size_t n, float noise, uint64_t seed) {
    mb_data *data = (mb_data *)test_memory(1, sizeof(mb_data));
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, data->x, n * MB_D);
    for (size_t i = 0; i < n; i++) {
        data->y[i] = noise * llm_rng_normal(&rng);
        for (size_t j = 0; j < MB_D; j++)
            data->y[i] += data->x[i * MB_D + j] * (1.0f - 0.5f * (float)j);
    }
    return data;
}
static llm_minibatch_model mb_model(mb_context *c, float lr) {
    const llm_minibatch_model m = {mb_loss, mb_step, c, MB_D, MB_D, 1};
    memset(c, 0, sizeof *c);
    c->lr = lr;
    return m;
}
static llm_epoch_state mb_at(size_t n, size_t batch, bool drop_last) {
    const llm_epoch_state s = {n, batch, drop_last, 7, 0, 0};
    return s;
}
static llm_arena mb_arena(void) {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 18));
    return arena;
}

TEST(minibatch,
     "batches of all are gradient descent, batches of one are SGD in the epoch's order") {
    enum { n = 13 };
    llm_arena arena = mb_arena();
    mb_data *data = mb_world(n, 0.5f, 1);
    mb_context c;
    llm_minibatch_model m = mb_model(&c, 0.1f);
    float w[MB_D] = {0.0f}, want[MB_D] = {0.0f}, log[30];
    llm_epoch_state at = mb_at(n, n, false);
    llm_minibatch_train(w, log, &at, &m, data->x, data->y, 30, &arena);
    CHECK(arena.used == 0 && c.steps == 30 && c.first_t == 1 && c.last_t == 30);
    for (size_t t = 0; t < 30; t++) {
        float g[MB_D] = {0.0f};
        CHECK_NEAR(log[t], mb_loss(g, want, data->x, data->y, n, &c), 1e-6);
        llm_gradient_descent_step(want, g, MB_D, 0.1f);
    }
    CHECK_ALL_NEAR(w, want, MB_D, 1e-6f); /* the rows are added in another order */

    memset(w, 0, sizeof w), memset(want, 0, sizeof want);
    m = mb_model(&c, 0.02f), at = mb_at(n, 1, false);
    llm_minibatch_train(w, NULL, &at, &m, data->x, data->y, 40, &arena);
    CHECK(at.epoch == 3 && at.step == 1 && c.last_t == 40);
    for (size_t t = 0; t < 40; t++) {
        float g[MB_D] = {0.0f};
        const size_t i = llm_sgd_pick(LLM_SGD_RESHUFFLE, t, n, 7);
        mb_loss(g, want, data->x + i * MB_D, data->y + i, 1, &c);
        llm_sgd_step(want, g, MB_D, 0.02f, 0.0f, false);
    }
    CHECK_ALL_NEAR(w, want, MB_D, 0.0f); /* bit for bit */
    llm_arena_destroy(&arena);
}

TEST(minibatch,
     "the last batch is short or left out; the mean loss weights batches by their rows") {
    enum { n = 11 };
    llm_arena arena = mb_arena();
    mb_data *data = mb_world(n, 0.5f, 2);
    mb_context c;
    llm_minibatch_model m = mb_model(&c, 0.0f); /* w stays 0: the mean is the whole loss */
    float w[MB_D] = {0.0f}, log[6], g[MB_D] = {0.0f};
    llm_epoch_state at = mb_at(n, 4, false);
    const double mean = llm_minibatch_train(w, log, &at, &m, data->x, data->y, 6, &arena);
    const size_t rows[6] = {4, 4, 3, 4, 4, 3};
    for (size_t k = 0; k < 6; k++) CHECK(c.rows[k] == rows[k]);
    CHECK_NEAR(mean, mb_loss(g, w, data->x, data->y, n, &c), 1e-6);
    CHECK(fabs((double)(log[0] + log[1] + log[2]) / 3.0 - mean) > 1e-3);

    m = mb_model(&c, 0.1f), at = mb_at(n, 4, true);
    llm_minibatch_train(w, log, &at, &m, data->x, data->y, 5, &arena);
    for (size_t k = 0; k < 5; k++) CHECK(c.rows[k] == 4);
    CHECK(c.last_t == 5 && at.epoch == 2);
    CHECK(llm_minibatch_train(w, NULL, &at, &m, data->x, data->y, 0, &arena) == 0.0);
    const double single = llm_minibatch_train(w, log, &at, &m, data->x, data->y, 1, &arena);
    CHECK_NEAR(single, log[0], 1e-6);
    at = mb_at(3, 4, true);
    CHECK_ASSERTS(llm_minibatch_train(w, NULL, &at, &m, data->x, data->y, 1, &arena));
    llm_arena_destroy(&arena);
}

/* Two outputs, each with weights of its own. */
static double mb_loss_two(float *dw, const float *w, const float *x, const float *y, size_t B,
                          void *context) {
    double loss = 0.0;
    for (size_t k = 0; k < 2; k++) {
        float column[64];
        for (size_t i = 0; i < B; i++) column[i] = y[2 * i + k];
        loss += mb_loss(dw + k * MB_D, w + k * MB_D, x, column, B, context);
    }
    return loss;
}

TEST(minibatch, "two outputs are two models on the same batches") {
    enum { n = 13 };
    llm_arena arena = mb_arena();
    mb_data *data = mb_world(n, 0.5f, 8), *other = mb_world(n, 0.5f, 9);
    float w[2 * MB_D] = {0.0f}, want[2 * MB_D] = {0.0f}, y[2 * n];
    for (size_t i = 0; i < n; i++) y[2 * i] = data->y[i], y[2 * i + 1] = other->y[i];
    mb_context c;
    llm_minibatch_model m = mb_model(&c, 0.1f);
    for (size_t k = 0; k < 2; k++) {
        llm_epoch_state at = mb_at(n, 4, false);
        llm_minibatch_train(want + k * MB_D, NULL, &at, &m, data->x, k ? other->y : data->y, 9,
                            &arena);
    }
    m.loss = mb_loss_two, m.params = 2 * MB_D, m.outputs = 2;
    llm_epoch_state at = mb_at(n, 4, false);
    llm_minibatch_train(w, NULL, &at, &m, data->x, y, 9, &arena);
    CHECK_ALL_NEAR(w, want, 2 * MB_D, 0.0f);
    llm_arena_destroy(&arena);
}

TEST(minibatch, "a run that is resumed equals one that was not, bit for bit, with AdamW's state") {
    enum { n = 29 };
    llm_arena arena = mb_arena();
    mb_data *data = mb_world(n, 0.5f, 3);
    float whole[MB_D] = {0.0f}, parts[MB_D] = {0.0f}, state[4 * MB_D] = {0.0f};
    mb_context c;
    llm_minibatch_model m = mb_model(&c, 0.05f);
    c.m = state, c.v = state + MB_D;
    llm_epoch_state at = mb_at(n, 6, false);
    llm_minibatch_train(whole, NULL, &at, &m, data->x, data->y, 33, &arena);
    m = mb_model(&c, 0.05f);
    c.m = state + 2 * MB_D, c.v = state + 3 * MB_D;
    at = mb_at(n, 6, false);
    const size_t cut[4] = {1, 4, 10, 18}; /* at the end of an epoch, too */
    for (size_t k = 0; k < 4; k++) {
        const llm_epoch_state stored = at;
        at = mb_at(0, 0, true);
        at = stored;
        llm_minibatch_train(parts, NULL, &at, &m, data->x, data->y, cut[k], &arena);
    }
    CHECK_ALL_NEAR(parts, whole, MB_D, 0.0f);
    CHECK(c.last_t == 33 && fabsf(whole[0]) > 0.1f);
    llm_arena_destroy(&arena);
}

TEST(minibatch, "with the rate in proportion, batches of 8, 32 and 128 learn alike per epoch") {
    enum { n = 2048 };
    llm_arena arena = mb_arena();
    for (uint64_t seed = 1; seed <= 3; seed++) {
        mb_data *data = mb_world(n, 0.3f, seed);
        double loss[4];
        for (size_t k = 0; k < 4; k++) {
            const size_t B = k == 3 ? n : (size_t)8 << 2 * k;
            float w[MB_D] = {0.0f}, g[MB_D];
            mb_context c;
            const llm_minibatch_model m =
                mb_model(&c, (float)llm_minibatch_rate(0.01, 8, B, 1.0)); /* 2/L is about 2 */
            llm_epoch_state at = mb_at(n, B, false);
            llm_minibatch_train(w, NULL, &at, &m, data->x, data->y, n / B, &arena);
            loss[k] = mb_loss(g, w, data->x, data->y, n, &c);
        }
        CHECK_NEAR(loss[1] / loss[0], 1.0, 0.1); /* 0.98 to 0.99 at seeds 1 to 3, the next 0.95 */
        CHECK_NEAR(loss[2] / loss[0], 1.0, 0.1);
        CHECK(loss[3] > 10.0 * loss[0]);
    }
    CHECK_NEAR(llm_minibatch_rate(0.1, 64, 1024, 0.5), 0.4, 1e-15);
    CHECK_NEAR(llm_minibatch_rate(0.1, 64, 16, 1.0), 0.025, 1e-15);
    llm_arena_destroy(&arena);
}

TEST(minibatch, "buckets: every row once, within the budget, and less padding for Zipf lengths") {
    enum { n = 4000 };
    llm_arena arena = mb_arena();
    size_t length[n], order[n], start[n + 1];
    llm_rng rng = llm_rng_seed(4);
    for (size_t i = 0; i < n; i++)
        length[i] = 1 + (size_t)(200.0f / (1.0f + 199.0f * llm_rng_uniform(&rng)));
    double waste[3];
    for (size_t k = 0; k < 3; k++) {
        const size_t pool = k == 0 ? 1 : k == 1 ? 400 : n;
        const size_t batches =
            llm_minibatch_bucket(order, start, length, n, 256, pool, 5, 2, &arena);
        bool seen[n] = {false};
        CHECK(start[0] == 0 && start[batches] == n && arena.used == 0);
        for (size_t b = 0; b < batches; b++) {
            size_t longest = 0, next = 0;
            CHECK(start[b + 1] > start[b]);
            for (size_t i = start[b]; i < start[b + 1]; i++) {
                CHECK(order[i] < n && !seen[order[i]]);
                seen[order[i]] = true;
                longest = length[order[i]] > longest ? length[order[i]] : longest;
                if (i > start[b] && i % pool != 0) CHECK(length[order[i]] >= length[order[i - 1]]);
            }
            CHECK(longest * (start[b + 1] - start[b]) <= 256);
            if (b + 1 == batches) continue; /* and the next one did not fit */
            next = length[order[start[b + 1]]] > longest ? length[order[start[b + 1]]] : longest;
            CHECK(next * (start[b + 1] - start[b] + 1) > 256);
        }
        waste[k] = llm_minibatch_padding(order, start, batches, length);
    }
    CHECK(waste[1] < 0.5 * waste[0] && waste[2] < waste[1]);

    size_t plain[n];
    llm_minibatch_bucket(order, start, length, n, 256, 1, 5, 2, &arena);
    llm_epoch_shuffle(plain, n, 5, 2);
    CHECK(memcmp(order, plain, sizeof plain) == 0); /* pools of one are the epoch's order */

    const size_t few[4] = {3, 9, 2, 4}; /* 9 is beyond the budget of 8; sorted: 2 3 | 4 | 9 */
    CHECK(llm_minibatch_bucket(order, start, few, 4, 8, 4, 1, 0, &arena) == 3);
    CHECK(order[0] == 2 && order[1] == 0 && order[2] == 3 && order[3] == 1);
    CHECK(start[1] == 2 && start[2] == 3 && start[3] == 4);
    CHECK_NEAR(llm_minibatch_padding(order, start, 3, few), 1.0 - 18.0 / 19.0, 1e-12);
    start[0] = 9;
    CHECK(llm_minibatch_bucket(order, start, few, 4, 9, 3, 1, 0, &arena) > 0 && start[0] == 0);
    for (size_t i = 0; i < 4; i++) CHECK(order[i] < 4); /* the second pool is one alone */
    CHECK(length[order[0]] > 0 && few[order[0]] <= few[order[1]] && few[order[1]] <= few[order[2]]);
    const size_t even[3] = {2, 2, 2}; /* two rows of 2 fill a budget of 4 exactly */
    CHECK(llm_minibatch_bucket(order, start, even, 3, 4, 1, 1, 0, &arena) == 2 && start[1] == 2);
    const size_t pairs[4] = {5, 1, 1, 5}; /* in either order the longer one counts */
    for (size_t k = 0; k < 4; k += 2)
        CHECK(llm_minibatch_bucket(order, start, pairs + k, 2, 6, 1, 1, 0, &arena) == 2);
    const size_t huge[2] = {9, 9}, none[3] = {0, 0, 0}; /* the first alone; rows without tokens */
    CHECK(llm_minibatch_bucket(order, start, huge, 2, 8, 1, 1, 0, &arena) == 2 && start[1] == 1);
    CHECK(llm_minibatch_bucket(order, start, none, 3, 2, 1, 1, 0, &arena) == 1 && start[1] == 3);
    CHECK(llm_minibatch_padding(order, start, 1, none) == 0.0);
    CHECK(llm_minibatch_bucket(order, start, huge, 1, 8, 1, 1, 0, &arena) == 1 && start[1] == 1);
    CHECK(llm_minibatch_bucket(order, start, few, 0, 8, 4, 1, 0, &arena) == 0);
    CHECK(llm_minibatch_padding(order, start, 0, few) == 0.0);
    CHECK_ASSERTS(llm_minibatch_bucket(order, start, few, 4, 8, 0, 1, 0, &arena));
    llm_arena_destroy(&arena);
}

TEST(minibatch, "local SGD: averaged at each step it is the big batch, and more seldom it drifts") {
    enum { n = 64 };
    mb_data *data = mb_world(n, 0.5f, 6);
    mb_context c;
    mb_model(&c, 0.0f);
    double off[2];
    for (size_t k = 0; k < 2; k++) {
        const size_t H = k == 0 ? 1 : 8;
        float w[2 * MB_D] = {0.0f}, big[MB_D] = {0.0f};
        for (size_t t = 0; t < 32; t++) { /* each worker sees its half of the rows, two at a time */
            float g[MB_D] = {0.0f}, both[4 * MB_D], y[4];
            for (size_t r = 0; r < 2; r++) {
                const size_t row = r * (n / 2) + t % 16 * 2;
                memcpy(both + r * 2 * MB_D, data->x + row * MB_D, 2 * MB_D * sizeof(float));
                memcpy(y + 2 * r, data->y + row, 2 * sizeof(float));
                float own[MB_D] = {0.0f};
                mb_loss(own, w + r * MB_D, data->x + row * MB_D, data->y + row, 2, &c);
                llm_gradient_descent_step(w + r * MB_D, own, MB_D, 0.05f);
            }
            mb_loss(g, big, both, y, 4, &c);
            llm_gradient_descent_step(big, g, MB_D, 0.05f);
            if ((t + 1) % H == 0) llm_minibatch_average(w, 2, MB_D);
        }
        for (size_t i = 0; i < MB_D; i++) CHECK(w[i] == w[MB_D + i]);
        off[k] = 0.0;
        for (size_t i = 0; i < MB_D; i++) off[k] += fabs((double)(w[i] - big[i]));
    }
    CHECK(off[0] < 2e-6 && off[1] > 1e-3);
    float three[6] = {1.0f, 2.0f, 3.0f, 5.0f, 8.0f, -1.0f}; /* of 3 workers with 2 weights */
    llm_minibatch_average(three, 3, 2);
    CHECK(three[0] == 4.0f && three[2] == 4.0f && three[4] == 4.0f && three[1] == 2.0f);
    CHECK(three[3] == 2.0f && three[5] == 2.0f);
    llm_minibatch_average(three, 1, 6); /* one alone stays as it is */
    CHECK(three[0] == 4.0f && three[1] == 2.0f && three[5] == 2.0f);
    CHECK_ASSERTS(llm_minibatch_average(three, 0, 2));
}
