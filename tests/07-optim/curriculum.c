/* @curriculum */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

TEST(curriculum, "paces equal NumPy's from start to end and beyond; counts") {
    const char *names[3] = {"pace0.2", "pace0.05", "pace1.0"};
    for (size_t k = 0; k < 3; k++) {
        const float *f = golden("%s/start", names[k]);
        float got[4 * 13];
        for (int kind = 0; kind < 4; kind++)
            for (size_t i = 0; i < 13; i++)
                got[(size_t)kind * 13 + i] = (float)llm_curriculum_pace(kind, 3.0 * (double)i, 30.0,
                                                                        (double)f[0], (double)f[1]);
        CHECK_GOLDEN(got, 4 * 13, 1e-6f, "%s/share", names[k]);
    }
    /* Platanios' competence is the square root */
    CHECK_NEAR(llm_curriculum_pace(LLM_CURRICULUM_ROOT, 25.0, 100.0, 0.1, 2.0),
               sqrt(0.25 * (1.0 - 0.01) + 0.01), 1e-12);
    CHECK(llm_curriculum_pace(LLM_CURRICULUM_LINEAR, 0.0, 0.0, 0.1, 0.0) == 1.0);
    CHECK_ASSERTS(llm_curriculum_pace(LLM_CURRICULUM_LINEAR, 0.0, 1.0, 0.0, 0.0));
    CHECK_ASSERTS(llm_curriculum_pace(LLM_CURRICULUM_LINEAR, 0.0, 1.0, 1.1, 0.0));
    CHECK_ASSERTS(llm_curriculum_pace(4, 0.0, 1.0, 0.5, 0.0));
    CHECK_ASSERTS(llm_curriculum_pace(-1, 0.0, 1.0, 0.5, 0.0));

    CHECK(llm_curriculum_admitted(0.0, 7) == 1 && llm_curriculum_admitted(0.01, 7) == 1);
    CHECK(llm_curriculum_admitted(0.3, 10) == 3 && llm_curriculum_admitted(0.31, 10) == 4);
    CHECK(llm_curriculum_admitted(1.0, 7) == 7 && llm_curriculum_admitted(2.0, 7) == 7);
    CHECK(llm_curriculum_admitted(0.999, 7) == 7 && llm_curriculum_admitted(0.1, 1) == 1);
    CHECK_ASSERTS(llm_curriculum_admitted(0.5, 0));
    CHECK_ASSERTS(llm_curriculum_admitted(-0.5, 3));
}

TEST(curriculum, "margins and orders: plain, balanced, ties as they stand, NaN last") {
    enum { N = 11, K = 3 };
    llm_arena arena = test_arena(1 << 19);
    const int *label = as_ints(golden("order/label"), N);
    float difficulty[N], got[N];
    size_t order[N];
    llm_curriculum_margin(difficulty, golden("order/z"), label, N, K);
    CHECK_GOLDEN(difficulty, N, 1e-6f, "order/margin");
    llm_curriculum_order(order, difficulty, NULL, N, 0, NULL);
    for (size_t i = 0; i < N; i++) got[i] = (float)order[i];
    CHECK_GOLDEN(got, N, 0.0f, "order/plain");
    llm_curriculum_order(order, difficulty, label, N, K, &arena);
    for (size_t i = 0; i < N; i++) got[i] = (float)order[i];
    CHECK_GOLDEN(got, N, 0.0f, "order/balanced");
    CHECK(arena.used == 0);

    const float ties[5] = {1.0f, NAN, 0.0f, 1.0f, 0.0f};
    const size_t want[5] = {2, 4, 0, 3, 1};
    llm_curriculum_order(order, ties, NULL, 5, 0, NULL);
    for (size_t i = 0; i < 5; i++) CHECK(order[i] == want[i]);
    llm_curriculum_order(order, ties, NULL, 0, 0, NULL);
    const int bad[2] = {3, 3}, minus[1] = {-1}, mixed[2] = {0, 3}, second[2] = {1, 1};
    CHECK_ASSERTS(llm_curriculum_order(order, ties, bad, 2, 3, &arena));
    CHECK_ASSERTS(llm_curriculum_order(order, ties, mixed, 2, 3, &arena));
    CHECK_ASSERTS(llm_curriculum_order(order, ties, minus, 1, 3, &arena));
    llm_curriculum_order(order, ties, second, 2, 2, &arena); /* nobody of class 0 */
    CHECK(order[0] == 0 && order[1] == 1);
    llm_curriculum_order(order, ties, mixed, 1, 1, &arena);
    CHECK(order[0] == 0);
    CHECK_ASSERTS(llm_curriculum_margin(difficulty, ties, bad, 1, 3));
    CHECK_ASSERTS(llm_curriculum_margin(difficulty, ties, minus, 1, 3));
    CHECK_ASSERTS(llm_curriculum_margin(difficulty, ties, minus + 1, 0, 1));
}

TEST(curriculum, "draws are uniform on the admitted and nowhere else") {
    enum { N = 10, ADMITTED = 7, DRAWS = 70000 };
    llm_rng rng = llm_rng_seed(1);
    size_t order[N], seen[N] = {0}, index[7];
    for (size_t i = 0; i < N; i++) order[i] = (3 * i + 1) % N;
    for (size_t b = 0; b < DRAWS / 7; b++) {
        llm_curriculum_draw(index, 7, order, ADMITTED, &rng);
        for (size_t i = 0; i < 7; i++) seen[index[i]]++;
    }
    double chi = 0.0;
    for (size_t i = 0; i < N; i++) {
        const double off = (double)seen[order[i]] - 10000.0;
        if (i < ADMITTED) chi += off * off / 10000.0;
        if (i >= ADMITTED) CHECK(seen[order[i]] == 0);
    }
    CHECK(chi < 22.5); /* 6 degrees of freedom, p = 0.001 */
}

TEST(curriculum, "the bandit equals EXP3.S; large weights; rewards scaled between quantiles") {
    enum { K = 4, T = 30 };
    llm_arena arena = test_arena(1 << 19);
    const float *reward = golden("bandit/reward");
    const size_t *arm = as_sizes(golden("bandit/arm"), T);
    double w[K] = {0.0}, p[K];
    float path[T * K], got[K];
    for (size_t t = 1; t <= T; t++) {
        llm_curriculum_bandit(p, w, K, 0.05);
        for (size_t k = 0; k < K; k++) path[(t - 1) * K + k] = (float)p[k];
        llm_curriculum_reward(w, p, K, arm[t - 1], (double)reward[t - 1], 0.1, 1.0 / (double)t,
                              &arena);
    }
    for (size_t k = 0; k < K; k++) got[k] = (float)w[k];
    CHECK_GOLDEN(path, T * K, 1e-6f, "bandit/p");
    CHECK_GOLDEN(got, K, 1e-6f, "bandit/w");
    CHECK(arena.used == 0);

    double far[2] = {5000.0, -5000.0}, q[2] = {0.5, 0.5}, one[1] = {0.5}, sure[1] = {1.0};
    llm_curriculum_bandit(q, far, 2, 0.5);
    CHECK_NEAR(q[0], 0.75, 1e-12);
    llm_curriculum_reward(far, q, 2, 0, 1.0, 0.75, 0.25, &arena); /* a quarter comes back */
    CHECK_NEAR(far[0], 5001.0 + log(0.75), 1e-9);
    CHECK_NEAR(far[1], 5001.0 + log(0.25), 1e-9);
    double late[2] = {-5000.0, 5000.0};
    llm_curriculum_bandit(q, late, 2, 0.5);
    CHECK_NEAR(q[1], 0.75, 1e-12);
    llm_curriculum_reward(late, q, 2, 1, 1.0, 0.75, 0.25, &arena);
    CHECK_NEAR(late[0], 5001.0 + log(0.25), 1e-9);
    CHECK_NEAR(late[1], 5001.0 + log(0.75), 1e-9);
    double calm[2] = {1.0, 2.0};
    llm_curriculum_reward(calm, q, 2, 1, 0.0, 0.75, 0.0, &arena); /* nothing flows */
    CHECK_NEAR(calm[0], 1.0, 1e-12);
    llm_curriculum_reward(one, sure, 1, 0, 1.0, 0.25, 1.0, &arena);
    CHECK(one[0] == 0.75);
    CHECK_ASSERTS(llm_curriculum_reward(w, p, K, K, 1.0, 0.1, 0.1, &arena));
    CHECK_ASSERTS(llm_curriculum_reward(w, p, K, 0, 1.0, 0.1, 1.5, &arena));
    CHECK_ASSERTS(llm_curriculum_reward(w, p, K, 0, 1.0, 0.1, -0.5, &arena));

    CHECK(llm_curriculum_scale(3.0, 1.0, 3.0) == 1.0 &&
          llm_curriculum_scale(1.0, 1.0, 3.0) == -1.0);
    CHECK(llm_curriculum_scale(2.5, 1.0, 3.0) == 0.5 && llm_curriculum_scale(9.0, 1.0, 3.0) == 1.0);
    CHECK(llm_curriculum_scale(-9.0, 1.0, 3.0) == -1.0 &&
          llm_curriculum_scale(5.0, 2.0, 2.0) == 0.0);
}

/* A scripted course: task k can be learned only after task k - 1; each visit learns a twentieth of
 * what is left. Returns the visits until all of 5 tasks are known to 0.9; 4000 at most. */
static double cu_course(bool bandit, uint64_t seed) {
    enum { K = 5, MOST = 4000 };
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena = test_arena(1 << 19);
    double left[K], w[K] = {0.0}, p[K];
    for (size_t k = 0; k < K; k++) left[k] = 1.0;
    for (size_t t = 1; t <= MOST; t++) {
        llm_curriculum_bandit(p, w, K, 0.1);
        const size_t task = bandit ? llm_curriculum_choose(p, K, &rng) : llm_rng_below(&rng, K);
        const double before = left[task];
        if (task == 0 || left[task - 1] < 0.2) left[task] *= 0.95;
        const double fall = llm_curriculum_scale(before - left[task], -0.05, 0.05);
        llm_curriculum_reward(w, p, K, task, fall, 0.05, 0.005, &arena);
        double most = 0.0;
        for (size_t k = 0; k < K; k++) most = fmax(most, left[k]);
        if (most < 0.1) return (double)t;
    }
    return MOST;
}

TEST(curriculum, "the choice has the bandit's probabilities, and a bandit finishes a course sooner "
                 "than chance") {
    const double p[3] = {0.5, 0.2, 0.3};
    llm_rng rng = llm_rng_seed(2);
    size_t seen[3] = {0};
    for (size_t i = 0; i < 30000; i++) seen[llm_curriculum_choose(p, 3, &rng)]++;
    for (size_t k = 0; k < 3; k++)
        CHECK_NEAR((double)seen[k] / 30000.0, p[k], 4.0 * 0.5 / sqrt(30000.0));
    llm_rng again = rng;
    const double u = (double)llm_rng_uniform(&again), cut[2] = {u, 1.0 - u}, none[2] = {0.0, 0.0};
    CHECK(llm_curriculum_choose(cut, 2, &rng) == 1);  /* a draw at the border is the next one's */
    CHECK(llm_curriculum_choose(none, 2, &rng) == 1); /* what rounding leaves is the last one's */
    double sum[2] = {0.0, 0.0};
    for (uint64_t seed = 1; seed <= 20; seed++) {
        sum[0] += cu_course(false, seed);
        sum[1] += cu_course(true, seed);
    }
    CHECK(sum[1] < 0.8 * sum[0]); /* eight further sets of seeds: 0.566 to 0.606 */
}

/* Parity of 2 to 12 signs, the rest 0. Steps on batches of 64, until 95% of 300 examples of all
 * lengths are right; 4000 at most. The difficulty is the length: 1 easy first, -1 hard first, 0
 * any. */
static size_t cu_parity(int direction, uint64_t seed) {
    enum {
        MOST_BITS = 12,
        KINDS = MOST_BITS - 1,
        B = 64,
        TEST = 300,
        P = 12 * 48 + 48 + 98,
        MOST = 4000
    };
    static const size_t size[3] = {MOST_BITS, 48, 2};
    const llm_mlp net = {size, 2, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_SOFTMAX};
    float *w = floats(P), *m = zeros(P), *v = zeros(P), *g = floats(P);
    float *x = floats(TEST * MOST_BITS), difficulty[KINDS];
    int label[TEST];
    size_t order[KINDS], index[B];
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena = test_arena(1 << 19);
    llm_adamw_config a = llm_adamw_defaults();
    a.lr = 0.005f, a.weight_decay = 0.0f;
    llm_mlp_init(w, &net, &rng);
    for (size_t k = 0; k < KINDS; k++) difficulty[k] = (float)direction * (float)k;
    llm_curriculum_order(order, difficulty, NULL, KINDS, 0, NULL);
    for (size_t t = 1; t <= MOST; t++) {
        const double share =
            llm_curriculum_pace(LLM_CURRICULUM_LINEAR, (double)t, 800.0, 1e-3, 0.0);
        const size_t admitted = direction ? llm_curriculum_admitted(share, KINDS) : KINDS;
        const bool test = t % 25 == 0;
        llm_curriculum_draw(index, B, order, admitted, &rng);
        for (size_t turn = 0; turn < (test ? 2u : 1u); turn++) {
            for (size_t i = 0; i < (turn ? (size_t)TEST : (size_t)B); i++) {
                const size_t bits = 2 + (turn ? i % KINDS : index[i]);
                label[i] = 0;
                for (size_t k = 0; k < MOST_BITS; k++) {
                    const int bit = k < bits ? (int)(llm_rng_u32(&rng) >> 31) : 0;
                    x[i * MOST_BITS + k] = k < bits ? (bit ? 1.0f : -1.0f) : 0.0f;
                    label[i] ^= bit;
                }
            }
            if (turn == 1 && llm_mlp_accuracy(&net, w, x, label, TEST, &arena) >= 0.95) return t;
            if (turn == 1) break;
            memset(g, 0, P * sizeof(float));
            llm_mlp_gradient(g, &net, w, x, label, NULL, B, &arena);
            llm_adamw_step(w, m, v, g, P, &a, t);
        }
    }
    return MOST;
}

TEST(curriculum,
     "parity: short before long needs fewer steps than any order, long before short more") {
    double steps[3] = {0.0, 0.0, 0.0};
    for (uint64_t seed = 1; seed <= 5; seed++)
        for (int direction = seed <= 2 ? -1 : 0; direction <= 1; direction++)
            steps[direction + 1] +=
                (double)cu_parity(direction, seed) / (direction < 0 ? 2.0 : 5.0);
    /* eight further sets of seeds: easy first 0.68 to 0.96 of any order, hard first 1.06 to 1.57,
     * the one over the other 0.54 to 0.71 */
    CHECK(steps[2] < 0.98 * steps[1] && steps[0] > 1.03 * steps[1]);
    CHECK(steps[2] < 0.85 * steps[0]);
}
