/* fit: fits a table of yours with a linear model, and says how far to trust it.
 *
 *     cc -std=c99 -O3 -march=native examples/fit.c -o fit -lm
 *     ./fit                                        a table of flats drawn here, prices by ridge
 *     ./fit flats.csv --target price --drop id     your table: CSV with a header
 *
 * The target is a column of numbers (ridge, lasso, linear) or of texts (logistic for two, softmax
 * for more). A fifth of the rows is the test part, which nothing else sees: means, scales and the
 * penalty come from the rest, the penalty by folds. Missing numbers become the mean, texts become
 * indicator columns, rows without a target are left out. An error ends with exit code 2. */
#include "../llm.h"

enum { LINEAR, RIDGE, LASSO, LOGISTIC, SOFTMAX, MODELS };
static const char *const model_name[MODELS] = {"linear", "ridge", "lasso", "logistic", "softmax"};

static struct {
    const char *target, *drop[32], *model, *out;
    double folds, penalty, test, resamples, level, seed;
    size_t drops;
} o;
static const struct {
    const char *name, **text;           /* a text, or */
    double *number, start, least, most; /* a number; whole where the help says N */
    const char *help;
} known[] = {
    {"--target", &o.target, NULL, 0, 0, 0, "NAME    the column to predict (the last one)"},
    {"--drop", NULL, NULL, 0, 0, 0, "NAME      a column to leave out; may be given often"},
    {"--model", &o.model, NULL, 0, 0, 0, "NAME     linear, ridge, lasso, logistic or softmax"},
    {"--penalty", NULL, &o.penalty, 0, 1e-9, 1e9, "X      instead of the choice by folds"},
    {"--folds", NULL, &o.folds, 5, 2, 1e6, "N        folds of the training part (5)"},
    {"--test", NULL, &o.test, 0.2, 0.01, 0.9, "X         share of rows to test with (0.2)"},
    {"--resamples", NULL, &o.resamples, 200, 20, 1e6, "N    for the intervals (200)"},
    {"--level", NULL, &o.level, 0.9, 0.01, 0.99, "X        of the intervals (0.9)"},
    {"--seed", NULL, &o.seed, 1, 0, 4294967295.0, "N         of all random numbers (1)"},
    {"--out", &o.out, NULL, 0, 0, 0, "DIR        where learning.svg and path.svg go (.)"},
};
enum { KNOWN = sizeof known / sizeof *known, GRID = 25, SIZES = 10, NAME = 64 };

/* The table as a model sees it: x (n,d) with NaN where a number is missing, and the target. */
static struct {
    size_t n, d, K; /* K: classes, 0 for numbers */
    float *x, *y;
    int *label, model;
    char (*name)[NAME];
    const char **class_name, *target;
} t;
static llm_arena arena;
static llm_csv csv;
static llm_error e;

static void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "fit: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    exit(2);
}
static size_t *words(size_t n) { return (size_t *)llm_arena_take(&arena, n, sizeof(size_t)); }

/* ---- a model: w (rows(),d+1), the last of each row is the intercept ---- */

static size_t rows(void) { return t.model == SOFTMAX ? t.K : 1; }

/* Fits standardised x (n,d); minimises mean loss + penalty times |w|^2 / 2, or |w|_1 for the lasso,
 * with half the squared residual as the loss of numbers. False where a resample has one class. */
static bool solve(double *w, const float *x, const float *y, const int *label, size_t n,
                  double penalty) {
    const size_t mark = arena.used, d = t.d;
    bool ok = true;
    for (size_t k = 0; k < rows() * (d + 1); k++) w[k] = 0.0;
    if (t.model == LINEAR) {
        llm_least_squares_fit(w, x, y, NULL, n, d, true, &arena);
    } else if (t.model == RIDGE) {
        const llm_ridge_path p = llm_ridge_path_init(x, y, n, d, true, &arena);
        llm_ridge_path_at(w, &w[d], &p, penalty * (double)n);
    } else if (t.model == LASSO) {
        const llm_regularization_data p = llm_regularization_center(x, y, n, d, true, &arena);
        llm_lasso_path(w, &p, &penalty, 1, NULL, 1e-10, &arena);
        w[d] = llm_regularization_intercept(&p, w);
    } else if (t.model == LOGISTIC) {
        bool *yes = (bool *)llm_arena_take(&arena, n, sizeof(bool));
        for (size_t i = 0; i < n; i++) yes[i] = label[i] == 1;
        llm_binary_class_fit(&ok, w, x, yes, NULL, n, d, penalty, 1e-6, 5000, &arena);
    } else {
        llm_multiclass_fit(w, x, label, n, d, t.K, penalty, 1e-6, 5000, &arena);
    }
    arena.used = mark;
    return ok;
}

/* How wrong w is on rows: each one's squared error, or -log of the right class's probability; *hit
 * gets R^2 or the share of right guesses. */
static void judge(float *loss, double *hit, const double *w, const float *x, const float *y,
                  const int *label, size_t n) {
    const size_t mark = arena.used;
    float *guess = llm_arena_floats(&arena, n);
    double *p = llm_arena_doubles(&arena, t.K + 2), right = 0.0;
    if (t.K == 0) llm_least_squares_predict(guess, x, w, n, t.d, true);
    for (size_t i = 0; i < n; i++) {
        if (t.K == 0) {
            loss[i] = (guess[i] - y[i]) * (guess[i] - y[i]);
            continue;
        }
        p[0] = 0.0;
        llm_multiclass_scores(t.model == SOFTMAX ? p : p + 1, w, x + i * t.d, t.d, rows());
        llm_multiclass_softmax(p, p, t.K);
        size_t best = 0;
        for (size_t k = 1; k < t.K; k++) best = p[k] > p[best] ? k : best;
        right += best == (size_t)label[i] ? 1.0 / (double)n : 0.0;
        loss[i] = (float)-log(fmax(p[label[i]], 1e-30));
    }
    *hit = t.K > 0 ? right : n > 1 ? llm_regression_score(guess, y, n, t.d + 1).r2 : 0.0;
    arena.used = mark;
}

/* w, in units of the columns' standard deviations, from the rows in train (n); the losses of those
 * and of test (m), which are brought to the scale of train. */
static bool run(double *w, float *mean, float *scale, float *loss, float *loss_test, double *hit,
                const size_t *train, size_t n, const size_t *test, size_t m, double penalty) {
    const size_t mark = arena.used, d = t.d;
    bool ok = true;
    for (int part = 0; part < 2 && ok; part++) {
        const size_t *row = part ? test : train, size = part ? m : n;
        float *x = llm_arena_floats(&arena, size * d), *y = llm_arena_floats(&arena, size);
        int *label = (int *)llm_arena_take(&arena, size, sizeof(int));
        llm_split_gather(x, t.x, row, size, d);
        for (size_t i = 0; i < size; i++) y[i] = t.y[row[i]], label[i] = t.label[row[i]];
        if (!part) llm_supervised_standardize_fit(mean, scale, x, size, d);
        llm_supervised_standardize(x, x, mean, scale, size, d);
        if (!part) ok = solve(w, x, y, label, size, penalty);
        if (ok && (part ? loss_test : loss))
            judge(part ? loss_test : loss, hit, w, x, y, label, size);
    }
    arena.used = mark;
    return ok;
}

/* ---- choices: what is fitted on the training part ---- */

static size_t *train, n_train, *test, n_test;
static int *fold;

/* Mean loss on rows held out: every fold once, by a fit on the others, or on the first `most` of
 * them. *own gets the mean loss on what was fitted, *error the standard error; both may be NULL. */
static double held_out(double *own, float *error, double penalty, size_t most) {
    const size_t mark = arena.used;
    size_t *in = words(n_train), *out = words(n_train), done = 0;
    float *loss = llm_arena_floats(&arena, n_train), *fitted = llm_arena_floats(&arena, n_train);
    float *mean = llm_arena_floats(&arena, t.d), *scale = llm_arena_floats(&arena, t.d);
    double *w = llm_arena_doubles(&arena, rows() * (t.d + 1)), hit;
    if (own) *own = 0.0;
    for (int f = 0; f < (int)o.folds; f++) {
        size_t n = llm_split_rows(in, fold, n_train, f, true);
        const size_t m = llm_split_rows(out, fold, n_train, f, false);
        if (most > 0 && most < n) n = most;
        for (size_t i = 0; i < n; i++) in[i] = train[in[i]];
        for (size_t i = 0; i < m; i++) out[i] = train[out[i]];
        if (!run(w, mean, scale, fitted, loss + done, &hit, in, n, out, m, penalty)) continue;
        if (own) *own += (double)llm_supervised_mean(fitted, n) / o.folds;
        done += m;
    }
    arena.used = mark;
    return done > 0 ? (double)llm_supervised_risk(error, loss, done) : (double)NAN;
}

static void draw(const char *file, const llm_chart *c, const double *x, const double *y,
                 const char *const *name, size_t S, size_t N) {
    llm_buffer svg = {NULL, 0, 0};
    char path[512];
    if (snprintf(path, sizeof path, "%s/%s", o.out ? o.out : ".", file) >= (int)sizeof path)
        die("--out is too long");
    if (!llm_chart_lines(&svg, c, x, y, name, S, N)) die("out of memory");
    if (!llm_file_write(path, svg.data, svg.size, &e)) die("%s", e.message);
    llm_buffer_free(&svg);
}

/* ---- the table ---- */

/* 240 flats: the price depends on area, age, distance and quarter; rooms go with area, and the
 * number on the door says nothing. */
static void made_up(llm_buffer *text) {
    static const char *const quarter[3] = {"centre", "harbour", "hills"};
    llm_rng rng = llm_rng_seed(7);
    bool ok = llm_buffer_print(text, "area,rooms,age,distance,door,quarter,sold,price\n");
    for (int i = 0; i < 240; i++) {
        float z[6];
        llm_rng_normal_fill(&rng, z, 6);
        const size_t q = llm_rng_below(&rng, 3);
        const float area = roundf(fmaxf(25.0f, 80.0f + 25.0f * z[0])),
                    age = roundf(20.0f * z[1] * z[1]);
        const float away = fabsf(5.0f * z[2]), price = 40.0f + 3.1f * area - 0.7f * age -
                                                       6.0f * away + (q == 2 ? 45.0f : 0.0f) +
                                                       25.0f * z[3];
        ok = ok && llm_buffer_print(text, "%.0f,%.0f,", (double)area,
                                    (double)roundf(area / 28.0f + 0.5f * z[4]));
        ok = ok && (i % 23 == 5 ? llm_buffer_print(text, ",")
                                : llm_buffer_print(text, "%.0f,", (double)age));
        ok = ok && llm_buffer_print(text, "%.1f,%d,%s,%s,%.1f\n", (double)away,
                                    1 + (int)llm_rng_below(&rng, 99), quarter[q],
                                    away + z[5] < 3.5f ? "yes" : "no", (double)price);
    }
    if (!ok) die("out of memory");
}

/* Whether a column holds numbers: its first known value does, and then all must. */
static bool is_number(size_t column) {
    float x;
    for (size_t i = 1; i <= csv.rows; i++)
        if (csv.cell[i * csv.columns + column])
            return llm_csv_number(&x, csv.cell[i * csv.columns + column]);
    return true;
}

static void read_target(size_t column) {
    t.target = csv.cell[column] ? csv.cell[column] : "";
    t.y = llm_arena_floats(&arena, csv.rows);
    t.label = (int *)llm_arena_take(&arena, csv.rows, sizeof(int));
    t.class_name = (const char **)llm_arena_take(&arena, csv.rows, sizeof(char *));
    for (size_t i = 0; i < csv.rows; i++) t.y[i] = 0.0f, t.label[i] = 0;
    const bool classes = o.model ? t.model >= LOGISTIC : !is_number(column);
    if (!classes && !llm_csv_numbers(t.y, 1, &csv, column, &e)) die("%s", e.message);
    if (classes) llm_csv_categories(t.label, t.class_name, &t.K, &csv, column);
    if (!o.model) t.model = !classes ? RIDGE : t.K > 2 ? SOFTMAX : LOGISTIC;
    if (classes && (t.K < 2 || t.K > 20))
        die("the target '%.60s' has %zu different texts, expected 2 to 20", t.target, t.K);
    if (t.model == LOGISTIC && t.K != 2)
        die("the target '%.60s' has %zu different texts, logistic regression wants 2", t.target,
            t.K);
}

/* t.x: a column of numbers is one, a text among K is K - 1 that say which; the first is the rest. */
static void read_columns(size_t target) {
    for (int pass = 0; pass < 2; pass++) { /* first counts */
        size_t at = 0;
        for (size_t c = 0; c < csv.columns; c++) {
            const char *head = csv.cell[c] ? csv.cell[c] : "";
            bool out = c == target;
            for (size_t k = 0; k < o.drops; k++) out = out || strcmp(o.drop[k], head) == 0;
            if (out) continue;
            const size_t mark = arena.used;
            if (is_number(c)) {
                if (pass && !llm_csv_numbers(t.x + at, t.d, &csv, c, &e)) die("%s", e.message);
                if (pass) snprintf(t.name[at], NAME, "%s", head);
                at++;
                continue;
            }
            int *code = (int *)llm_arena_take(&arena, csv.rows, sizeof(int));
            const char **text = (const char **)llm_arena_take(&arena, csv.rows, sizeof(char *));
            size_t K;
            llm_csv_categories(code, text, &K, &csv, c);
            if (K > 30)
                die("column '%.60s' has %zu different texts; leave it out with --drop", head, K);
            for (size_t k = 1; k < K; k++, at++) {
                for (size_t i = 0; pass && i < csv.rows; i++)
                    t.x[i * t.d + at] = code[i] < 0 ? NAN : code[i] == (int)k ? 1.0f : 0.0f;
                if (pass) snprintf(t.name[at], NAME, "%.30s=%.30s", head, text[k]);
            }
            arena.used = mark;
        }
        if (pass) return;
        if (at == 0) die("no column is left to predict '%.60s' from", t.target);
        t.d = at;
        t.x = llm_arena_floats(&arena, csv.rows * t.d);
        t.name = (char(*)[NAME])llm_arena_take(&arena, t.d, NAME);
    }
}

/* ---- what is found ---- */

/* The penalty of the grid with the least error held out; grid (GRID) falls from where nothing is
 * left of w, for the lasso, or from 10. */
static double choose(double *grid) {
    const size_t mark = arena.used;
    float *x = llm_arena_floats(&arena, n_train * t.d), *y = llm_arena_floats(&arena, n_train);
    float *mean = llm_arena_floats(&arena, t.d), *scale = llm_arena_floats(&arena, t.d), error;
    double best = HUGE_VAL, penalty = 0.0, top = 10.0;
    llm_split_gather(x, t.x, train, n_train, t.d);
    llm_split_gather(y, t.y, train, n_train, 1);
    llm_supervised_standardize_fit(mean, scale, x, n_train, t.d);
    llm_supervised_standardize(x, x, mean, scale, n_train, t.d);
    if (t.model == LASSO) {
        const llm_regularization_data p =
            llm_regularization_center(x, y, n_train, t.d, true, &arena);
        top = fmax(llm_lasso_max(&p), 1e-9);
    }
    arena.used = mark;
    for (size_t k = 0; k < GRID; k++) {
        grid[k] = top * pow(10.0, -4.0 * (double)k / (GRID - 1));
        const double loss =
            o.penalty > 0.0 || t.model == LINEAR ? 0.0 : held_out(NULL, &error, grid[k], 0);
        if (loss < best) best = loss, penalty = grid[k];
    }
    if (t.model == LINEAR) return 0.0;
    if (o.penalty > 0.0) return o.penalty;
    best = held_out(NULL, &error, penalty, 0);
    printf("penalty %.4g, chosen by %.0f folds: held out, the mean loss is %.4g +- %.2g\n", penalty,
           o.folds, best, (double)error);
    return penalty;
}

/* Fits resamples of the training rows: percentiles of every coefficient, in the columns' units. */
static void coefficients(const double *w, const float *mean, const float *scale, double penalty) {
    const size_t d = t.d, P = rows() * (d + 1), B = (size_t)o.resamples;
    size_t *pick = words(n_train), *order = words(B);
    float *m = llm_arena_floats(&arena, d), *s = llm_arena_floats(&arena, d);
    float *all = llm_arena_floats(&arena, P * B);
    double *v = llm_arena_doubles(&arena, P), *unit = llm_arena_doubles(&arena, P), hit;
    llm_rng rng = llm_rng_seed((uint64_t)o.seed + 1);
    for (size_t b = 0, tries = 0; b <= B; b++) { /* the last one is the fit itself */
        llm_bootstrap_indices(pick, n_train, &rng);
        for (size_t i = 0; i < n_train; i++) pick[i] = train[pick[i]];
        if (b == B)
            memcpy(v, w, P * sizeof *v), memcpy(m, mean, d * sizeof *m),
                memcpy(s, scale, d * sizeof *s);
        if (b < B && !run(v, m, s, NULL, NULL, &hit, pick, n_train, NULL, 0, penalty)) {
            if (++tries > 100) die("resamples of the target have one class only");
            b--;
            continue;
        }
        for (size_t k = 0; k < P; k++) {
            if (k % (d + 1) < d) unit[k] = v[k] / (double)s[k % (d + 1)];
            if (k % (d + 1) < d) continue;
            unit[k] = v[k];
            for (size_t j = 0; j < d; j++) unit[k] -= unit[k - d + j] * (double)m[j];
        }
        for (size_t k = 0; k < P && b < B; k++) all[k * B + b] = (float)unit[k];
    }
    for (size_t k = 0; k < P; k++) {
        double low, high;
        const size_t j = k % (d + 1), c = t.model == SOFTMAX ? k / (d + 1) : 1;
        if (j == 0 && t.K > 0) printf("for '%s'\n", t.class_name[c]);
        if (j == 0)
            printf("  %-30s %12s   %.0f%% of %zu resamples      per sd\n", "", "per unit",
                   100.0 * o.level, B);
        llm_bootstrap_interval(&low, &high, LLM_BOOTSTRAP_PERCENTILE, all + k * B, B, unit[k], 0.0,
                               o.level, order);
        printf("  %-30.30s %12.5g  %12.5g %12.5g", j < d ? t.name[j] : "(intercept)", unit[k], low,
               high);
        if (j < d) printf(" %11.4g%s", w[k], low > 0.0 || high < 0.0 ? "" : "  ?");
        printf("\n");
    }
}

static void pictures(double penalty, const double *grid, const float *mean, const float *scale) {
    const size_t d = t.d, P = rows() * (d + 1), S = d < LLM_CHART_LINES ? d : LLM_CHART_LINES;
    const size_t most = n_train - (n_train + (size_t)o.folds - 1) / (size_t)o.folds;
    double size[SIZES], loss[2 * SIZES], *path = llm_arena_doubles(&arena, S * GRID), hit;
    static const char *const part[2] = {"training", "held out"};
    const char *name[LLM_CHART_LINES];
    llm_chart c = {"learning curve", "rows fitted",
                   t.K > 0 ? "mean of -log p(right class)" : "root of the mean square", false,
                   (double)NAN};
    for (size_t k = 0; k < SIZES; k++) {
        const size_t first = most > 3 * (d + 2) ? d + 2 : most / 2;
        const size_t n = first + (most - first) * (k + 1) / SIZES;
        size[k] = (double)n;
        loss[SIZES + k] = held_out(&loss[k], NULL, penalty, n);
        for (size_t p = 0; p < 2 && t.K == 0; p++) loss[p * SIZES + k] = sqrt(loss[p * SIZES + k]);
    }
    draw("learning.svg", &c, size, loss, part, 2, SIZES);
    printf("learning.svg: error against the number of rows\n");
    if (t.model == LINEAR) return;

    double *w = llm_arena_doubles(&arena, P);
    float *m = llm_arena_floats(&arena, d), *s = llm_arena_floats(&arena, d);
    for (size_t k = 0; k < GRID; k++) {
        run(w, m, s, NULL, NULL, &hit, train, n_train, NULL, 0, grid[k]);
        for (size_t j = 0; j < S; j++) path[j * GRID + k] = w[j], name[j] = t.name[j];
    }
    c.title = t.model == SOFTMAX ? "coefficients of the first class" : "coefficients",
    c.up = "per standard deviation of the column";
    c.across = "penalty", c.log_x = true, c.mark = penalty;
    draw("path.svg", &c, grid, path, name, S, GRID);
    printf("path.svg: coefficients against the penalty\n");
    (void)mean, (void)scale;
}

static void options(int argc, char **argv, const char **table) {
    for (size_t k = 0; k < KNOWN; k++)
        if (known[k].number) *known[k].number = known[k].start;
    for (int i = 1; i < argc; i++) {
        size_t k = 0;
        char *end;
        if (strcmp(argv[i], "--help") == 0) {
            printf("fit [TABLE.csv] [options]\n");
            for (k = 0; k < KNOWN; k++) printf("  %s %s\n", known[k].name, known[k].help);
            exit(0);
        }
        if (argv[i][0] != '-') {
            if (*table) die("two tables, %s and %s", *table, argv[i]);
            *table = argv[i];
            continue;
        }
        while (k < KNOWN && strcmp(argv[i], known[k].name) != 0) k++;
        if (k == KNOWN) die("%s is no option; --help lists them", argv[i]);
        if (++i == argc) die("%s wants a value", known[k].name);
        if (!known[k].number) {
            if (known[k].text)
                *known[k].text = argv[i];
            else if (o.drops == 32)
                die("--drop, more than 32 times");
            else
                o.drop[o.drops++] = argv[i];
            continue;
        }
        const double x = *known[k].number = strtod(argv[i], &end);
        const bool whole = known[k].help[0] != 'N' || x == floor(x);
        if (*end || end == argv[i] || !(x >= known[k].least && x <= known[k].most) || !whole)
            die("%s %s: a%s number from %g to %g was expected", known[k].name, argv[i],
                known[k].help[0] == 'N' ? " whole" : "", known[k].least, known[k].most);
    }
    while (o.model && t.model < MODELS && strcmp(o.model, model_name[t.model]) != 0) t.model++;
    if (t.model == MODELS)
        die("--model %s: linear, ridge, lasso, logistic or softmax was expected", o.model);
}

int main(int argc, char **argv) {
    const char *table = NULL;
    llm_buffer text = {NULL, 0, 0};
    options(argc, argv, &table);
    if (!table) made_up(&text);
    if (table ? !llm_csv_read(&csv, table, ',', &e)
              : !llm_csv_parse(&csv, text.data, text.size, ',', &e))
        die("%s%s%s", table ? table : "", table ? ": " : "", e.message);
    llm_buffer_free(&text);
    size_t target = csv.columns - 1, bytes, column;
    if (o.target && !llm_csv_column(&target, &csv, o.target, &e)) die("%s", e.message);
    for (size_t k = 0; k < o.drops; k++)
        if (!llm_csv_column(&column, &csv, o.drop[k], &e)) die("%s", e.message);
    const size_t wide = 31 * csv.columns + 64; /* at most so many columns of x */
    if (!llm_size_mul(&bytes, csv.rows + wide, wide + (size_t)o.resamples) ||
        !llm_size_mul(&bytes, bytes, 24 * sizeof(double)) ||
        !llm_arena_create(&arena, bytes + (1 << 20)))
        die("out of memory");
    read_target(target);
    read_columns(target);

    size_t *row = words(csv.rows), n = 0;
    for (size_t i = 0; i < csv.rows; i++)
        if (t.K > 0 ? t.label[i] >= 0 : !isnan(t.y[i])) row[n++] = i;
    if (n < 20) die("%zu rows with a target, expected 20 or more", n);
    /* a part for training, a part for the test, both with their share of every class */
    int *part = (int *)llm_arena_take(&arena, n, sizeof(int)),
        *label = (int *)llm_arena_take(&arena, n, sizeof(int));
    const float share[2] = {1.0f - (float)o.test, (float)o.test};
    llm_rng rng = llm_rng_seed((uint64_t)o.seed);
    size_t *order = words(n), missing = 0;
    llm_split_order(order, n, &rng);
    for (size_t i = 0; i < n; i++) order[i] = row[order[i]], label[i] = t.label[order[i]];
    llm_split_parts(part, t.K > 0 ? label : NULL, n, t.K, share, 2, &rng, &arena);
    train = words(n), test = words(n);
    n_train = llm_split_rows(train, part, n, 0, false);
    n_test = llm_split_rows(test, part, n, 1, false);
    for (size_t i = 0; i < n_train; i++) train[i] = order[train[i]], label[i] = t.label[train[i]];
    for (size_t i = 0; i < n_test; i++) test[i] = order[test[i]];
    if ((size_t)o.folds > n_train)
        die("--folds %.0f: more than the %zu rows to train on", o.folds, n_train);
    fold = part; /* not needed any more */
    if (t.K > 0)
        llm_split_kfold_stratified(fold, label, n_train, t.K, (size_t)o.folds, &rng, &arena);
    else
        llm_split_kfold(fold, n_train, (size_t)o.folds, &rng, &arena);

    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < t.d; j++) missing += isnan(t.x[row[i] * t.d + j]);
    printf("%zu rows, %zu without a target; %zu columns of numbers, %zu values missing\n", csv.rows,
           csv.rows - n, t.d, missing);
    printf("%s regression of '%s', %zu rows to train on, %zu to test\n", model_name[t.model],
           t.target, n_train, n_test);
    double grid[GRID], hit, hit_train, *w = llm_arena_doubles(&arena, rows() * (t.d + 1));
    float *mean = llm_arena_floats(&arena, t.d), *scale = llm_arena_floats(&arena, t.d),
          *loss = llm_arena_floats(&arena, n_train), *loss_test = llm_arena_floats(&arena, n_test),
          error;
    const double penalty = choose(grid);
    run(w, mean, scale, loss, NULL, &hit_train, train, n_train, NULL, 0, penalty);
    run(w, mean, scale, NULL, loss_test, &hit, train, n_train, test, n_test, penalty);
    const double wrong = (double)llm_supervised_risk(&error, loss_test, n_test);
    if (t.K == 0)
        printf("test: root of the mean square %.4g, R^2 %.3f; in training %.4g, %.3f\n",
               sqrt(wrong), hit, sqrt((double)llm_supervised_mean(loss, n_train)), hit_train);
    else
        printf("test: %.1f%% right, mean loss %.4g +- %.2g; in training %.1f%%, %.4g; the most "
               "frequent class alone\n",
               100.0 * hit, wrong, (double)error, 100.0 * hit_train,
               (double)llm_supervised_mean(loss, n_train));
    coefficients(w, mean, scale, penalty);
    pictures(penalty, grid, mean, scale);
    llm_csv_free(&csv);
    llm_arena_destroy(&arena);
    return 0;
}
