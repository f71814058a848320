/* fit: fits a table of yours with a linear model, and says how far to trust it.
 *
 *     cc -std=c99 -O3 -march=native examples/fit.c -o fit -lm
 *     ./fit                                        a table of flats drawn here, prices by ridge
 *     ./fit flats.csv --target price --drop id     your table: CSV with a header
 *
 *     --target NAME     what to predict (the last column)     --drop NAME    leave a column out
 *     --model NAME      linear, ridge, lasso for numbers; logistic for two texts, softmax for more
 *
 * A fifth of the rows is the test part, which nothing else sees: means, scales and the penalty come
 * from the rest, the penalty by five folds. Missing numbers become the mean, texts indicator
 * columns; rows without a target are left out. Draws learning.svg and path.svg. Errors: code 2. */
#include "../llm.h"

enum { LINEAR, RIDGE, LASSO, LOGISTIC, SOFTMAX, MODELS };
enum { FOLDS = 5, RESAMPLES = 200, GRID = 25, SIZES = 10, TEXTS = 20 };
static const char *const model_name[MODELS] = {"linear", "ridge", "lasso", "logistic", "softmax"};
static llm_csv csv;
static llm_csv_features f; /* x (n,d) with NaN where a value is missing */
static float *target;      /* (n): numbers, or the numbers of classes; NaN where it is missing */
static const char **class_name;
static size_t model, K, K_rows; /* classes, 0 for numbers; rows of w (K_rows,d+1), intercept last */
static size_t *order, n_all, *train, n_train, *test, n_test; /* rows with a target, shuffled */
static int *part; /* of each: 0..FOLDS-1, or FOLDS for the test */
static llm_arena arena;
static llm_error e;

/* Where something is not ok the program ends with a sentence: the section's, or this one. */
static void need(bool ok) {
    if (!ok) fprintf(stderr, "fit: %s\n", e.message), exit(2);
}
static void expect(bool ok, const char *why) { need(ok || llm_fail(&e, "%s", why)); }
static size_t *words(size_t n) { return (size_t *)llm_arena_take(&arena, n, sizeof(size_t)); }
static float *floats_of(size_t n) { return llm_arena_floats(&arena, n); }
static int *labels(const float *y, size_t n) {
    int *label = (int *)llm_arena_take(&arena, n, sizeof(int));
    for (size_t i = 0; i < n; i++) label[i] = K > 0 ? (int)y[i] : 0;
    return label;
}
static bool *second(const float *y, size_t n) { /* the second of two classes? */
    bool *yes = (bool *)llm_arena_take(&arena, n, sizeof(bool));
    for (size_t i = 0; i < n; i++) yes[i] = y[i] == 1.0f;
    return yes;
}

/* w minimises the mean loss on standardised x (n,d), which for numbers is half the squared error,
 * plus penalty |w|^2 / 2. The lasso's is a share of the least at which no column is left. False
 * where only one class occurs. */
static bool solve(double *w, const float *x, const float *y, size_t n, double penalty) {
    const size_t d = f.d;
    bool ok = true;
    for (size_t k = 0; k < K_rows * (d + 1); k++) w[k] = 0.0;
    if (model == LINEAR) llm_least_squares_fit(w, x, y, NULL, n, d, true, &arena);
    if (model == RIDGE) {
        const llm_ridge_path p = llm_ridge_path_init(x, y, n, d, true, &arena);
        llm_ridge_path_at(w, &w[d], &p, penalty * (double)n);
    }
    if (model == LASSO) {
        const llm_regularization_data p = llm_regularization_center(x, y, n, d, true, &arena);
        penalty = fmax(penalty * llm_lasso_max(&p), 1e-30); /* all y may be equal */
        llm_lasso_path(w, &p, &penalty, 1, NULL, 1e-10, &arena);
        w[d] = llm_regularization_intercept(&p, w);
    }
    if (model == LOGISTIC)
        llm_binary_class_fit(&ok, w, x, second(y, n), NULL, n, d, penalty, 1e-6, 5000, &arena);
    if (model == SOFTMAX)
        llm_multiclass_fit(w, x, labels(y, n), n, d, K, penalty, 1e-6, 5000, &arena);
    return ok;
}

/* The mean loss of w: squared error, or -log p(right class). */
static double judge(const double *w, const float *x, const float *y, size_t n) {
    float *off = floats_of(n);
    if (model == LOGISTIC)
        return llm_binary_class_loss(NULL, w, x, second(y, n), NULL, n, f.d, 0.0);
    if (model == SOFTMAX)
        return llm_multiclass_loss(NULL, w, x, labels(y, n), n, f.d, K, 0.0, false, &arena);
    llm_least_squares_predict(off, x, w, n, f.d, true);
    for (size_t i = 0; i < n; i++) off[i] = (off[i] - y[i]) * (off[i] - y[i]);
    return (double)llm_supervised_mean(off, n);
}

/* w, per standard deviation, and unit (or NULL), per unit of the columns <- the rows `in` (n); loss
 * (2), or NULL: how good w is there, and on `out` (m), which is brought to the scale of `in`. */
static bool run(double *w, double *unit, double *loss, const size_t *in, size_t n,
                const size_t *out, size_t m, double penalty) {
    const size_t mark = arena.used, d = f.d;
    float *mean = floats_of(d), *scale = floats_of(d);
    bool ok = true;
    for (int held = 0; held < (loss ? 2 : 1) && ok; held++) {
        const size_t *row = held ? out : in, size = held ? m : n;
        float *x = floats_of(size * d), *y = floats_of(size);
        llm_split_gather(x, f.x, row, size, d);
        llm_split_gather(y, target, row, size, 1);
        if (!held) llm_supervised_standardize_fit(mean, scale, x, size, d);
        llm_supervised_standardize(x, x, mean, scale, size, d);
        if (!held) ok = solve(w, x, y, size, penalty);
        if (ok && loss) loss[held] = judge(w, x, y, size);
    }
    for (size_t k = 0; unit && k < K_rows * (d + 1); k++) {
        const size_t j = k % (d + 1);
        unit[k] = j < d ? w[k] / (double)scale[j] : w[k];
        for (size_t i = 0; j == d && i < d; i++) unit[k] -= unit[k - d + i] * (double)mean[i];
    }
    arena.used = mark;
    return ok;
}

/* out (m) <- the rows of part k, in (n) <- the others that are not for the test. */
static void pick(size_t *in, size_t *n, size_t *out, size_t *m, int k) {
    *n = *m = 0;
    for (size_t i = 0; i < n_all; i++) {
        if (part[i] == k) out[(*m)++] = order[i];
        if (part[i] != k && part[i] < FOLDS) in[(*n)++] = order[i];
    }
}

/* loss (2): means over the folds, on what was fitted and on what was held out. A fit sees all other
 * folds, or the first `most` rows of them. */
static void folds(double *loss, double penalty, size_t most) {
    const size_t mark = arena.used;
    size_t *in = words(n_all), *out = words(n_all), n, m;
    double *w = llm_arena_doubles(&arena, K_rows * (f.d + 1)), one[2];
    loss[0] = loss[1] = 0.0;
    for (int k = 0; k < FOLDS; k++) {
        pick(in, &n, out, &m, k);
        expect(run(w, NULL, one, in, n < most ? n : most, out, m, penalty), "a class is too rare");
        loss[0] += one[0] / FOLDS, loss[1] += one[1] / FOLDS;
    }
    arena.used = mark;
}

/* The penalty with the least loss held out, of a grid (GRID) that falls over four decades. */
static double choose(double *grid) {
    double best = HUGE_VAL, loss[2], penalty = 0.0;
    for (size_t k = 0; k < GRID; k++) {
        grid[k] = (model == LASSO ? 1.0 : 10.0) * pow(10.0, -4.0 * (double)k / (GRID - 1));
        if (model != LINEAR) folds(loss, grid[k], n_train);
        if (model != LINEAR && loss[1] < best) best = loss[1], penalty = grid[k];
    }
    if (model != LINEAR) printf("penalty %.4g, chosen by %d folds\n", penalty, FOLDS);
    return penalty;
}

/* Coefficients per unit of their columns, with the percentiles of fits to resampled rows. */
static void coefficients(double penalty) {
    const size_t d = f.d, P = K_rows * (d + 1);
    size_t *drawn = words(n_train), sorted[RESAMPLES];
    float *all = floats_of(P * RESAMPLES);
    double *w = llm_arena_doubles(&arena, P), *unit = llm_arena_doubles(&arena, P);
    llm_rng rng = llm_rng_seed(1);
    for (size_t b = 0; b < RESAMPLES; b++) {
        llm_bootstrap_indices(drawn, n_train, &rng);
        for (size_t i = 0; i < n_train; i++) drawn[i] = train[drawn[i]];
        expect(run(w, unit, NULL, drawn, n_train, NULL, 0, penalty), "a class is too rare");
        for (size_t k = 0; k < P; k++) all[k * RESAMPLES + b] = (float)unit[k];
    }
    run(w, unit, NULL, train, n_train, NULL, 0, penalty);
    for (size_t k = 0; k < P; k++) {
        double low, high;
        const size_t j = k % (d + 1), row = model == SOFTMAX ? k / (d + 1) : 1;
        if (j == 0 && K > 0) printf("for '%s'\n", class_name[row]);
        if (j == 0) printf("%44s      90%% of %d resamples\n", "per unit", RESAMPLES);
        llm_bootstrap_interval(&low, &high, LLM_BOOTSTRAP_PERCENTILE, all + k * RESAMPLES,
                               RESAMPLES, unit[k], 0.0, 0.9, sorted);
        printf("  %-30.30s %11.5g %11.4g %11.4g%s\n", j < d ? f.name[j] : "(intercept)", unit[k],
               low, high, low > 0.0 || high < 0.0 ? "" : "  0 is inside");
    }
}

static void draw(const char *file, const llm_chart *c, const double *x, const double *y,
                 const char *const *name, size_t S, size_t N) {
    llm_buffer svg = {NULL, 0, 0};
    expect(llm_chart_lines(&svg, c, x, y, name, S, N), "out of memory");
    need(llm_file_write(file, svg.data, svg.size, &e));
    llm_buffer_free(&svg);
}

static void pictures(double penalty, const double *grid) {
    const size_t d = f.d, S = d < LLM_CHART_LINES ? d : LLM_CHART_LINES, most = n_train * 4 / 5;
    const size_t least = most > 3 * (d + 2) ? d + 2 : most / 2;
    double one[2], size[SIZES], loss[2 * SIZES], *path = llm_arena_doubles(&arena, S * GRID);
    double *w = llm_arena_doubles(&arena, K_rows * (d + 1));
    const char *name[LLM_CHART_LINES] = {"training", "held out"};
    llm_chart c = {"the learning curve", "rows fitted",
                   K > 0 ? "mean of -log p" : "root of the mean square", false, (double)NAN};
    for (size_t k = 0; k < SIZES; k++) {
        size[k] = (double)(least + (most - least) * (k + 1) / SIZES);
        folds(one, penalty, (size_t)size[k]);
        for (size_t p = 0; p < 2; p++) loss[p * SIZES + k] = K > 0 ? one[p] : sqrt(one[p]);
    }
    draw("learning.svg", &c, size, loss, name, 2, SIZES);
    if (model == LINEAR) return;
    for (size_t k = 0; k < GRID; k++) {
        run(w, NULL, NULL, train, n_train, NULL, 0, grid[k]);
        for (size_t j = 0; j < S; j++) path[j * GRID + k] = w[j], name[j] = f.name[j];
    }
    c.title = model == SOFTMAX ? "the path of the first class" : "the regularization path";
    c.across = "penalty", c.up = "coefficient per standard deviation";
    c.log_x = true, c.mark = penalty;
    draw("path.svg", &c, grid, path, name, S, GRID);
}

/* 150 flats. The number on the door says nothing; rooms go with the area and say nothing more. */
static void flats(llm_buffer *b) {
    static const char *const quarter[3] = {"centre", "harbour", "hills"};
    llm_rng rng = llm_rng_seed(1);
    llm_buffer_print(b, "area,rooms,age,distance,door,quarter,sold,price\n");
    for (int i = 0; i < 150; i++) {
        float z[6];
        llm_rng_normal_fill(&rng, z, 6);
        const size_t q = llm_rng_below(&rng, 3), door = 1 + llm_rng_below(&rng, 99);
        const float area = fmaxf(25.0f, 80.0f + 25.0f * z[0]), age = 20.0f * z[1] * z[1];
        const float away = fabsf(5.0f * z[2]), rooms = area / 28.0f + 0.5f * z[4];
        const float price = 3.1f * area - 0.7f * age - 6.0f * away + (q == 2 ? 85.0f : 40.0f);
        llm_buffer_print(b, "%.0f,%.0f,", (double)area, (double)rooms);
        if (i % 23 != 5) llm_buffer_print(b, "%.0f", (double)age);
        llm_buffer_print(b, ",%.1f,%zu,%s,%s,%.1f\n", (double)away, door, quarter[q],
                         away + z[5] < 3.5f ? "yes" : "no", (double)(price + 40.0f * z[3]));
    }
}

/* target, K, model <- a column. Without a model given, numbers get ridge, texts the others. */
static void read_target(size_t column, bool given) {
    const bool texts = given ? model >= LOGISTIC : !llm_csv_features_number(&csv, column);
    int *code = (int *)llm_arena_take(&arena, csv.rows, sizeof(int));
    target = floats_of(csv.rows);
    class_name = (const char **)llm_arena_take(&arena, csv.rows, sizeof(char *));
    if (!texts) need(llm_csv_numbers(target, 1, &csv, column, &e));
    if (texts) llm_csv_categories(code, class_name, &K, &csv, column);
    for (size_t i = 0; texts && i < csv.rows; i++) target[i] = code[i] < 0 ? NAN : (float)code[i];
    if (!given) model = !texts ? RIDGE : K == 2 ? LOGISTIC : SOFTMAX;
    expect(!texts || (K >= 2 && K <= (model == LOGISTIC ? 2 : TEXTS)),
           "the target has too few or too many different texts");
    K_rows = model == SOFTMAX ? K : 1;
}

/* order, part, train, test: at random, with every class in its share. */
static void deal(void) {
    const float share[FOLDS + 1] = {4.0f, 4.0f, 4.0f, 4.0f, 4.0f, 5.0f};
    float *y = floats_of(csv.rows);
    llm_rng rng = llm_rng_seed(1);
    order = words(csv.rows), train = words(csv.rows), test = words(csv.rows);
    part = (int *)llm_arena_take(&arena, csv.rows, sizeof(int));
    llm_split_order(order, csv.rows, &rng);
    for (size_t i = 0; i < csv.rows; i++)
        if (!isnan(target[order[i]])) y[n_all] = target[order[i]], order[n_all++] = order[i];
    expect(n_all >= 20, "fewer than 20 rows have a target");
    llm_split_parts(part, labels(y, n_all), n_all, K > 0 ? K : 1, share, FOLDS + 1, &rng, &arena);
    pick(train, &n_train, test, &n_test, FOLDS);
}

int main(int argc, char **argv) {
    static const char *const name[3] = {"--target", "--model", "--drop"};
    const char *table = NULL, *option[2] = {NULL, NULL};
    size_t bytes, drops = 0;
    for (int i = 1; i < argc; i++) {
        size_t k = 0;
        while (k < 3 && strcmp(argv[i], name[k]) != 0) k++;
        expect(k < 3 || (!table && argv[i][0] != '-'), "usage: see the head of fit.c");
        expect(k == 3 || ++i < argc, "an option without its value");
        if (k == 3) table = argv[i];
        if (k == 2) argv[drops++] = argv[i]; /* what to drop moves to the front */
        if (k < 2) option[k] = argv[i];
    }
    while (option[1] && model < MODELS && strcmp(option[1], model_name[model]) != 0) model++;
    expect(model < MODELS, "--model: linear, ridge, lasso, logistic or softmax");
    llm_buffer drawn = {NULL, 0, 0};
    if (!table) flats(&drawn);
    need(table ? llm_csv_read(&csv, table, ',', &e)
               : llm_csv_parse(&csv, drawn.data, drawn.size, ',', &e));
    llm_buffer_free(&drawn);
    size_t column = csv.columns - 1;
    bool use[1000];
    expect(csv.columns <= 1000, "more than 1000 columns");
    if (option[0]) need(llm_csv_column(&column, &csv, option[0], &e));
    for (size_t c = 0; c < csv.columns; c++) use[c] = c != column;
    for (size_t k = 0, c = 0; k < drops; k++, use[c] = false)
        need(llm_csv_column(&c, &csv, argv[k], &e));
    need(llm_csv_features_read(&f, &csv, use, TEXTS, &e));
    bool fits = llm_size_mul(&bytes, csv.rows + TEXTS * (f.d + 1) + 64, 64 * f.d + 2000);
    expect(fits && llm_arena_create(&arena, bytes), "out of memory");
    read_target(column, option[1] != NULL);
    deal();
    printf("%s regression: %zu rows with a target, %zu to fit, %zu to test; %zu columns\n",
           model_name[model], n_all, n_train, n_test, f.d);
    double grid[GRID], loss[2], none[2], *w = llm_arena_doubles(&arena, K_rows * (f.d + 1));
    const double penalty = choose(grid);
    const size_t d = f.d;
    f.d = 0; /* the constant model sees no column */
    run(w, NULL, none, train, n_train, test, n_test, 1.0);
    f.d = d;
    expect(run(w, NULL, loss, train, n_train, test, n_test, penalty), "a class is too rare");
    printf("test error %.4g, of the constant model %.4g: %s\n", loss[1], none[1],
           K > 0 ? "means of -log p" : "mean squares");
    coefficients(penalty);
    pictures(penalty, grid);
    return 0; /* the rest is freed with the process */
}
