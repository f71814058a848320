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
enum { KNOWN = sizeof known / sizeof *known, GRID = 25, SIZES = 8, LINES = 40, NAME = 80 };

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

/* ---- pictures ---- */

static void put_text(llm_buffer *svg, const char *text) { /* as XML: no marks, no broken bytes */
    const unsigned char *s = (const unsigned char *)text, *end = s + strlen(text);
    for (size_t n, shown = 0; s < end && shown < 26; s += n, shown++) {
        n = llm_json_token_utf8(s, end);
        if (n == 0 || *s < 32 || *s == 127)
            n = 1, llm_buffer_print(svg, "?");
        else if (strchr("<>&\"", *s))
            llm_buffer_print(svg, "&#%d;", *s);
        else
            llm_buffer_put(svg, s, n);
    }
}

/* Lines y (S,N) over x (N), a name at the end of each; on a logarithmic axis x falls from left to
 * right. A dashed line stands at mark, unless that is NaN. */
static void draw(const char *file, const char *title, const char *across, const char *up,
                 const double *x, const double *y, const char (*name)[NAME], size_t S, size_t N,
                 bool logarithmic, double mark) {
    static const char *const colour[8] = {"#0072b2", "#d55e00", "#009e73", "#b8609a",
                                          "#b58900", "#3f9bd1", "#444444", "#8c564b"};
    const double left = 74, right = 530, top = 44, bottom = 350;
    const double from = logarithmic ? log10(x[0]) : x[0];
    const double to = logarithmic ? log10(x[N - 1]) : x[N - 1];
    double low = y[0], high = y[0], step, place = top - 13.0;
    float end[LINES];
    size_t order[LINES];
    llm_buffer svg = {NULL, 0, 0};
    char path[512];
    for (size_t i = 0; i < S * N; i++) low = fmin(low, y[i]), high = fmax(high, y[i]);
    if (!(high > low)) low -= 1.0, high += 1.0;
    step = pow(10.0, floor(log10((high - low) / 4.0)));
    step *= (high - low) / step > 20.0 ? 5.0 : (high - low) / step > 8.0 ? 2.0 : 1.0;
    low = step * floor(low / step), high = step * ceil(high / step);
#define AT_X(v) (left + (right - left) * ((v) - from) / (to - from))
#define AT_Y(v) (bottom - (bottom - top) * ((v) - low) / (high - low))
    llm_buffer_print(&svg, "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 720 408' "
                           "font-family='sans-serif' font-size='13' fill='#333'>\n"
                           "<rect width='720' height='408' fill='white'/>\n"
                           "<text x='74' y='26' font-size='15' font-weight='bold'>");
    put_text(&svg, title);
    llm_buffer_print(&svg, "</text>\n<text x='302' y='396' text-anchor='middle'>%s</text>\n"
                           "<text transform='translate(20 197) rotate(-90)' "
                           "text-anchor='middle'>", across);
    put_text(&svg, up);
    llm_buffer_print(&svg, "</text>\n");
    for (double v = low; v < high + 0.5 * step; v += step) {
        const double at = AT_Y(v), shown = fabs(v) < 1e-9 * step ? 0.0 : v;
        llm_buffer_print(&svg, "<path d='M%.1f %.1fH%.1f' stroke='%s'/>\n<text x='%.1f' y='%.1f' "
                               "text-anchor='end'>%.5g</text>\n", left, at, right,
                         shown == 0.0 ? "#999" : "#e4e4e4", left - 8.0, at + 4.5, shown);
    }
    double grain = pow(10.0, floor(log10(fabs(to - from) / 3.0)));
    grain = logarithmic ? 1.0 : grain * (fabs(to - from) / grain > 12.0 ? 5.0 : 2.0);
    for (double v = grain * ceil(fmin(from, to) / grain); v <= fmax(from, to); v += grain)
        llm_buffer_print(&svg, "<path d='M%.1f %.1fv6' stroke='#333'/>\n<text x='%.1f' y='%.1f' "
                               "text-anchor='middle'>%.5g</text>\n", AT_X(v), bottom, AT_X(v),
                         bottom + 21.0, logarithmic ? pow(10.0, v) : v);
    llm_buffer_print(&svg, "<path d='M%.1f %.1fH%.1f' stroke='#333'/>\n", left, bottom, right);
    if (!isnan(mark))
        llm_buffer_print(&svg, "<path d='M%.1f %.1fV%.1f' stroke='#333' stroke-dasharray='5 4'/>\n",
                         AT_X(log10(mark)), top, bottom);
    for (size_t s = 0; s < S; s++) {
        end[s] = (float)AT_Y(y[s * N + N - 1]);
        llm_buffer_print(&svg, "<polyline fill='none' stroke='%s' stroke-width='2' points='",
                         colour[s % 8]);
        for (size_t i = 0; i < N; i++)
            llm_buffer_print(&svg, "%.1f,%.1f ", AT_X(logarithmic ? log10(x[i]) : x[i]),
                             AT_Y(y[s * N + i]));
        llm_buffer_print(&svg, "'/>\n");
    }
    llm_argsort(order, end, S);
    for (size_t k = 0; k < S; k++) { /* names at the lines' ends, 14 apart, inside the frame */
        const double lowest = bottom + 5.0 - 14.0 * (double)(S - 1 - k);
        place = fmin(fmax(place + 14.0, (double)end[order[k]]), fmax(lowest, place + 14.0));
        llm_buffer_print(&svg, "<path d='M%.1f %.1fL%.1f %.1f' stroke='%s' stroke-opacity='0.5'/>\n"
                               "<text x='%.1f' y='%.1f' fill='%s'>", right, (double)end[order[k]],
                         right + 10.0, place, colour[order[k] % 8], right + 13.0, place + 4.5,
                         colour[order[k] % 8]);
        put_text(&svg, name[order[k]]);
        llm_buffer_print(&svg, "</text>\n");
    }
    if (!llm_buffer_print(&svg, "</svg>\n")) die("out of memory");
    if (snprintf(path, sizeof path, "%s/%s", o.out ? o.out : ".", file) >= (int)sizeof path)
        die("--out is too long");
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
        const float area = roundf(fmaxf(25.0f, 80.0f + 25.0f * z[0])), age = roundf(20.0f * z[1] * z[1]);
        const float away = fabsf(5.0f * z[2]), price = 40.0f + 3.1f * area - 0.7f * age - 6.0f * away + (q == 2 ? 45.0f : 0.0f) + 25.0f * z[3];
        ok = ok && llm_buffer_print(text, "%.0f,%.0f,", (double)area, (double)roundf(area / 28.0f + 0.5f * z[4]));
        ok = ok && (i % 23 == 5 ? llm_buffer_print(text, ",") : llm_buffer_print(text, "%.0f,", (double)age));
        ok = ok && llm_buffer_print(text, "%.1f,%d,%s,%s,%.1f\n", (double)away, 1 + (int)llm_rng_below(&rng, 99), quarter[q], away + z[5] < 3.5f ? "yes" : "no", (double)price);
    }
    if (!ok) die("out of memory");
}

/* Whether a column holds numbers: its first known value does, and then all must. */
static bool is_number(size_t column) {
    float x;
    for (size_t i = 1; i <= csv.rows; i++)
        if (csv.cell[i * csv.columns + column]) return llm_csv_number(&x, csv.cell[i * csv.columns + column]);
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
    if (classes && (t.K < 2 || t.K > 20)) die("the target '%.60s' has %zu different texts, expected 2 to 20", t.target, t.K);
    if (t.model == LOGISTIC && t.K != 2) die("the target '%.60s' has %zu different texts, logistic regression wants 2", t.target, t.K);
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
            if (K > 30) die("column '%.60s' has %zu different texts; leave it out with --drop", head, K);
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
