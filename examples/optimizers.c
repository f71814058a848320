/* Races the optimizers of chapter 07 on four surfaces and a small network, and draws them.
 *
 *     cc -O3 -march=native examples/optimizers.c -o optimizers -lm
 *     optimizers DIR [STEPS]          writes DIR/optimizer_paths.svg and DIR/optimizer_losses.svg
 *
 * All start from the same place, see the same batches, and let their rate fall linearly to 0. Each
 * runs at the best of its rates 1e-4, 3e-4, .., 10: the one that is lowest in the second half. */
#include "../llm.h"

enum { GD, MOMENTUM, NESTEROV, ADAGRAD, RMSPROP, ADAM, ADAMW, LION, ADAFACTOR, MUON, SHAMPOO, SAM };
enum { KINDS = SAM + 1, SURFACES = 4, NET = SURFACES, PROBLEMS, MOST = 5000 };
static const char *const kind_name[KINDS] = {"gradient descent", "momentum", "Nesterov", "AdaGrad",
                                             "RMSProp",          "Adam",     "AdamW",    "Lion",
                                             "Adafactor",        "Muon",     "Shampoo",  "SAM"};
static const char *const kind_color[KINDS] = {"#000000", "#7f7f7f", "#c49c94", "#bcbd22",
                                              "#2ca02c", "#1f77b4", "#17becf", "#ff7f0e",
                                              "#8c564b", "#d62728", "#9467bd", "#e377c2"};

/* Condition 100, and turned by 30 degrees, or a rate for each axis would solve it. */
static double turned(double *g, const double *x, void *context) {
    const double c = sqrt(0.75), s = 0.5, a = c * x[0] + s * x[1], b = c * x[1] - s * x[0];
    (void)context;
    if (g) g[0] = 0.01 * a * c - b * s, g[1] = 0.01 * a * s + b * c;
    return 0.5 * (0.01 * a * a + b * b);
}
/* Himmelblau: four minima of value 0 around a hill. */
static double himmelblau(double *g, const double *x, void *context) {
    const double a = x[0] * x[0] + x[1] - 11.0, b = x[0] + x[1] * x[1] - 7.0;
    (void)context;
    if (g) g[0] = 4.0 * a * x[0] + 2.0 * b, g[1] = 2.0 * a + 4.0 * b * x[1];
    return a * a + b * b;
}

/* value NULL: the network. Paths begin at start; the picture shows low..high. */
typedef struct {
    const char *name;
    llm_convex_fn value;
    double start[2], low[2], high[2];
} problem;
static const problem all[PROBLEMS] = {
    {"quadratic, condition 100", turned, {-8, -1.5}, {-10, -6}, {4, 4}},
    {"Rosenbrock", llm_gradient_descent_rosenbrock, {-1.2, 1}, {-2, -1}, {2, 2}},
    {"Beale", llm_gradient_descent_beale, {1, 1.2}, {-0.5, -1.5}, {4, 1.8}},
    {"Himmelblau", himmelblau, {-0.2, -1.1}, {-5, -5}, {5, 5}},
    {"network on digits", NULL, {0, 0}, {0, 0}, {0, 0}}};

/* The network: 8 by 8 digits through 32 hidden units; its weights are two matrices and two biases,
 * those of a surface one row of two. */
enum { IN = 64, HIDDEN = 32, OUT = 10, PARAMS = HIDDEN * (IN + 1) + OUT * (HIDDEN + 1) };
enum { ROWS = 2000, BATCH = 50 };
static const size_t net_size[3] = {IN, HIDDEN, OUT};
static const llm_mlp net = {net_size, 2, LLM_ACTIVATION_TANH, LLM_OUTPUT_LAYER_SOFTMAX};
static const llm_muon_part net_part[4] = {
    {HIDDEN, IN, true}, {1, HIDDEN, false}, {OUT, HIDDEN, false}, {1, OUT, false}};
static const llm_muon_part surface_part[1] = {{1, 2, true}};
static float image[ROWS * IN], batch[BATCH * IN];
static int label[ROWS], batch_label[BATCH];

/* What the optimizers work on: weights, gradient, and their state, all flat. */
static float w[PARAMS], g[PARAMS], m[PARAMS], v[PARAMS], saved[PARAMS], factors[PARAMS];
static double state[4 * (HIDDEN + IN) * (HIDDEN + IN)];
static llm_arena arena;

/* One step with the gradient in g; the methods for matrices go part by part. */
static void take_step(int kind, const llm_muon_part *part, size_t parts, size_t n, float lr,
                      size_t t) {
    llm_momentum_config momentum = llm_momentum_defaults();
    llm_adagrad_config adagrad = llm_adagrad_defaults();
    llm_rmsprop_config rmsprop = llm_rmsprop_defaults();
    llm_adam_config adam = llm_adam_defaults();
    llm_adamw_config adamw = llm_adamw_defaults();
    llm_lion_config lion = llm_lion_defaults();
    llm_adafactor_config adafactor = llm_adafactor_defaults();
    llm_muon_config muon = llm_muon_defaults();
    llm_shampoo_config shampoo = llm_shampoo_defaults();
    momentum.lr = adagrad.lr = rmsprop.lr = adam.lr = lion.lr = adafactor.lr = shampoo.lr = lr;
    momentum.nesterov = kind == NESTEROV;
    adafactor.relative = adafactor.scale = false;
    adamw.lr = kind == MUON ? 0.1f * lr : lr; /* Muon leaves head and biases to it */
    muon.lr = lr, muon.weight_decay = 0.0f, shampoo.every = n > 2 ? 20 : 1;
    size_t at = 0, floats = 0, doubles = 0;
    if (kind == GD) llm_gradient_descent_step(w, g, n, lr);
    if (kind == ADAGRAD) llm_adagrad_step(w, v, g, n, &adagrad, t);
    if (kind == RMSPROP) llm_rmsprop_step(w, v, NULL, NULL, g, n, &rmsprop);
    if (kind == ADAM) llm_adam_step(w, m, v, NULL, g, n, &adam, t);
    if (kind == ADAMW) llm_adamw_step(w, m, v, g, n, &adamw, t);
    if (kind == LION) llm_lion_step(w, m, g, n, &lion);
    if (kind == MUON) llm_muon_step_parts(w, m, v, g, part, parts, &muon, &adamw, t, &arena);
    if (kind == MOMENTUM || kind == NESTEROV || kind == SAM)
        llm_momentum_step(w, m, g, n, &momentum, t);
    for (size_t k = 0; k < parts && (kind == ADAFACTOR || kind == SHAMPOO); k++) {
        const size_t rows = part[k].rows, cols = part[k].cols;
        if (kind == ADAFACTOR)
            llm_adafactor_step(w + at, factors + floats, g + at, rows, cols, &adafactor, t);
        else
            llm_shampoo_step(w + at, state + doubles, g + at, rows, cols, &shampoo, t, &arena);
        at += rows * cols;
        floats += llm_adafactor_floats(rows, cols, &adafactor);
        doubles += llm_shampoo_doubles(rows, cols);
    }
}

/* The loss at w, and its gradient in g: of a surface, or of the batch at hand. */
static double measure(const problem *p) {
    memset(g, 0, sizeof g);
    if (!p->value) return llm_mlp_gradient(g, &net, w, batch, batch_label, NULL, BATCH, &arena);
    const double x[2] = {(double)w[0], (double)w[1]};
    double slope[2], f = p->value(slope, x, NULL);
    g[0] = (float)slope[0], g[1] = (float)slope[1];
    return f;
}

/* A run from the start: loss (steps), path (steps,2). Returns the mean log10 of the loss, 1e-6 and
 * better counting alike, over its second half; infinity if it was ever beyond a million. */
static double run(double *loss, double (*path)[2], int kind, const problem *p, double lr,
                  size_t steps) {
    llm_epoch_state order = {ROWS, BATCH, true, 5, 0, 0};
    llm_rng rng = llm_rng_seed(3);
    const llm_sam_config sam = llm_sam_defaults();
    const size_t n = p->value ? 2 : PARAMS;
    double end = 0.0;
    memset(m, 0, sizeof m), memset(v, 0, sizeof v), memset(factors, 0, sizeof factors);
    memset(state, 0, p->value ? 64 * sizeof(double) : sizeof state);
    if (p->value) w[0] = (float)p->start[0], w[1] = (float)p->start[1];
    if (!p->value) llm_mlp_init(w, &net, &rng);
    for (size_t t = 0; t < steps; t++) {
        size_t index[BATCH];
        if (!p->value) {
            llm_epoch_next(index, &order);
            llm_mlp_gather(batch, batch_label, NULL, image, label, NULL, index, BATCH, IN, OUT);
        }
        path[t][0] = (double)w[0], path[t][1] = (double)w[1];
        loss[t] = measure(p);
        if (!(loss[t] < 1e6)) return HUGE_VAL;
        if (kind == SAM) {
            llm_sam_perturb(w, saved, g, n, &sam);
            measure(p);
            llm_sam_restore(w, saved, n);
        }
        if (2 * t >= steps) end += 2.0 * log10(loss[t] + 1e-6) / (double)steps;
        take_step(kind, p->value ? surface_part : net_part, p->value ? 1 : 4, n,
                  (float)llm_lr_schedule_polynomial(lr, 0.0, 1.0, steps, t), t + 1);
    }
    return end;
}

/* Paths: a row of panels for each surface, in which three optimizers share a panel. */
enum { SIDE = 210, GAP = 14, CELLS = 48, FAMILY = 3 };
static double path_left(int kind) { return 24 + kind / FAMILY * (SIDE + GAP); }
static double path_top(int p) { return 74 + p * (SIDE + GAP); }

/* Lines of equal height, even in log(1 + 10 f): each cell of a grid that a level crosses gets the
 * segment between the crossings of its sides. */
static void draw_levels(llm_buffer *svg, int panel, double left, double top) {
    static const size_t corner[5][2] = {{0, 0}, {0, 1}, {1, 1}, {1, 0}, {0, 0}};
    static double z[CELLS + 1][CELLS + 1];
    const problem *p = &all[panel];
    double most = 0.0;
    for (size_t i = 0; i <= CELLS; i++)
        for (size_t j = 0; j <= CELLS; j++) {
            const double x[2] = {p->low[0] + (p->high[0] - p->low[0]) * (double)j / CELLS,
                                 p->high[1] - (p->high[1] - p->low[1]) * (double)i / CELLS};
            z[i][j] = log(1.0 + 10.0 * p->value(NULL, x, NULL));
            most = fmax(most, z[i][j]);
        }
    llm_buffer_print(svg, "<path id=\"levels%d\" fill=\"none\" stroke=\"#c8d4e3\" d=\"", panel);
    for (size_t k = 0; k < 14 * CELLS * CELLS; k++) {
        const size_t i = k / CELLS % CELLS, j = k % CELLS;
        const double level = most * ((double)(k / CELLS / CELLS) + 0.5) / 14.0;
        for (size_t side = 0, found = 0; side < 4; side++) {
            const size_t *c = corner[side], *d = corner[side + 1];
            const double a = z[i + c[0]][j + c[1]] - level, b = z[i + d[0]][j + d[1]] - level;
            if ((a < 0.0) == (b < 0.0)) continue;
            const double s = a / (a - b);
            const double y = (double)(i + c[0]) + s * ((double)d[0] - (double)c[0]);
            const double x = (double)(j + c[1]) + s * ((double)d[1] - (double)c[1]);
            llm_buffer_print(svg, "%s%.0f %.0f", found++ % 2 ? "L" : "M", left + x * SIDE / CELLS,
                             top + y * SIDE / CELLS);
        }
    }
    llm_buffer_print(svg, "\"/>\n");
}

/* A line through n points (x, y) of the square 0..1 and a dot at its end; it is cut where it leaves
 * the square, and points within a pixel of the last one are left out. */
static void draw_line(llm_buffer *svg, double (*at)[2], size_t n, double left, double top,
                      int kind) {
    double x = HUGE_VAL, y = HUGE_VAL;
    bool in = false;
    llm_buffer_print(svg, "<path fill='none' stroke='%s' stroke-width='1.2' d='", kind_color[kind]);
    for (size_t i = 0; i < n; i++) {
        const double px = left + SIDE * at[i][0], py = top + SIDE * (1.0 - at[i][1]);
        const bool inside = fabs(at[i][0] - 0.5) <= 0.5 && fabs(at[i][1] - 0.5) <= 0.5;
        if (inside && in && hypot(px - x, py - y) < 1.0 && i + 1 < n) continue;
        if (inside) llm_buffer_print(svg, "%s%.1f %.1f", in ? "L" : "M", x = px, y = py);
        in = inside;
    }
    llm_buffer_print(svg, "'/>\n");
    if (in)
        llm_buffer_print(svg, "<circle cx='%.1f' cy='%.1f' r='3' fill='%s'/>\n", x, y,
                         kind_color[kind]);
}

/* A picture of that size. */
static void draw_start(llm_buffer *svg, double width, double height) {
    llm_buffer_print(svg,
                     "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %.0f %.0f' "
                     "font-family='sans-serif' font-size='13'>\n"
                     "<rect width='100%%' height='100%%' fill='white'/>\n",
                     width, height);
}

/* The level lines of every panel of paths, and the names of the lines above them. */
static void draw_panels(llm_buffer *svg) {
    draw_start(svg, path_left(KINDS) + 10.0, path_top(SURFACES) + 10.0);
    for (int k = 0; k < KINDS; k++)
        llm_buffer_print(svg,
                         "<path d=\"M%.0f %dh22\" stroke=\"%s\" stroke-width=\"3\"/>"
                         "<text x=\"%.0f\" y=\"%d\">%s</text>\n",
                         path_left(k) + 4.0, 14 + k % FAMILY * 19, kind_color[k],
                         path_left(k) + 32.0, 18 + k % FAMILY * 19, kind_name[k]);
    for (int p = 0; p < SURFACES; p++) {
        llm_buffer_print(svg, "<text transform=\"translate(16 %.0f) rotate(-90)\">%s</text>\n",
                         path_top(p) + SIDE, all[p].name);
        draw_levels(svg, p, path_left(0), path_top(p));
        for (int k = 0; k < KINDS; k += FAMILY)
            llm_buffer_print(svg,
                             "<use href=\"#levels%d\" x=\"%.0f\"/><rect x=\"%.0f\" y=\"%.0f\" "
                             "width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#888\"/>\n",
                             p, path_left(k) - path_left(0), path_left(k), path_top(p), SIDE, SIDE);
    }
}

/* The losses of a problem, y (KINDS,steps), as a chart two of which stand side by side. */
static void draw_losses(llm_buffer *svg, int p, const double *y, size_t steps) {
    static double x[MOST];
    const llm_chart c = {all[p].name, "step", "log10 of the loss", false, (double)NAN};
    for (size_t t = 0; t < steps; t++) x[t] = (double)t;
    llm_buffer_print(svg, "<svg x=\"%d\" y=\"%d\" width=\"540\" height=\"306\">\n", p % 2 * 540,
                     p / 2 * 306);
    llm_chart_lines(svg, &c, x, y, kind_name, KINDS, steps);
    llm_buffer_print(svg, "</svg>\n");
}
static bool finish(llm_buffer *svg, const char *directory, const char *name, llm_error *e) {
    char path[4096];
    const bool whole = llm_buffer_print(svg, "</svg>\n");
    const int size = snprintf(path, sizeof path, "%s/%s", directory, name);
    if (!whole || size >= (int)sizeof path) return llm_fail(e, "the path is too long, or no room");
    const bool ok = llm_file_write(path, svg->data, svg->size, e);
    llm_buffer_free(svg);
    return ok;
}

int main(int argc, char **argv) {
    static double loss[MOST], path[MOST][2], line[PROBLEMS][KINDS * MOST];
    const long asked = argc == 3 ? strtol(argv[2], NULL, 10) : 300;
    if (argc < 2 || argc > 3 || asked < 2 || asked > MOST)
        return fprintf(stderr, "optimizers: usage: DIR [STEPS]\n"), 2;
    const size_t steps = (size_t)asked, last = (steps + 9) / 10;
    llm_buffer paths = {NULL, 0, 0}, losses = {NULL, 0, 0};
    llm_error e;
    llm_rng rng = llm_rng_seed(1);
    if (!llm_arena_create(&arena, 4u << 20)) return 2;
    llm_glyphs(image, label, ROWS, 1.0f, 0.3f, &rng);
    draw_panels(&paths), draw_start(&losses, 1080.0, 918.0);
    printf("log10 of the loss at the end (and the rate)\n%-16s", "");
    for (int p = 0; p < PROBLEMS; p++) printf("  %-14.14s", all[p].name);
    for (int kind = 0; kind < KINDS; kind++) {
        printf("\n%-16s", kind_name[kind]);
        for (int p = 0; p < PROBLEMS; p++) {
            const problem *q = &all[p];
            double best = HUGE_VAL, rate = 0.0;
            for (int k = -8; k <= 2; k++) {
                const double end = run(loss, path, kind, q, pow(10.0, 0.5 * k), steps);
                if (end < best) best = end, rate = pow(10.0, 0.5 * k);
            }
            run(loss, path, kind, q, rate, steps);
            best = 0.0;
            for (size_t t = 0; t < last; t++)
                best += log10(loss[steps - 1 - t] + 1e-12) / (double)last;
            printf(" %6.2f (%.0e)", best, rate);
            double mean = log10(loss[0] + 1e-12);
            for (size_t t = 0; t < steps; t++) { /* of batches a running mean */
                mean += (p == NET ? 0.1 : 1.0) * (log10(loss[t] + 1e-12) - mean);
                line[p][(size_t)kind * steps + t] = fmax(mean, -10.0);
                for (size_t k = 0; k < 2; k++)
                    path[t][k] = (path[t][k] - q->low[k]) / (q->high[k] - q->low[k]);
            }
            if (p != NET) draw_line(&paths, path, steps, path_left(kind), path_top(p), kind);
        }
    }
    printf("\n");
    for (int p = 0; p < PROBLEMS; p++) draw_losses(&losses, p, line[p], steps);
    const bool ok = finish(&paths, argv[1], "optimizer_paths.svg", &e) &&
                    finish(&losses, argv[1], "optimizer_losses.svg", &e);
    if (!ok) fprintf(stderr, "optimizers: %s\n", e.message);
    llm_arena_destroy(&arena);
    return ok ? 0 : 2;
}
