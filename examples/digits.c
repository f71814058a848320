/* digits: trains two networks on pictures of digits, and shows what they take for what.
 *
 *     cc -std=c99 -O3 -march=native examples/digits.c -o digits -lm
 *     ./digits                          2500 digits drawn here, under noise
 *     ./digits digits.csv --epochs 40   yours: CSV, 64 pixels of 0..16 row by row, then the label
 *
 * Such are UCI's optdigits.tra and .tes, and what scikit-learn has; a header line may come first:
 *
 *     from sklearn.datasets import load_digits; import numpy
 *     d = load_digits(); numpy.savetxt("digits.csv", numpy.c_[d.data, d.target], "%g", ",")
 *
 * The rows are shuffled, the last fifth is the test, which training does not see. The same hands
 * wrote both parts, so a new writer's digits are harder than these. Errors: a sentence, code 2. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include "../llm.h"

#include <time.h>

enum { SIDE = LLM_GLYPHS_SIDE, PIXELS = LLM_GLYPHS_PIXELS, DIGITS = LLM_GLYPHS_CLASSES };
enum { HEAD = LLM_OUTPUT_LAYER_SOFTMAX, COLUMNS = PIXELS + 1, INK = 16, LEAST = 20 };
enum { DRAWN = 2500, BATCH = 32, ACROSS = 4 };

static float *pixel; /* (n,64) in 0..16: first the n_train rows to train on, then the test */
static float *x;     /* the same with mean 0 and variance 1 over all pixels to train on */
static int *label;
static size_t n, n_train, n_test;
static llm_arena arena;
static llm_error e;

/* net: NULL for the perceptron below. logits (n_test,10): what it says of the test. */
typedef struct {
    const char *name;
    const llm_feedforward *net;
    size_t params;
    float *w, *state, *logits;
    double accuracy;
} model;

static const size_t mlp_size[3] = {PIXELS, 128, DIGITS};
static const llm_mlp mlp = {mlp_size, 2, LLM_ACTIVATION_RELU, HEAD};

/* Where something is not ok the program ends with the sentence. */
static void need(bool ok) {
    if (!ok) fprintf(stderr, "digits: %s\n", e.message), exit(2);
}
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Memory for so many pictures and all that is computed from them, and for `more` bytes. */
static void make_room(size_t pictures, size_t more) {
    size_t bytes;
    const bool fits = llm_size_mul(&bytes, pictures, 1024) && llm_size_add(&bytes, bytes, more) &&
                      llm_size_add(&bytes, bytes, 8 << 20);
    need((fits && llm_arena_create(&arena, bytes)) || llm_fail(&e, "out of memory"));
    pixel = llm_arena_floats(&arena, pictures * PIXELS);
    label = (int *)llm_arena_take(&arena, pictures, sizeof(int));
}

static void draw_set(void) {
    llm_rng rng = llm_rng_seed(1);
    make_room(n = DRAWN, 0);
    llm_glyphs(pixel, label, n, 1.0f, 0.2f, &rng);
    for (size_t i = 0; i < n * PIXELS; i++) pixel[i] = roundf(pixel[i] * INK);
}

/* Names of columns, and not a picture: no number at the end, or the numbers of the columns. */
static bool is_header(const char *const *cell) {
    float number;
    bool counts = true;
    for (size_t c = 0; c < COLUMNS && counts; c++)
        counts = cell[c] && llm_csv_number(&number, cell[c]) && number == (float)c;
    return counts || (cell[PIXELS] && !llm_csv_number(&number, cell[PIXELS]));
}

/* A line becomes picture n. */
static void read_picture(const char *const *cell, size_t line) {
    for (size_t c = 0; c < COLUMNS; c++) {
        float v = 0.0f;
        need((cell[c] && llm_csv_number(&v, cell[c])) ||
             llm_fail(&e, "line %zu, column %zu: '%.40s' is no number", line, c + 1,
                      cell[c] ? cell[c] : ""));
        need(c == PIXELS || (v >= 0.0f && v <= INK) ||
             llm_fail(&e, "line %zu, column %zu: a pixel of %.40s, expected 0 to %d", line, c + 1,
                      cell[c], INK));
        need(c < PIXELS || (v >= 0.0f && v < DIGITS && v == floorf(v)) ||
             llm_fail(&e, "line %zu: a label of %.40s, expected 0, 1, .. or 9", line, cell[c]));
        if (c < PIXELS) pixel[n * PIXELS + c] = v;
        if (c == PIXELS) label[n++] = (int)v;
    }
}

/* Returns whether line 1 was a header. */
static bool read_set(const char *path) {
    const char *cell[COLUMNS + 1];
    bool header = false;
    size_t lines = 1;
    llm_file file;
    need(llm_file_read(&file, path, &e));
    const char *text = (const char *)file.data;
    for (size_t i = 0; i < file.size; i++) lines += text[i] == '\n';
    make_room(lines, file.size + 1);
    char *cells = (char *)llm_arena_take(&arena, file.size + 1, 1); /* of the line at hand */
    llm_csv_reader r = {text, text + file.size, cells, 1, ',', &e};
    if (file.size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) r.at += 3; /* byte order mark */
    for (; r.at < r.end; r.line++) {
        const size_t line = r.line;
        size_t fields = 0;
        r.out = cells;
        do {
            r.at += fields > 0; /* the comma */
            need(llm_csv_field(&r, &cell[fields < COLUMNS ? fields : COLUMNS]));
            fields++;
        } while (r.at < r.end && *r.at == ',');
        r.at += r.at < r.end;                 /* the end of the line */
        if (fields == 1 && !*cells) continue; /* an empty line */
        need(fields == COLUMNS ||
             llm_fail(&e, "line %zu: %zu columns, expected %d: %d pixels and a label", line, fields,
                      COLUMNS, PIXELS));
        header = header || (line == 1 && is_header(cell));
        if (line > 1 || !header) read_picture(cell, line);
    }
    llm_file_free(&file);
    need(n >= LEAST || llm_fail(&e, "%zu pictures, expected at least %d", n, LEAST));
    return header;
}

/* The order in which the pictures are used from here on, and x. */
static void shuffle(void) {
    llm_rng rng = llm_rng_seed(2);
    float *to = llm_arena_floats(&arena, n * PIXELS);
    int *number = (int *)llm_arena_take(&arena, n, sizeof(int));
    size_t *order = (size_t *)llm_arena_take(&arena, n, sizeof(size_t));
    float mean, scale;
    llm_split_order(order, n, &rng);
    llm_mlp_gather(to, number, NULL, pixel, label, NULL, order, n, PIXELS, DIGITS);
    x = pixel, pixel = to, label = number;
    n_test = n / 5, n_train = n - n_test;
    llm_supervised_standardize_fit(&mean, &scale, pixel, n_train * PIXELS, 1);
    llm_supervised_standardize(x, pixel, &mean, &scale, n * PIXELS, 1);
}

/* Two rounds of convolution, norm, ReLU and pooling: 8 by 8, 4 by 4, 2 by 2; then dense. */
static void build_cnn(llm_feedforward *f) {
    static const llm_cnn_conv_config conv[2] = {{12, 3, 1, 1, 1}, {24, 3, 1, 1, 1}};
    static const llm_feedforward_dense_config head = {DIGITS, 1.0f};
    static const int relu = LLM_ACTIVATION_RELU;
    static const size_t two = 2;
    const llm_feedforward_shape picture = {1, SIDE, SIDE};
    llm_feedforward_create(f, picture, 9, &arena);
    for (size_t round = 0; round < 2; round++)
        need(llm_feedforward_then(f, llm_cnn_conv(), &conv[round], &e) &&
             llm_feedforward_then(f, llm_cnn_norm(), NULL, &e) &&
             llm_feedforward_then(f, llm_feedforward_activation(), &relu, &e) &&
             llm_feedforward_then(f, llm_cnn_pool(), &two, &e));
    need(llm_feedforward_then(f, llm_feedforward_dense(), &head, &e));
}

/* The mean loss of a batch; g += its gradient. */
static double gradient(float *g, const model *m, const float *batch, const int *answer,
                       size_t rows) {
    if (!m->net) return llm_mlp_gradient(g, &mlp, m->w, batch, answer, NULL, rows, &arena);
    const size_t mark = arena.used;
    float *memory = llm_arena_floats(&arena, llm_feedforward_memory(m->net, m->net->count, rows));
    float *dz = llm_arena_floats(&arena, rows * DIGITS);
    const llm_feedforward_run r = {m->net, m->w, batch, m->state, memory, rows, 0, true, &arena};
    const float *z = llm_feedforward_forward(&r);
    const double loss = llm_output_layer_loss(dz, z, answer, NULL, rows, DIGITS, HEAD);
    llm_feedforward_backward(NULL, g, dz, &r);
    arena.used = mark;
    return loss;
}

/* Adam, its rate falling to 0 along a cosine. Returns the mean loss over the last epoch. */
static double train(const model *m, size_t epochs) {
    const size_t mark = arena.used, steps = llm_epoch_steps(n_train, BATCH, false), P = m->params;
    float *g = llm_arena_floats(&arena, P), *mean = llm_arena_floats(&arena, P);
    float *square = llm_arena_floats(&arena, P), *batch = llm_arena_floats(&arena, BATCH * PIXELS);
    double loss = 0.0;
    int answer[BATCH];
    size_t index[BATCH];
    llm_epoch_state order = {n_train, BATCH, false, 3, 0, 0};
    llm_adam_config config = llm_adam_defaults();
    for (size_t i = 0; i < P; i++) mean[i] = square[i] = 0.0f;
    for (size_t t = 0; t < epochs * steps; t++) {
        const size_t rows = llm_epoch_next(index, &order);
        llm_mlp_gather(batch, answer, NULL, x, label, NULL, index, rows, PIXELS, DIGITS);
        for (size_t i = 0; i < P; i++) g[i] = 0.0f;
        if (t % steps == 0) loss = 0.0;
        loss += gradient(g, m, batch, answer, rows) * (double)rows / (double)n_train;
        config.lr = (float)llm_lr_schedule_cosine(0.01, 0.0, (double)t / (double)(epochs * steps));
        llm_adam_step(m->w, mean, square, NULL, g, P, &config, t + 1);
    }
    arena.used = mark;
    return loss;
}

/* Trains a model from its start and measures it on the test. */
static model fit(const char *name, const llm_feedforward *net, size_t epochs) {
    const size_t params = net ? net->params : llm_mlp_param_count(&mlp);
    model m = {name, net, params, NULL, NULL, NULL, 0.0};
    llm_rng rng = llm_rng_seed(4);
    m.w = llm_arena_floats(&arena, m.params);
    m.state = llm_arena_floats(&arena, net ? net->states : 0);
    m.logits = llm_arena_floats(&arena, n_test * DIGITS);
    if (net)
        llm_feedforward_init(m.w, m.state, net, &rng);
    else
        llm_mlp_init(m.w, &mlp, &rng);
    const double start = now(), loss = train(&m, epochs), seconds = now() - start;
    const float *picture = x + n_train * PIXELS;
    if (net)
        llm_cnn_train_outputs(m.logits, net, m.w, m.state, picture, n_test, BATCH, &arena);
    else
        llm_mlp_outputs(m.logits, &mlp, m.w, picture, n_test, BATCH, &arena);
    const int *answer = label + n_train;
    m.accuracy = llm_output_layer_accuracy(m.logits, answer, n_test, DIGITS);
    printf("%-6s %8zu %8.2f %14.4f %10.4f %9.1f%%\n", name, m.params, seconds, loss,
           llm_output_layer_loss(NULL, m.logits, answer, NULL, n_test, DIGITS, HEAD),
           100.0 * m.accuracy);
    return m;
}

static int said(const model *m, size_t i) {
    return (int)llm_dense_vector_argmax(m->logits + i * DIGITS, DIGITS);
}

static void confusion(const model *m) {
    size_t count[DIGITS][DIGITS];
    memset(count, 0, sizeof count);
    for (size_t i = 0; i < n_test; i++) count[label[n_train + i]][said(m, i)]++;
    printf("\nthe test, by digit (down) and by what the %s says (across)\n     ", m->name);
    for (int k = 0; k < DIGITS; k++) printf("%5d", k);
    for (int k = 0; k < DIGITS; k++) {
        printf("\n%5d", k);
        for (int s = 0; s < DIGITS; s++)
            count[k][s] > 0 ? printf("%5zu", count[k][s]) : printf("    .");
    }
    printf("\n");
}

/* The mistakes of which it was surest; a pixel is two characters. */
static void mistakes(const model *m) {
    static const char shade[] = " .:-=+*#%@";
    size_t wrong = 0, *order = (size_t *)llm_arena_take(&arena, n_test, sizeof(size_t));
    float *p = llm_arena_floats(&arena, n_test * DIGITS), *sure = llm_arena_floats(&arena, n_test);
    llm_output_layer_predict(p, m->logits, n_test, DIGITS, LLM_OUTPUT_LAYER_SOFTMAX);
    for (size_t i = 0; i < n_test; i++) {
        const size_t k = i * DIGITS + (size_t)said(m, i);
        sure[i] = said(m, i) == label[n_train + i] ? 0.0f : -p[k]; /* ascending: surest first */
        wrong += sure[i] < 0.0f;
    }
    llm_argsort(order, sure, n_test);
    const size_t shown = wrong < 2 * ACROSS ? wrong : 2 * ACROSS;
    printf("\n%zu of %zu are wrong%s\n", wrong, n_test, wrong > 0 ? "; the surest of them:" : "");
    for (size_t from = 0; from < shown; from += ACROSS) {
        const size_t to = shown - from < ACROSS ? shown : from + ACROSS;
        for (size_t r = 0; r < SIDE; r++)
            for (size_t k = from; k < to; k++) {
                const float *row = pixel + ((n_train + order[k]) * SIDE + r) * SIDE;
                for (size_t c = 0; c < 2 * SIDE; c++)
                    printf("%c", shade[(size_t)(row[c / 2] * 9.0f / INK + 0.5f)]);
                printf("%s", k + 1 < to ? "    " : "\n");
            }
        for (size_t k = from; k < to; k++)
            printf("a %d, says %d: %3.0f%%%s", label[n_train + order[k]], said(m, order[k]),
                   -100.0 * (double)sure[order[k]], k + 1 < to ? "   " : "\n");
    }
}

int main(int argc, char **argv) {
    const char *path = NULL;
    long epochs = 20;
    for (int i = 1; i < argc; i++) {
        char *end = NULL;
        const bool option = strcmp(argv[i], "--epochs") == 0;
        if (option && i + 1 < argc) epochs = strtol(argv[++i], &end, 10);
        need((option ? end && end != argv[i] && !*end && epochs >= 1 && epochs <= 10000
                     : !path && argv[i][0] != '-') ||
             llm_fail(&e, "usage: digits [FILE] [--epochs N], N from 1 to 10000"));
        if (!option) path = argv[i];
    }
    const bool header = path && read_set(path);
    if (!path) draw_set();
    shuffle();
    printf("%zu pictures%s, %zu to train on, %zu to test; %ld epochs\n\n"
           "model   weights  seconds  training loss  test loss      right\n",
           n, header ? " behind a header" : "", n_train, n_test, epochs);
    llm_feedforward cnn;
    build_cnn(&cnn);
    const model a = fit("MLP", NULL, (size_t)epochs), b = fit("CNN", &cnn, (size_t)epochs);
    const model *better = a.accuracy > b.accuracy ? &a : &b;
    confusion(better);
    mistakes(better);
    return 0; /* the rest is freed with the process */
}
