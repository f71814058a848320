/* @augmentation_mix */
#include "../test.h"

#include "../../llm.h"

static int augmentation_mix_ascending(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

TEST(augmentation_mix, "shares pass a KS test against Beta, for small, even and large a") {
    enum { N = 20000 };
    const float a[4] = {0.1f, 0.4f, 1.0f, 5.0f};
    float *x = floats(N);
    for (size_t k = 0; k < 4; k++) {
        llm_rng rng = llm_rng_seed(k + 1);
        const llm_distribution beta = {LLM_DISTRIBUTION_BETA, (double)a[k], (double)a[k], 0.0, 1.0};
        double gap = 0.0, middle = 0.0;
        for (size_t i = 0; i < N; i++) {
            x[i] = llm_augmentation_mix_share(a[k], &rng);
            CHECK(x[i] >= 0.0f && x[i] <= 1.0f);
        }
        qsort(x, N, sizeof(float), augmentation_mix_ascending);
        for (size_t i = 0; i < N; i++) {
            if (!(x[i] > 1e-6f && x[i] < 1.0f - 1e-6f)) continue; /* floats near 1 are coarse */
            gap = fmax(gap, fabs(llm_distribution_cdf(&beta, (double)x[i]) - (double)i / N));
            middle += 1.0 / N;
        }
        CHECK(gap < 1.63 / sqrt((double)N)); /* 1% of true samples exceed this */
        CHECK_NEAR(middle, 1.0 - 2.0 * llm_distribution_cdf(&beta, 1e-6), 2.0 / sqrt((double)N));
    }
    llm_rng rng = llm_rng_seed(9);
    CHECK_ASSERTS(llm_augmentation_mix_share(0.0f, &rng));
}

TEST(augmentation_mix, "mixup is the convex combination, and so is the loss of its targets") {
    enum { N = 3, K = 4 };
    const size_t partner[N] = {2, 1, 0};
    float z[N * K], hard[N * K] = {0.0f}, soft[N * K], loss[N], lse[N], mixed = 0.0f, want = 0.0f;
    int y[N] = {1, 3, 0}, other[N];
    llm_rng rng = llm_rng_seed(2);
    llm_rng_normal_fill(&rng, z, N * K);
    for (size_t n = 0; n < N; n++) hard[n * K + (size_t)y[n]] = 1.0f, other[n] = y[partner[n]];
    llm_augmentation_mixup(soft, hard, partner, N, K, 0.3f);
    CHECK_NEAR(soft[0 * K + 1], 0.3, 1e-7);
    CHECK_NEAR(soft[0 * K + 0], 0.7, 1e-7);
    CHECK(soft[1 * K + 3] == 1.0f); /* its own partner */
    llm_cross_entropy_soft_forward(loss, lse, z, soft, N, K);
    for (size_t n = 0; n < N; n++) mixed += loss[n];
    llm_cross_entropy_forward(loss, NULL, z, y, N, K);
    for (size_t n = 0; n < N; n++) want += 0.3f * loss[n];
    llm_cross_entropy_forward(loss, NULL, z, other, N, K);
    for (size_t n = 0; n < N; n++) want += 0.7f * loss[n];
    CHECK_NEAR(mixed, want, 1e-5);
}

TEST(augmentation_mix, "CutMix: the share is the pixels' share, boxes have the size asked for") {
    enum { N = 2, C = 2, H = 7, W = 10, n = N * C * H * W };
    const size_t partner[N] = {1, 0};
    float x[n], y[n];
    llm_rng rng = llm_rng_seed(3);
    double whole = 0.0;
    for (size_t i = 0; i < n; i++) x[i] = (float)i;
    for (size_t draw = 0; draw < 300; draw++) {
        size_t box[4];
        const float l = llm_rng_uniform(&rng);
        const float share = llm_augmentation_cutmix_box(box, H, W, l, &rng);
        CHECK(box[0] <= box[2] && box[2] <= H && box[1] <= box[3] && box[3] <= W);
        const size_t high = (size_t)(H * sqrtf(1.0f - l)), wide = (size_t)(W * sqrtf(1.0f - l));
        CHECK(box[2] - box[0] <= high && box[3] - box[1] <= wide);
        CHECK(box[2] - box[0] == high || box[0] == 0 || box[2] == H);
        CHECK(box[3] - box[1] == wide || box[1] == 0 || box[3] == W);
        whole += box[2] - box[0] == high && box[3] - box[1] == wide;
        llm_augmentation_cutmix(y, x, partner, N, C, H, W, box);
        double own = 0.0;
        size_t i = 0;
        for (size_t e = 0; e < N; e++)
            for (size_t c = 0; c < C; c++)
                for (size_t h = 0; h < H; h++)
                    for (size_t w = 0; w < W; w++, i++) {
                        const bool in = h >= box[0] && h < box[2] && w >= box[1] && w < box[3];
                        CHECK(y[i] ==
                              (float)(in ? (i + n / 2) % n : i)); /* the other, same place */
                        own += in ? 0.0 : 1.0 / n;
                    }
        CHECK_NEAR(share, own, 1e-6);
    }
    CHECK(whole > 60.0);
    size_t box[4];
    CHECK(llm_augmentation_cutmix_box(box, H, W, 1.0f, &rng) == 1.0f);
    CHECK(llm_augmentation_cutmix_box(box, H, 1, 0.0f, &rng) < 0.5f); /* more than half of it */
    CHECK_ASSERTS(llm_augmentation_cutmix_box(box, H, W, 1.5f, &rng));
    CHECK_ASSERTS(llm_augmentation_cutmix_box(box, H, W, -0.1f, &rng));
}

TEST(augmentation_mix, "SMOTE's points lie between an example and one of its k nearest") {
    enum { N = 6, D = 2, M = 400 };
    const float x[N * D] = {0, 0, 1, 0, 3, 0, 7, 0, 15, 0, 15, 0}; /* on a line; two the same */
    float y[M * D];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 64));
    for (size_t k = 1; k < 4; k++) {
        llm_rng rng = llm_rng_seed(k);
        size_t seen[N][N] = {{0}}, same = 0;
        llm_augmentation_smote(y, M, x, N, D, k, &rng, &arena);
        for (size_t s = 0; s < M; s++) {
            CHECK(y[s * D] >= 0.0f && y[s * D] <= 15.0f && y[s * D + 1] == 0.0f);
            same += y[s * D] == 15.0f;
            for (size_t b = 1; b < N; b++)
                if (y[s * D] > x[b * D - D] && y[s * D] < x[b * D]) seen[0][b]++;
        }
        /* k = 1: pairs 0-1, 1-0, 2-1 (3 to 1), 3-2 (7 to 3), and the twins: nobody in 7..15 */
        CHECK((seen[0][4] == 0) == (k == 1)); /* from 15: its twin, then 7 */
        CHECK(k > 1 || (same > M / 5 && seen[0][1] > M / 5 && seen[0][2] > M / 12));
    }
    llm_rng rng = llm_rng_seed(1);
    CHECK_ASSERTS(llm_augmentation_smote(y, 1, x, 2, D, 2, &rng, &arena));
    CHECK_ASSERTS(llm_augmentation_smote(y, 1, x, 2, D, 0, &rng, &arena));
    CHECK_ASSERTS(llm_augmentation_smote(y, 0, x, 2, D, 0, &rng, &arena));
    CHECK(arena.used == 0);
    llm_arena_destroy(&arena);
}

TEST(augmentation_mix,
     "SMOTE goes to the neighbour that a sort of the distances puts at its rank") {
    enum { N = 9, D = 2, K = 4, M = 200 };
    const int at[N] = {4, 0, 8, 3, 5, 1, 3, 8, 9}; /* equal points, and equally near ones */
    float x[N * D], *y = floats(M * D);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 64));
    for (size_t i = 0; i < N * D; i++) x[i] = ldexpf((float)at[i / D], -20); /* however small */
    llm_rng rng = llm_rng_seed(4), same = rng;
    llm_augmentation_smote(y, M, x, N, D, K, &rng, &arena);
    for (size_t s = 0; s < M; s++) {
        const size_t a = llm_rng_below(&same, N), rank = llm_rng_below(&same, K);
        const float u = llm_rng_uniform(&same);
        size_t order[N], count = 0;
        for (int far = 0; far < 10; far++) /* the first of equally near ones first */
            for (size_t j = 0; j < N; j++)
                if (j != a && abs(at[j] - at[a]) == far) order[count++] = j;
        const float from = x[a * D], to = x[order[rank] * D];
        for (size_t i = 0; i < D; i++) CHECK(y[s * D + i] == from + u * (to - from));
    }
    llm_arena_destroy(&arena);
}

TEST(augmentation_mix, "deletion keeps order and at least one token, swaps keep the multiset") {
    enum { N = 1000 };
    int token[N], one[1] = {5}, seen[N] = {0};
    llm_rng rng = llm_rng_seed(5);
    for (int i = 0; i < N; i++) token[i] = i;
    const size_t kept = llm_augmentation_delete(token, N, 0.3f, &rng);
    CHECK_NEAR(kept, 700.0, 4.0 * sqrt(210.0));
    for (size_t i = 1; i < kept; i++) CHECK(token[i] > token[i - 1]);
    CHECK(llm_augmentation_delete(token, kept, 0.0f, &rng) == kept);
    for (int turn = 0; turn < 20; turn++) {
        int all[3] = {7, 8, 9};
        CHECK(llm_augmentation_delete(all, 3, 1.0f, &rng) == 1 && all[0] >= 7 && all[0] <= 9);
        seen[all[0]]++;
    }
    CHECK(seen[7] > 0 && seen[8] > 0 && seen[9] > 0);
    CHECK(llm_augmentation_delete(one, 0, 0.5f, &rng) == 0);

    for (int i = 0; i < N; i++) token[i] = i, seen[i] = 0;
    llm_augmentation_swap(token, N, 3, &rng);
    size_t moved = 0;
    for (int i = 0; i < N; i++) seen[token[i]]++, moved += token[i] != i;
    for (int i = 0; i < N; i++) CHECK(seen[i] == 1);
    CHECK(moved >= 2 && moved <= 6);
    llm_augmentation_swap(one, 1, 3, &rng);
    CHECK(one[0] == 5);
    llm_augmentation_swap(one, 0, 3, &rng);
}

TEST(augmentation_mix, "what is deleted, swapped and masked is what the generator says") {
    enum { N = 7 };
    for (uint64_t seed = 1; seed <= 50; seed++) {
        int token[N], want[N], target[N];
        float u[N];
        llm_rng rng = llm_rng_seed(seed), same = rng;
        size_t count = 0;
        for (int i = 0; i < N; i++) token[i] = 10 + i;
        llm_rng_below(&same, N); /* the spare one */
        for (size_t i = 0; i < N; i++) u[i] = llm_rng_uniform(&same);
        for (int i = 0; i < N; i++) /* a number that is p itself stays */
            if (u[i] >= u[seed % N]) want[count++] = 10 + i;
        CHECK(llm_augmentation_delete(token, N, u[seed % N], &rng) == count);
        CHECK(memcmp(token, want, count * sizeof(int)) == 0);

        for (int i = 0; i < N; i++) token[i] = want[i] = i;
        const size_t a = llm_rng_below(&same, N), b = llm_rng_below(&same, N);
        want[a] = (int)b, want[b] = (int)a;
        llm_augmentation_swap(token, N, 1, &rng);
        CHECK(memcmp(token, want, sizeof want) == 0);
        llm_augmentation_swap(token, 1, 3, &rng); /* draws nothing */

        const float p = llm_rng_uniform(&same);
        for (int i = 0; i < N; i++) token[i] = i, target[i] = -1;
        llm_augmentation_mask(token, target, N, p, 99, 50, &rng);
        CHECK(token[0] == 0 && target[0] == -100);
        for (int i = 0; i < N; i++) CHECK(target[i] == -100 || target[i] == i);
    }
}

TEST(augmentation_mix,
     "masks: 15% to be guessed, of which 80% masked, 10% random, 10% as they are") {
    enum { N = 40000, MASK = 99 };
    int *token = (int *)test_memory(N, sizeof(int)), *target = (int *)test_memory(N, sizeof(int));
    double guess = 0.0, masked = 0.0, same = 0.0;
    llm_rng rng = llm_rng_seed(6);
    for (int i = 0; i < N; i++) token[i] = i % 50;
    llm_augmentation_mask(token, target, N, 0.15f, MASK, 50, &rng);
    for (int i = 0; i < N; i++) {
        if (target[i] == LLM_CROSS_ENTROPY_IGNORE) {
            CHECK(token[i] == i % 50);
            continue;
        }
        CHECK(target[i] == i % 50 && (token[i] == MASK || (token[i] >= 0 && token[i] < 50)));
        guess++, masked += token[i] == MASK, same += token[i] == i % 50;
    }
    CHECK_NEAR(guess / N, 0.15, 4.0 * sqrt(0.15 * 0.85 / N));
    CHECK_NEAR(masked / guess, 0.8, 4.0 * sqrt(0.16 / guess));
    CHECK_NEAR(same / guess, 0.1 + 0.1 / 50.0, 4.0 * sqrt(0.09 / guess));
}
