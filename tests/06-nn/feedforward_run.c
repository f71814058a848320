/* @feedforward_run */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

/* A kind for these tests, dropout as a layer: config const float *, p; saves whether it dropped. */
static bool fr_drop_shape(llm_feedforward_shape *out, const llm_feedforward_shape *in,
                          size_t inputs, const void *config) {
    (void)config;
    *out = in[0];
    return inputs == 1;
}
static float fr_drop_p(const llm_feedforward_call *c) {
    return c->run->train ? *(const float *)c->node->config : 0.0f;
}
static void fr_drop_forward(const llm_feedforward_call *c) {
    llm_dropout_forward(c->y, c->x[0], c->run->N * llm_feedforward_size(c->node->out), fr_drop_p(c),
                        c->run->seed, c->node->index * 1000);
}
static void fr_drop_backward(const llm_feedforward_call *c) {
    if (!c->dx[0]) return;
    llm_dropout_backward(c->dx[0], c->dy, c->run->N * llm_feedforward_size(c->node->out),
                         fr_drop_p(c), c->run->seed, c->node->index * 1000);
}
static const llm_feedforward_kind fr_drop = {"dropout",       fr_drop_shape,   NULL, NULL, NULL,
                                             fr_drop_forward, fr_drop_backward};

/* Another: y = g (x - mean of x over the batch), with a weight g, a buffer that counts the batches
 * and one that holds the last mean; keeps the mean and N + 1 further floats. Vectors of one. */
static bool fr_centre_tensor(llm_feedforward_tensor *t, size_t k,
                             const llm_feedforward_node *node) {
    (void)node;
    snprintf(t->name, sizeof t->name, "%s", k == 0 ? "weight" : k == 1 ? "batches" : "mean");
    t->rank = 1, t->shape[0] = 1;
    t->buffer = k > 0;
    return k < 3;
}
static void fr_centre_init(float *w, float *state, const llm_feedforward_node *node, llm_rng *rng) {
    (void)rng;
    w[0] = 1.0f + (float)node->index;
    if (state) state[0] = 10.0f * (float)node->index, state[1] = 0.0f;
}
static size_t fr_centre_saved(const llm_feedforward_node *node, size_t N) {
    return 1 + (node->index + 1) * N;
}
static void fr_centre_forward(const llm_feedforward_call *c) {
    float mean = 0.0f;
    const size_t N = c->run->N, room = 1 + (c->node->index + 1) * N;
    CHECK(!c->x[1] && !c->dx[0] && !c->dw && !c->dy);
    for (size_t n = 0; n < N; n++) mean += c->x[0][n] / (float)N;
    for (size_t n = 0; n < N; n++) c->y[n] = c->w[0] * (c->x[0][n] - mean);
    for (size_t i = 0; i < room; i++) c->saved[i] = mean;
    if (c->run->train) c->state[0] += 1.0f, c->state[1] = mean;
}
static void fr_centre_backward(const llm_feedforward_call *c) {
    const size_t N = c->run->N, room = 1 + (c->node->index + 1) * N;
    float mean = 0.0f;
    CHECK(!c->x[1] && !c->dx[1]); /* it has one input */
    for (size_t n = 0; n < N; n++) mean += c->dy[n] / (float)N;
    for (size_t n = 0; n < N; n++) {
        if (c->dx[0]) c->dx[0][n] += c->w[0] * (c->dy[n] - mean);
        if (c->dw) c->dw[0] += c->dy[n] * (c->x[0][n] - c->saved[room - 1]);
    }
}
static const llm_feedforward_kind fr_centre = {
    "centre",        fr_drop_shape,     fr_centre_tensor,  fr_centre_init,
    fr_centre_saved, fr_centre_forward, fr_centre_backward};

static double fr_loss(const llm_feedforward_run *run, const float *dy) {
    const float *y = llm_feedforward_forward(run);
    double sum = 0.0;
    for (size_t i = 0; i < run->N; i++) sum += (double)y[i] * (double)dy[i];
    return sum;
}

TEST(feedforward_run, "kinds of one's own: weights, buffers and saved floats are each one's own, "
                      "and gradients agree with differences") {
    llm_arena arena = test_arena(1 << 16);
    llm_feedforward f;
    llm_error error;
    const llm_feedforward_shape one = {1, 1, 1};
    const int tanh_ = LLM_ACTIVATION_TANH;
    const size_t N = 5, in[3] = {0, 2, LLM_FEEDFORWARD_X};
    llm_feedforward_create(&f, one, 5, &arena);
    CHECK(llm_feedforward_then(&f, &fr_centre, NULL, &error));
    CHECK(llm_feedforward_then(&f, llm_feedforward_activation(), &tanh_, &error));
    CHECK(llm_feedforward_then(&f, &fr_centre, NULL, &error));
    CHECK(llm_feedforward_add(&f, llm_feedforward_sum(), NULL, in, 3, &error));
    CHECK(llm_feedforward_then(&f, &fr_centre, NULL, &error));
    CHECK(f.params == 3 && f.states == 6);
    CHECK(llm_feedforward_memory(&f, 0, N) == 0 && llm_feedforward_memory(&f, 1, N) == 5 + 6);
    CHECK(llm_feedforward_memory(&f, 2, N) == 16 && llm_feedforward_memory(&f, 3, N) == 37);
    const size_t room = llm_feedforward_memory(&f, 5, N), mark = arena.used;
    CHECK(room == 42 + 5 + 26);

    float w[3], state[6], *x = floats(N), *dy = floats(N), *memory = floats(room);
    float *dx = zeros(N), *dw = zeros(3);
    llm_rng rng = llm_rng_seed(1);
    llm_feedforward_init(w, state, &f, &rng);
    CHECK(w[0] == 1.0f && w[1] == 3.0f && w[2] == 5.0f);
    CHECK(state[0] == 0.0f && state[2] == 20.0f && state[4] == 40.0f);
    llm_feedforward_init(w, NULL, &f, &rng);
    llm_rng_normal_fill(&rng, x, N);
    llm_rng_normal_fill(&rng, dy, N);
    const llm_feedforward_run run = {&f, w, x, state, memory, N, 7, true, &arena};
    const float *y = llm_feedforward_forward(&run);
    CHECK(y == memory + 42);
    CHECK(state[0] == 1.0f && state[2] == 21.0f && state[4] == 41.0f);
    for (size_t i = 0; i < room; i++) CHECK(!isnan(memory[i]));

    /* by hand, in double */
    double m = 0.0, m2 = 0.0, m4 = 0.0, a[5], b[5];
    for (size_t n = 0; n < N; n++) m += (double)x[n] / 5.0;
    for (size_t n = 0; n < N; n++) a[n] = (double)x[n] - m, m2 += tanh(a[n]) / 5.0;
    for (size_t n = 0; n < N; n++)
        b[n] = a[n] + 3.0 * (tanh(a[n]) - m2) + (double)x[n], m4 += b[n] / 5.0;
    for (size_t n = 0; n < N; n++) CHECK_NEAR(y[n], 5.0 * (b[n] - m4), 1e-5);
    CHECK_NEAR(state[1], m, 1e-6);
    CHECK_NEAR(state[3], m2, 1e-6);
    CHECK_NEAR(state[5], m4, 1e-6);

    llm_feedforward_backward(dx, dw, dy, &run);
    CHECK(arena.used == mark);
    CHECK_GRAD(dw, w, 3, 1e-2f, 2e-3f, fr_loss(&run, dy));
    CHECK_GRAD(dx, x, N, 1e-2f, 5e-3f, fr_loss(&run, dy));
}

TEST(feedforward_run,
     "dropout as a layer: in training a mask of its seed and place, else nothing") {
    llm_arena arena = test_arena(1 << 16);
    llm_feedforward f;
    llm_error error;
    const llm_feedforward_shape shape = {40, 1, 1};
    const float p = 0.5f;
    llm_feedforward_create(&f, shape, 2, &arena);
    CHECK(llm_feedforward_then(&f, &fr_drop, &p, &error));
    CHECK(llm_feedforward_then(&f, &fr_drop, &p, &error));
    float x[80], memory[160], want[80], dy[80], dx[80] = {0};
    for (size_t i = 0; i < 80; i++) x[i] = 1.0f + (float)i, dy[i] = 1.0f;
    llm_feedforward_run run = {&f, NULL, x, NULL, memory, 2, 9, true, &arena};
    CHECK(llm_feedforward_memory(&f, 2, 2) == 160);
    CHECK(llm_feedforward_share(&run, 0).saved == memory + 80);
    const float *y = llm_feedforward_forward(&run);
    llm_dropout_forward(want, x, 80, 0.5f, 9, 0);
    llm_dropout_forward(want, want, 80, 0.5f, 9, 1000);
    CHECK_ALL_NEAR(y, want, 80, 0.0f);
    llm_feedforward_backward(dx, NULL, dy, &run);
    for (size_t i = 0; i < 80; i++) CHECK(dx[i] == want[i] / x[i]);
    run.seed = 10;
    CHECK(memcmp(llm_feedforward_forward(&run), want, sizeof want) != 0);
    run.train = false;
    CHECK_ALL_NEAR(llm_feedforward_forward(&run), x, 80, 0.0f);
}

TEST(feedforward_run,
     "an output depends on the layers it reads, directly or not, and on no others") {
    llm_arena arena = test_arena(1 << 16);
    llm_feedforward f;
    llm_error error;
    const llm_feedforward_shape shape = {2, 1, 1};
    const llm_feedforward_dense_config two = {2, 1.0f};
    const size_t reads[6][2] = {
        {LLM_FEEDFORWARD_X, 0}, {LLM_FEEDFORWARD_X, 0}, {0, 0}, {1, 0}, {2, 1}, {3, 2}};
    /* 0 x, 1 x, 2 <- 0, 3 <- 1, 4 = 2 + 1, 5 <- 3: who is below whom, as bits */
    const unsigned below[6] = {1, 2, 4 | 1, 8 | 2, 16 | 4 | 2 | 1, 32 | 8 | 2};
    llm_feedforward_create(&f, shape, 6, &arena);
    for (size_t i = 0; i < 6; i++)
        CHECK(llm_feedforward_add(&f, i == 4 ? llm_feedforward_sum() : llm_feedforward_dense(),
                                  &two, reads[i], i == 4 ? 2 : 1, &error));
    const size_t P = f.params, room = llm_feedforward_memory(&f, 6, 3);
    float *w = floats(P), *memory = floats(room), *moved = floats(room), x[6];
    llm_rng rng = llm_rng_seed(2);
    llm_rng_normal_fill(&rng, x, 6);
    llm_feedforward_init(w, NULL, &f, &rng);
    llm_feedforward_run run = {&f, w, x, NULL, memory, 3, 0, false, &arena};
    llm_feedforward_forward(&run);
    run.memory = moved;
    for (size_t j = 0; j < 6; j++) {
        if (j == 4) continue; /* it has no weights */
        const float was = w[f.node[j].w];
        w[f.node[j].w] += 1.0f;
        llm_feedforward_forward(&run);
        w[f.node[j].w] = was;
        for (size_t i = 0; i < 6; i++) {
            const size_t at = llm_feedforward_memory(&f, i, 3);
            const bool same = memcmp(memory + at, moved + at, 6 * sizeof(float)) == 0;
            CHECK(same == !(below[i] >> j & 1));
        }
    }
    float *dw = zeros(P), dy[6] = {1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f};
    llm_feedforward_backward(NULL, dw, dy, &run); /* the output is 5: 0, 2 and 4 are not below */
    for (size_t i = 0; i < 6; i++) CHECK((dw[i] == 0.0f) && dw[12 + i] == 0.0f);
    CHECK(dw[6] != 0.0f && dw[18] != 0.0f && dw[24] != 0.0f);

    llm_feedforward_create(&f, shape, 6, &arena);
    CHECK_ASSERTS(llm_feedforward_forward(&run));
}
