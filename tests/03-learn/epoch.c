/* @epoch */
#include "../test.h"

#include "../../llm.h"

static size_t *ep_sizes(size_t n) { return (size_t *)test_memory(n, sizeof(size_t)); }

static bool ep_is_permutation(const size_t *order, size_t n) {
    bool *seen = bools(n);
    for (size_t i = 0; i < n; i++) {
        if (order[i] >= n || seen[order[i]]) return false;
        seen[order[i]] = true;
    }
    return true;
}

TEST(epoch, "both orders are permutations for every n up to 300 and some beyond") {
    for (size_t n = 1; n <= 2000; n += n < 300 ? 1 : 97) {
        size_t *order = ep_sizes(n), *walk = ep_sizes(n);
        llm_epoch_shuffle(order, n, 7, n);
        for (size_t i = 0; i < n; i++) walk[i] = llm_epoch_at(i, n, 7, n);
        CHECK(ep_is_permutation(order, n) && ep_is_permutation(walk, n));
    }
    llm_epoch_shuffle(NULL, 0, 1, 1);
    CHECK_ASSERTS(llm_epoch_at(5, 5, 1, 1));
    const size_t huge = SIZE_MAX; /* every index is possible: h is 32, nothing is walked */
    CHECK(llm_epoch_at(3, huge, 1, 1) != llm_epoch_at(4, huge, 1, 1));
}

TEST(epoch, "the orders are the documented ones: Philox and Feistel written a second time") {
    const size_t n[5] = {2, 5, 16, 17, 40};
    const uint64_t seed[5] = {1, 3, ((uint64_t)1 << 33) + 1, 7, 1};
    const uint64_t epoch[5] = {0, 1, 2, ((uint64_t)1 << 32) + 5, 2};
    for (size_t c = 0; c < 5; c++) {
        size_t order[40];
        float shuffled[40], at[40];
        llm_epoch_shuffle(order, n[c], seed[c], epoch[c]);
        for (size_t i = 0; i < n[c]; i++) {
            shuffled[i] = (float)order[i];
            at[i] = (float)llm_epoch_at(i, n[c], seed[c], epoch[c]);
        }
        CHECK_GOLDEN(shuffled, n[c], 0.0f, "order/%zu/shuffle", n[c]);
        CHECK_GOLDEN(at, n[c], 0.0f, "order/%zu/at", n[c]);
    }
}

TEST(epoch, "each example is equally often at each place, and beside each other, in both") {
    enum { n = 11, R = 4000 };
    for (int kind = 0; kind < 2; kind++) {
        double place[n][n] = {{0.0}}, after[n][n] = {{0.0}}, chi[2] = {0.0, 0.0};
        for (size_t r = 0; r < R; r++) {
            size_t order[n];
            llm_epoch_shuffle(order, n, 3, r);
            for (size_t i = 0; i < n && kind == 1; i++) order[i] = llm_epoch_at(i, n, 3, r);
            for (size_t i = 0; i < n; i++) place[i][order[i]] += 1.0;
            for (size_t i = 0; i + 1 < n; i++) after[order[i]][order[i + 1]] += 1.0;
        }
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                const double want = (double)R / n, pair = (double)R * (n - 1) / (n * (n - 1));
                chi[0] += pow(place[i][j] - want, 2.0) / want;
                if (i != j)
                    chi[1] += pow(after[i][j] - pair, 2.0) / pair;
                else
                    CHECK(after[i][j] == 0.0);
            }
        chi[0] *= (n - 1.0) / n; /* rows and columns of counts are fixed: (n-1)^2 degrees */
        CHECK(chi[0] < 149.4 && chi[0] > 59.0); /* chi-squared of 100, p = 0.001 on either side */
        CHECK(chi[1] < 160.0 && chi[1] > 55.0);
    }
}

TEST(epoch, "a run that stops anywhere goes on with the same examples") {
    for (int drop = 0; drop < 2; drop++) {
        llm_epoch_state a = {23, 5, drop == 1, 9, 0, 0};
        size_t index[5], again[5], count[23] = {0}, total = 0;
        const size_t steps = llm_epoch_steps(23, 5, drop == 1);
        CHECK(steps == (drop ? 4u : 5u));
        for (size_t step = 0; step < 3 * steps; step++) {
            llm_epoch_state b = {23, 5, drop == 1, 9, a.epoch, a.step}; /* all that was stored */
            const size_t size = llm_epoch_next(index, &a);
            CHECK(llm_epoch_next(again, &b) == size && a.step == b.step && a.epoch == b.epoch);
            CHECK(size == (step % steps == 4 ? 3u : 5u));
            for (size_t k = 0; k < size; k++) {
                CHECK(index[k] == again[k]);
                CHECK(index[k] == llm_epoch_at(step % steps * 5 + k, 23, 9, step / steps));
                count[index[k]]++, total++;
            }
            CHECK(a.epoch == step / steps);
        }
        CHECK(total == (drop ? 60u : 69u));
        for (size_t i = 0; i < 23 && !drop; i++) CHECK(count[i] == 3);
    }
    llm_epoch_state small = {3, 5, true, 1, 0, 0};
    size_t none[5];
    CHECK(llm_epoch_next(none, &small) == 0);
    small.drop_last = false;
    CHECK(llm_epoch_next(none, &small) == 3);
    CHECK(llm_epoch_steps(10, 5, false) == 2 && llm_epoch_steps(0, 5, false) == 0);
    CHECK(llm_epoch_steps(3, 1, false) == 3);
    CHECK_ASSERTS(llm_epoch_steps(3, 0, false));
}

TEST(epoch, "seeds and epochs give unrelated orders") {
    enum { n = 200 };
    size_t a[n], b[n], same = 0;
    const uint64_t pair[4][2] = {{1, 2}, {2, 1}, {1, (uint64_t)1 << 32}, {(uint64_t)1 << 33, 1}};
    llm_epoch_shuffle(a, n, 1, 1);
    for (size_t k = 0; k < 4; k++) {
        llm_epoch_shuffle(b, n, pair[k][0], pair[k][1]);
        for (size_t i = 0; i < n; i++) {
            same += a[i] == b[i];
            same += llm_epoch_at(i, n, 1, 1) == llm_epoch_at(i, n, pair[k][0], pair[k][1]);
        }
    }
    CHECK(same < 24); /* 8 expected */
    CHECK(llm_epoch_at(0, n, 1, 0) != llm_epoch_at(0, n, 1, (uint64_t)1 << 32) ||
          llm_epoch_at(1, n, 1, 0) != llm_epoch_at(1, n, 1, (uint64_t)1 << 32));
}

TEST(epoch, "shards are those of torch's DistributedSampler") {
    const size_t shape[5][2] = {{1, 1}, {7, 3}, {8, 4}, {2, 5}, {23, 4}};
    for (size_t s = 0; s < 5; s++)
        for (int drop = 0; drop < 2; drop++) {
            const size_t n = shape[s][0], ranks = shape[s][1];
            if (drop && n < ranks) {
                CHECK(llm_epoch_shard_size(n, ranks, true) == 0);
                continue;
            }
            const size_t each = llm_epoch_shard_size(n, ranks, drop == 1);
            float *got = floats(each * ranks);
            for (size_t r = 0; r < ranks; r++)
                for (size_t k = 0; k < each; k++)
                    got[r * each + k] = (float)llm_epoch_shard(k, r, n, ranks);
            CHECK_GOLDEN(got, each * ranks, 0.0f, "%zux%zux%d/index", n, ranks, drop);
        }
    CHECK_ASSERTS(llm_epoch_shard(0, 3, 5, 3));
    CHECK_ASSERTS(llm_epoch_shard(0, 0, 0, 3));
    CHECK_ASSERTS(llm_epoch_shard_size(5, 0, false));
}

TEST(epoch, "a window loses nothing, and mixes about as far as it is wide") {
    enum { n = 1000, room = 50 };
    size_t window[room], held = 0, out[n], count = 0;
    llm_rng rng = llm_rng_seed(2);
    for (size_t i = 0; i < n; i++) {
        const bool full = i >= room;
        CHECK(llm_epoch_window_put(&out[count], window, &held, room, i, &rng) == full);
        count += full;
    }
    CHECK(held == room);
    while (llm_epoch_window_take(&out[count], window, &held, &rng)) count++;
    CHECK(count == n && held == 0 && ep_is_permutation(out, n));
    double late = 0.0;
    for (size_t i = 0; i < n; i++) {
        CHECK(out[i] <= i + room); /* nobody can come out before being put in */
        late += fabs((double)out[i] - (double)i) / n;
    }
    CHECK(late > 20.0 && late < 80.0);
    size_t one[1], none = 0, item = 9;
    CHECK(!llm_epoch_window_put(&item, one, &none, 1, 4, &rng));
    CHECK(llm_epoch_window_put(&item, one, &none, 1, 5, &rng) && item == 4);
    CHECK_ASSERTS(llm_epoch_window_put(&item, one, &none, 0, 5, &rng));
}

/* SGD on one-dimensional projections y = x.w + noise, step c / (t + t0): squared distance from the
 * least-squares solution after so many epochs. */
static double ep_sgd(bool reshuffle, uint64_t seed) {
    enum { n = 100, p = 3, EPOCHS = 60 };
    llm_rng rng = llm_rng_seed(seed);
    float x[n * p], y[n], beta[p] = {1, -1, 0.5f};
    double best[p], w[p] = {0.0}, off = 0.0;
    unsigned char *memory = (unsigned char *)test_memory(1 << 14, 1);
    llm_arena arena = {memory, 1 << 14, 0, 0};
    llm_generalization_task(x, y, beta, n, p, 1.0f, &rng);
    CHECK(llm_least_squares_fit(best, x, y, NULL, n, p, false, &arena) == p);
    for (size_t t = 0; t < n * EPOCHS; t++) {
        const size_t i = reshuffle ? llm_epoch_at(t % n, n, seed, t / n) : llm_rng_below(&rng, n);
        const double lr = 2.0 / ((double)t + 50.0);
        double gap = (double)y[i];
        for (size_t k = 0; k < p; k++) gap -= w[k] * (double)x[i * p + k];
        for (size_t k = 0; k < p; k++) w[k] += lr * gap * (double)x[i * p + k];
    }
    for (size_t k = 0; k < p; k++) off += (w[k] - best[k]) * (w[k] - best[k]);
    return off;
}

TEST(epoch,
     "with replacement 37% of a pass are missed, and the error with decaying steps is larger") {
    enum { n = 2000 };
    llm_rng rng = llm_rng_seed(6);
    double share = 0.0, ratio[2] = {0.0, 0.0};
    for (size_t r = 0; r < 50; r++) {
        bool *seen = bools(n);
        for (size_t i = 0; i < n; i++) seen[llm_rng_below(&rng, n)] = true;
        for (size_t i = 0; i < n; i++) share += seen[i] ? 1.0 / (50.0 * n) : 0.0;
    }
    CHECK_NEAR(share, 1.0 - exp(-1.0), 0.005);
    for (uint64_t seed = 1; seed <= 20; seed++) {
        ratio[0] += ep_sgd(false, seed) / 20.0;
        ratio[1] += ep_sgd(true, seed) / 20.0;
    }
    /* means of 20; nine sets of seeds: 816 to 1982 times. At the end of an epoch the noise of its
     * examples has nearly cancelled; with replacement it never does. */
    CHECK(ratio[0] > 400.0 * ratio[1]);
}
