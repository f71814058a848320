/* @augmentation */
#include "../test.h"

#include "../../llm.h"

TEST(augmentation, "a warp equals SciPy's affine_transform, with what lies outside") {
    for (size_t k = 0; k < 4; k++) {
        const float *s = golden("%zu/shape", k);
        const size_t C = (size_t)s[0], H = (size_t)s[1], W = (size_t)s[2];
        llm_augmentation_map map;
        float *y = floats(C * H * W);
        memcpy(map.m, golden("%zu/m", k), sizeof map.m);
        llm_augmentation_warp(y, golden("%zu/x", k), C, H, W, &map, 0.25f);
        CHECK_GOLDEN(y, C * H * W, 1e-5f, "%zu/y", k); /* float coordinates of size 8 */
    }
}

TEST(augmentation,
     "whole moves and quarter turns are exact, four of them nothing, far away outside") {
    enum { H = 5, W = 4, S = 6 };
    float x[H * W], y[H * W], a[S * S], b[S * S], c[S * S];
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, x, H * W);
    llm_rng_normal_fill(&rng, a, S * S);
    llm_augmentation_map map = llm_augmentation_similarity(0.0f, 1.0f, 2.0f, -1.0f, H, W);
    llm_augmentation_warp(y, x, 1, H, W, &map, 7.0f);
    for (size_t i = 0; i < H * W; i++) { /* two down, one to the left */
        const float want = i / W >= 2 && i % W + 1 < W ? x[(i / W - 2) * W + i % W + 1] : 7.0f;
        CHECK_NEAR(y[i], want, 1e-5);
    }
    map = llm_augmentation_similarity(LLM_PI / 2.0f, 1.0f, 0.0f, 0.0f, S, S);
    llm_augmentation_warp(b, a, 1, S, S, &map, 0.0f);
    llm_augmentation_square(c, a, 1, S, 1);
    CHECK_ALL_NEAR(b, c, S * S, 1e-5f);
    map = llm_augmentation_similarity(0.0f, 2.0f, 0.0f, 0.0f, H, W);
    CHECK_NEAR(map.m[0], 0.5, 1e-6); /* twice as large: neighbours come from half a pixel apart */
    CHECK_NEAR(map.m[0] * 2.0f + map.m[1] * 1.5f + map.m[2], 2.0, 1e-5);
    CHECK_NEAR(map.m[3] * 2.0f + map.m[4] * 1.5f + map.m[5], 1.5, 1e-5);
    map = llm_augmentation_similarity(0.0f, 1.0f, 1e9f, -1e9f, H, W);
    llm_augmentation_warp(y, x, 1, H, W, &map, 3.0f);
    for (size_t i = 0; i < H * W; i++) CHECK(y[i] == 3.0f);
    x[5] = NAN; /* a pixel without a share is not read */
    map = llm_augmentation_similarity(0.0f, 1.0f, 0.0f, 0.0f, H, W);
    llm_augmentation_warp(y, x, 1, H, W, &map, 0.0f);
    for (size_t i = 0; i < H * W; i++) CHECK(i == 5 ? isnan(y[i]) : y[i] == x[i]);
}

TEST(augmentation, "a picture turned, made larger and moved at once: the map leads back") {
    enum { H = 9, W = 6 };
    const double angle = 0.7, zoom = 1.5, dy = 2.0, dx = -0.75;
    const llm_augmentation_map map =
        llm_augmentation_similarity((float)angle, (float)zoom, (float)dy, (float)dx, H, W);
    for (size_t i = 0; i < H * W; i++) { /* up is minus a row: counterclockwise */
        const double row = (double)(i / W) - 0.5 * (H - 1),
                     column = (double)(i % W) - 0.5 * (W - 1);
        const double to_row = zoom * (cos(angle) * row - sin(angle) * column) + 0.5 * (H - 1) + dy;
        const double to_column =
            zoom * (sin(angle) * row + cos(angle) * column) + 0.5 * (W - 1) + dx;
        const float *m = map.m;
        CHECK_NEAR((double)m[0] * to_row + (double)m[1] * to_column + (double)m[2], i / W, 1e-5);
        CHECK_NEAR((double)m[3] * to_row + (double)m[4] * to_column + (double)m[5], i % W, 1e-5);
    }
}

TEST(augmentation, "the eight pictures of a square are NumPy's, an orbit of the group") {
    enum { C = 2, S = 3, n = C * S * S };
    float orbit[8 * n], other[8 * n], turned[n];
    llm_augmentation_orbit(orbit, golden("square/x"), C, S);
    CHECK_GOLDEN(orbit, 8 * n, 0.0f, "square/y");
    for (size_t g = 0; g < 8;
         g++) { /* from each of its pictures the same eight, in another order */
        llm_augmentation_square(turned, golden("square/x"), C, S, g);
        llm_augmentation_orbit(other, turned, C, S);
        for (size_t k = 0; k < 8; k++) {
            size_t found = 0;
            for (size_t j = 0; j < 8; j++)
                found += memcmp(other + k * n, orbit + j * n, n * sizeof(float)) == 0;
            CHECK(found == 1);
        }
    }
    CHECK_ASSERTS(llm_augmentation_square(turned, orbit, C, S, 8));
}

TEST(augmentation, "cutout fills a square cut off at the border; noise has its deviation") {
    enum { C = 2, H = 7, W = 9 };
    double corner = 0.0;
    llm_rng rng = llm_rng_seed(2);
    for (size_t draw = 0; draw < 200; draw++) {
        const size_t side = 4 + draw % 2;
        float x[C * H * W] = {0.0f};
        llm_augmentation_cutout(x, C, H, W, side, 1.0f, &rng);
        size_t top = H, bottom = 0, left = W, right = 0, count = 0;
        for (size_t i = 0; i < C * H * W; i++) {
            if (x[i] != 1.0f) continue;
            const size_t row = i / W % H, column = i % W;
            top = row < top ? row : top, bottom = row + 1 > bottom ? row + 1 : bottom;
            left = column < left ? column : left, right = column + 1 > right ? column + 1 : right;
            count++;
        }
        CHECK(count == C * (bottom - top) * (right - left)); /* a box, the same in both channels */
        CHECK(bottom - top <= side && (bottom - top == side || top == 0 || bottom == H));
        CHECK(right - left <= side && (right - left == side || left == 0 || right == W));
        CHECK(bottom - top >= (side + 1) / 2 && right - left >= (side + 1) / 2);
        corner += count < C * side * side;
    }
    CHECK(corner > 100.0 && corner < 180.0); /* 1 - 4 6 / 63, 1 - 3 5 / 63: 138 of 200 +- 7 */
    float *z = zeros(20000), unit[3] = {1.0f, 1.0f, 1.0f};
    llm_augmentation_noise(z, 20000, 0.5f, &rng);
    CHECK_NEAR(dot(z, z, 20000) / 20000.0, 0.25, 4.0 * 0.25 * sqrt(2.0 / 20000.0));
    llm_augmentation_noise(unit, 3, 0.0f, &rng);
    CHECK(unit[0] == 1.0f);
    llm_rng same = rng; /* on every number, one draw each */
    llm_augmentation_noise(unit, 3, 2.0f, &rng);
    for (size_t i = 0; i < 3; i++) CHECK_NEAR(unit[i], 1.0f + 2.0f * llm_rng_normal(&same), 1e-6);
    for (size_t i = 0; i < 3; i++) unit[i] = 1.0f;
    llm_augmentation_cutout(unit, 1, 1, 3, 0, 9.0f, &rng);
    CHECK(unit[0] == 1.0f && unit[1] == 1.0f && unit[2] == 1.0f);
}

TEST(augmentation, "RandAugment repeats with its seed, does nothing at strength 0, stays in 0..1") {
    enum { C = 1, S = 8, n = 64 };
    float x[n], y[n], z[n];
    int label[1];
    bool moved = false;
    llm_arena arena;
    CHECK(llm_arena_create(&arena, n * sizeof(float)));
    llm_rng rng = llm_rng_seed(3);
    llm_glyphs(x, label, 1, 0.0f, 0.0f, &rng);
    for (size_t draw = 0; draw < 60; draw++) {
        llm_rng a = llm_rng_seed(draw), b = a, c = a;
        llm_augmentation_rand(y, x, C, S, S, 2, 1.0f, &a, &arena);
        llm_augmentation_rand(z, x, C, S, S, 2, 1.0f, &b, &arena);
        CHECK_ALL_NEAR(z, y, n, 0.0f);
        moved = moved || memcmp(y, x, sizeof x) != 0;
        for (size_t i = 0; i < n; i++) CHECK(y[i] >= 0.0f && y[i] <= 1.0f);
        llm_augmentation_rand(y, x, C, S, S, 3, 0.0f, &c, &arena);
        CHECK_ALL_NEAR(y, x, n, 1e-5f);
    }
    CHECK(moved && arena.used == 0);
    /* Each operation alone, found by its generator: the largest change it makes on a flat
     * picture. */
    size_t seen[9] = {0};
    for (size_t draw = 0; draw < 200; draw++) {
        llm_rng a = llm_rng_seed(1000 + draw), b = a;
        const size_t which = llm_rng_below(&b, 9);
        const bool more = llm_rng_below(&b, 2) != 0;
        float flat[n], sum = 0.0f;
        for (size_t i = 0; i < n; i++) flat[i] = i == 27 ? 0.7f : 0.5f;
        llm_augmentation_rand(y, flat, C, S, S, 1, 1.0f, &a, &arena);
        for (size_t i = 0; i < n; i++) sum += y[i];
        seen[which]++;
        if (which == 6) CHECK_NEAR(y[0], more ? 1.0 : 0.0, 1e-5); /* brighter, darker by 0.5 */
        if (which == 7) CHECK_NEAR(y[27] - y[0], 0.2 * (more ? 1.6 : 0.4), 1e-5);
        if (which == 2) /* 2.4 rows down or up: the others come from outside */
            CHECK(y[more ? 3 : 59] == 0.0f && y[more ? 59 : 3] >= 0.5f);
        if (which == 3) CHECK(y[more ? 32 : 39] == 0.0f && y[more ? 39 : 32] >= 0.5f);
        if (which == 0 || which == 4 || which == 5) CHECK(sum < 32.4f && sum > 16.0f);
        if (which == 4 || which == 5) { /* source row, or column, 0.3 (1 - 3.5) or (0 - 3.5) off */
            CHECK(y[more ? 0 : 7] == 0.0f && y[more ? 63 : 56] == 0.0f);
            CHECK_NEAR(y[more ? 1 : 6], which == 4 ? 0.125 : 0.475, 1e-5);
        }
        if (which == 1 && more) CHECK_NEAR(y[0], 0.5, 1e-5); /* larger: nothing from outside */
        if (which == 1 && !more) CHECK(y[0] == 0.0f);
        if (which == 8) CHECK(y[0] == 0.5f);
    }
    for (size_t k = 0; k < 9; k++) CHECK(seen[k] > 5);
    llm_arena_destroy(&arena);
}

TEST(augmentation, "RandAugment's operations on an oblong picture, each as strong as it says") {
    enum { H = 6, W = 9, n = H * W };
    float x[n], y[n], want[n];
    size_t seen[9] = {0}, widest = 0;
    llm_arena arena;
    CHECK(llm_arena_create(&arena, (n * sizeof(float) + 63) / 64 * 64));
    for (size_t i = 0; i < n; i++) x[i] = (float)((7 * i + 20) % n) / n; /* 0 to 53 / 54 */
    for (size_t draw = 0; draw < 300; draw++) {
        llm_rng a = llm_rng_seed(2000 + draw), b = a;
        const size_t which = llm_rng_below(&b, 9);
        const float s = llm_rng_below(&b, 2) ? 0.8f : -0.8f;
        seen[which]++;
        llm_augmentation_rand(y, x, 1, H, W, 1, 0.8f, &a, &arena);
        if (which < 4) {
            const llm_augmentation_map map = llm_augmentation_similarity(
                which == 0 ? s * LLM_PI / 6.0f : 0.0f, which == 1 ? 1.0f + 0.3f * s : 1.0f,
                which == 2 ? 0.3f * s * H : 0.0f, which == 3 ? 0.3f * s * W : 0.0f, H, W);
            llm_augmentation_warp(want, x, 1, H, W, &map, 0.0f);
            CHECK_ALL_NEAR(y, want, n, 1e-5f);
        }
        size_t grey = 0;
        for (size_t i = 0; i < n; i++) {
            const float mean = 0.5f * (n - 1.0f) / n;
            const float brighter = x[i] + 0.5f * s,
                        sharper = mean + (1.0f + 0.6f * s) * (x[i] - mean);
            if (which == 6) CHECK_NEAR(y[i], fminf(fmaxf(brighter, 0.0f), 1.0f), 1e-5);
            if (which == 7) CHECK_NEAR(y[i], fminf(fmaxf(sharper, 0.0f), 1.0f), 1e-5);
            if (which == 8) CHECK(y[i] == x[i] || y[i] == 0.5f);
            grey += y[i] != x[i];
        }
        if (which == 8 && grey > widest) widest = grey;
    }
    for (size_t k = 0; k < 9; k++) CHECK(seen[k] > 10);
    CHECK(widest == 4); /* a side of 0.8 6 / 2 = 2.4 */
    llm_arena_destroy(&arena);
}

enum { ROWS = 50, COPIES = 20, FRESH = 1000, PIXELS = LLM_GLYPHS_PIXELS };

/* Error on fresh digits of an MLP trained on 5 of each, shown as they are or as 20 copies: moved by
 * up to a pixel, or turned by half a circle half of the time. */
static double augmentation_error(int how, uint64_t seed) {
    const size_t size[3] = {PIXELS, 64, 10}, rows = ROWS * COPIES;
    const llm_mlp m = {size, 2, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_SOFTMAX};
    float *x = floats((ROWS + FRESH) * PIXELS), *w = floats(llm_mlp_param_count(&m));
    float *copies = floats(rows * PIXELS);
    int label[ROWS + FRESH], *copied = (int *)test_memory(rows, sizeof(int));
    llm_rng rng = llm_rng_seed(seed);
    llm_glyphs(x, label, ROWS + FRESH, 1.0f, 0.1f, &rng);
    for (size_t i = 0; i < rows; i++) {
        const float *from = x + i % ROWS * PIXELS;
        float *to = copies + i * PIXELS;
        copied[i] = label[i % ROWS];
        const float dy = 2.0f * llm_rng_uniform(&rng) - 1.0f,
                    dx = 2.0f * llm_rng_uniform(&rng) - 1.0f;
        const llm_augmentation_map map = llm_augmentation_similarity(0.0f, 1.0f, dy, dx, 8, 8);
        if (how == 1)
            llm_augmentation_warp(to, from, 1, 8, 8, &map, 0.0f);
        else
            llm_augmentation_square(to, from, 1, 8, how == 2 && dy > 0.0f ? 2 : 0);
    }
    llm_mlp_train_config config = llm_mlp_train_defaults();
    config.epochs = 6, config.lr = 0.03f, config.seed = seed;
    llm_arena arena;
    CHECK(llm_arena_create(&arena, llm_mlp_train_workspace(&m, 64) + FRESH * 100));
    llm_mlp_init(w, &m, &rng);
    llm_mlp_train(w, &m, copies, copied, NULL, rows, &config, &arena);
    const double right = llm_mlp_accuracy(&m, w, x + ROWS * PIXELS, label + ROWS, FRESH, &arena);
    llm_arena_destroy(&arena);
    return 1.0 - right;
}

TEST(augmentation, "five digits of each are worth more when moved, and less when turned over") {
    for (uint64_t first = 1; first < 3; first++) { /* two sets of four seeds */
        double none = 0.0, moved = 0.0, turned = 0.0;
        for (uint64_t seed = 4 * first - 3; seed <= 4 * first; seed++) {
            none += augmentation_error(0, seed) / 4.0;
            moved += augmentation_error(1, seed) / 4.0;
            turned += augmentation_error(2, seed) / 4.0;
        }
        /* Eight other sets: 0.62 to 0.79, and 1.10 to 1.17. */
        CHECK(moved < 0.85 * none);
        CHECK(turned > 1.05 * none);
    }
}
