/* gpt: trains a GPT on your text files, then writes in their style.
 *
 *     cc -std=c99 -O3 -march=native -fopenmp examples/gpt.c -o gpt -lm
 *     ./gpt --data book.txt --out my-gpt              train, about two minutes
 *     ./gpt --load my-gpt --prompt "Once upon a"      write; the directory of any GPT-2 will do
 *
 * The last tenth of each file is held out: the tokenizer (byte-level BPE) and the model see only the
 * rest. The directory holds config.json, model.safetensors and tokenizer.json, which transformers'
 * GPT2LMHeadModel and PreTrainedTokenizerFast load, loss.svg, and for --resume run.safetensors. An
 * error is one sentence and exit code 2; a file is replaced whole or not at all. */
#define _POSIX_C_SOURCE 200809L
#include "../llm.h"

#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define END "<|endoftext|>"

static struct {
    const char *out, *resume, *load, *prompt;
    double steps, layers, heads, width, context, vocab, batch, lr, seed, tokens, temp, top_k, top_p;
    char **data;
    size_t files;
} o;

static const struct {
    const char *name, **text;           /* a text, or */
    double *number, start, least, most; /* a number; whole where the help says N */
    const char *help;
} known[] = {
    {"--out", &o.out, NULL, 0, 0, 0, "DIR        where the model goes (out/gpt)"},
    {"--steps", NULL, &o.steps, 1200, 1, 1e9, "N        training steps"},
    {"--layers", NULL, &o.layers, 4, 1, 1024, "N       blocks"},
    {"--heads", NULL, &o.heads, 4, 1, 1024, "N        heads of a block"},
    {"--width", NULL, &o.width, 128, 1, 32768, "N        channels, a multiple of the heads"},
    {"--context", NULL, &o.context, 128, 2, 65536, "N      tokens that it sees"},
    {"--vocab", NULL, &o.vocab, 1024, 257, 1e6, "N        tokens that it knows, at most"},
    {"--batch", NULL, &o.batch, 16, 1, 65536, "N        rows of a step"},
    {"--lr", NULL, &o.lr, 2e-3, 1e-9, 10, "X           learning rate at its peak"},
    {"--resume", &o.resume, NULL, 0, 0, 0, "DIR     goes on with a training that was stopped"},
    {"--load", &o.load, NULL, 0, 0, 0, "DIR       no training: writes with this model"},
    {"--prompt", &o.prompt, NULL, 0, 0, 0, "TEXT    what it goes on from"},
    {"--seed", NULL, &o.seed, 1, 0, 4294967295.0, "N         of all random numbers"},
    {"--tokens", NULL, &o.tokens, 300, 0, 1e9, "N       how much to write"},
    {"--temperature", NULL, &o.temp, 0.8, 0, 100, "X  of the choice; 0: always the likeliest"},
    {"--top-k", NULL, &o.top_k, 0, 0, 1e9, "N        only the k likeliest; 0: all"},
    {"--top-p", NULL, &o.top_p, 0.95, 0, 1, "X        only the likeliest that make up this share"},
};
enum { KNOWN = sizeof known / sizeof *known, NEW = 9 }; /* the first 9 belong to a new training */

static volatile sig_atomic_t interrupted;
static void on_interrupt(int number) { interrupted = number; }

static void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("gpt: ", stderr);
    vfprintf(stderr, format, args);
    fputs("\n", stderr);
    exit(2);
}
static llm_error e;
static void need(bool ok) {
    if (!ok) die("%s", e.message);
}
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static const char *in(const char *dir, const char *name) {
    static char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        die("%s: too long", dir);
    return path;
}

static void parse(int argc, char **argv) {
    const char *trains = NULL;
    o.out = "out/gpt", o.prompt = "";
    for (size_t k = 0; k < KNOWN; k++)
        if (known[k].number) *known[k].number = known[k].start;
    for (int i = 1; i < argc; i++) {
        size_t k = 0;
        if (strcmp(argv[i], "--help") == 0) {
            printf("gpt --data FILE... [options]; gpt --resume DIR; gpt --load DIR [options]\n");
            for (; k < KNOWN; k++) {
                printf("  %s %s", known[k].name, known[k].help);
                printf(known[k].number ? " (%g)\n" : "\n", known[k].start);
            }
            exit(0);
        }
        if (strcmp(argv[i], "--data") == 0) {
            for (trains = argv[i], o.data = argv + i + 1;
                 i + 1 < argc && strncmp(argv[i + 1], "--", 2); i++)
                o.files++;
            continue;
        }
        while (k < KNOWN && strcmp(argv[i], known[k].name) != 0) k++;
        if (k == KNOWN) die("%s is no option; --help lists them", argv[i]);
        if (++i == argc) die("%s needs a value", known[k].name);
        if (k < NEW) trains = known[k].name;
        if (known[k].text) {
            *known[k].text = argv[i];
            continue;
        }
        char *end;
        const double x = *known[k].number = strtod(argv[i], &end);
        const bool whole = known[k].help[0] == 'N',
                   fits = x >= known[k].least && x <= known[k].most;
        if (end == argv[i] || *end || !fits || (whole && x != floor(x)))
            die("%s is '%s', expected a %snumber from %g to %g", known[k].name, argv[i],
                whole ? "whole " : "", known[k].least, known[k].most);
    }
    if (!!o.resume + !!o.load + !!trains > 1)
        die("%s does not go with %s", trains ? trains : "--resume", o.load ? "--load" : "--resume");
    if (!o.resume && !o.load && o.files == 0) die("--data FILE... is missing; see --help");
    if (fmod(o.width, o.heads) != 0)
        die("--width %g is not a multiple of --heads %g", o.width, o.heads);
}

/* Appends the tokens of a text, behind an end-of-text token. */
static void put_ids(llm_buffer *out, const llm_tokenizer *t, const unsigned char *text,
                    size_t size) {
    int *ids, end = llm_tokenizer_id(t, END);
    size_t n;
    need(llm_tokenizer_encode(t, &ids, &n, (const char *)text, size, &e));
    if (!llm_buffer_put(out, &end, sizeof end) || !llm_buffer_put(out, ids, n * sizeof *ids))
        die("out of memory");
    free(ids);
}

/* A tokenizer trained on nine tenths of the files, a new model, and the tokens of both parts. */
static void start(llm_gpt2_run *r, llm_tokenizer *t) {
    llm_bpe bpe;
    llm_gpt2_config c = llm_gpt2_defaults();
    llm_bpe_train_words words = llm_bpe_train_words_empty();
    llm_file *f = (llm_file *)calloc(o.files, sizeof *f);
    if (!f) die("out of memory");
    for (size_t i = 0; i < o.files; i++) {
        need(llm_file_read(&f[i], o.data[i], &e));
        if (f[i].size == 0) die("%s: the file is empty", o.data[i]);
        if (!llm_bpe_train_count(&words, (char *)f[i].data, f[i].size - f[i].size / 10,
                                 LLM_PRE_TOKENIZE_GPT2))
            die("out of memory");
    }
    need(llm_bpe_train_run(&bpe, &words, (size_t)o.vocab - 1, 2, &e));
    llm_bpe_train_words_free(&words);
    llm_tokenizer_from_bpe(t, &bpe, LLM_PRE_TOKENIZE_GPT2);
    if (llm_tokenizer_add_special(t, END) < 0) die("out of memory");
    c.vocab = t->vocab, c.context = (size_t)o.context, c.layers = (size_t)o.layers;
    c.heads = (size_t)o.heads, c.width = (size_t)o.width, c.hidden = 4 * c.width;
    need(llm_gpt2_run_create(r, &c, (size_t)o.batch, (size_t)o.steps, o.lr, (uint64_t)o.seed, &e));
    for (size_t i = 0; i < o.files; i++) {
        const size_t held = f[i].size / 10, cut = f[i].size - held;
        put_ids(&r->train, t, f[i].data, cut);
        put_ids(&r->held, t, f[i].data + cut, held);
        llm_file_free(&f[i]);
    }
    free(f);
    if (r->train.size / sizeof(int) <= c.context)
        die("the text has %zu tokens, too few for a context of %zu", r->train.size / sizeof(int),
            c.context);
    for (const char *slash = o.out; slash; slash = strchr(slash + 1, '/')) { /* out, then out/gpt */
        const char *next = strchr(slash + 1, '/');
        snprintf(e.message, sizeof e.message, "%.*s", next ? (int)(next - o.out) : 4095, o.out);
        if (mkdir(e.message, 0777) != 0 && errno != EEXIST)
            die("%s: %s", e.message, strerror(errno));
    }
}

static void save(const llm_gpt2_run *r, const llm_tokenizer *t, const char *dir) {
    need(llm_gpt2_run_save(r, dir, &e));
    need(llm_tokenizer_save_json(t, in(dir, "tokenizer.json"), &e));
}

static void train(llm_gpt2_run *r, const llm_tokenizer *t, const char *dir) {
    const llm_gpt2_run_state *s = &r->state;
    const bool terminal = isatty(2);
    const size_t first = (size_t)s->step, tenth = (size_t)(s->steps + 9) / 10;
    const double began = now(), tokens = (double)(s->batch * r->model.config.context);
    for (double shown = began; s->step < s->steps && !interrupted;) {
        float loss = 0.0f, norm = 0.0f;
        need(llm_gpt2_run_step(r, &loss, &norm, &e));
        const bool stop = s->step % tenth == 0 || s->step == s->steps;
        const double each = (now() - began) / (double)(s->step - first);
        if (stop || now() - shown > (terminal ? 0.2 : 10.0)) {
            shown = now();
            fprintf(stderr,
                    "%sstep %zu of %zu  loss %.3f  gradient %.2f  %.0f tokens/s  %.0f s left  %s",
                    terminal ? "\r" : "", (size_t)s->step, (size_t)s->steps, (double)loss,
                    (double)norm, tokens / each, each * (double)(s->steps - s->step),
                    terminal && !stop ? "" : "\n");
        }
        if (stop) save(r, t, dir);
    }
    if (s->step == s->steps) return;
    save(r, t, dir);
    fprintf(stderr, "\nstopped and saved at step %zu; gpt --resume %s goes on\n", (size_t)s->step,
            dir);
    exit(130);
}

/* The loss of every step, in the terminal and as loss.svg: a column is the mean of its steps. */
static void draw(const llm_gpt2_run *r, const char *dir) {
    enum { W = 60, H = 12 };
    const float *loss = (const float *)(const void *)r->loss.data;
    const size_t n = r->loss.size / sizeof *loss, columns = n < W ? n : W;
    float mean[W], low = INFINITY, high = -INFINITY;
    llm_buffer svg = {NULL, 0, 0};
    for (size_t c = 0; c < columns; c++) {
        const size_t from = c * n / columns, to = (c + 1) * n / columns;
        mean[c] = 0.0f;
        for (size_t i = from; i < to; i++) mean[c] += loss[i] / (float)(to - from);
        low = fminf(low, mean[c]), high = fmaxf(high, mean[c]);
    }
    const float height = high > low ? high - low : 1.0f;
    bool ok = llm_buffer_print(&svg,
                               "<svg xmlns='http://www.w3.org/2000/svg' viewBox='-60 -40 720 400' "
                               "font-family='sans-serif'>\n"
                               "<rect x='-60' y='-40' width='720' height='400' fill='white'/>\n"
                               "<path d='M0 0V300H600' fill='none' stroke='black'/>\n<text "
                               "y='-16'>loss, nats per token</text>\n"
                               "<text x='-50' y='6'>%.2f</text><text x='-50' y='306'>%.2f</text>\n"
                               "<text x='600' y='324' text-anchor='end'>step %zu</text>\n"
                               "<polyline fill='none' stroke='#36c' stroke-width='2' points='",
                               (double)high, (double)low, n);
    for (size_t c = 0; ok && c < columns; c++)
        ok = llm_buffer_print(&svg, "%.1f,%.1f ", 600.0 * ((double)c + 0.5) / (double)columns,
                              (double)(300.0f * (high - mean[c]) / height));
    if (!ok || !llm_buffer_print(&svg, "'/>\n</svg>\n")) die("out of memory");
    need(llm_file_write(in(dir, "loss.svg"), svg.data, svg.size, &e));
    llm_buffer_free(&svg);
    printf("loss, nats per token, over %zu steps\n", n);
    for (size_t y = 0; y < H; y++) {
        printf("%6.2f |", (double)(high - height * (float)y / (H - 1)));
        for (size_t c = 0; c < columns; c++)
            putchar((size_t)((H - 1) * (high - mean[c]) / height + 0.5f) == y ? '*' : ' ');
        printf("\n");
    }
}

static void write_text(const llm_gpt2 *g, const llm_tokenizer *t) {
    llm_gpt2_decoder d;
    llm_buffer ids = {NULL, 0, 0}, text = {NULL, 0, 0};
    llm_rng rng = llm_rng_seed((uint64_t)o.seed);
    int *prompt, id, end = llm_tokenizer_id(t, END);
    size_t n;
    need(llm_tokenizer_encode(t, &prompt, &n, o.prompt, strlen(o.prompt), &e));
    if (n == 0 && end < 0) die("this model needs a --prompt");
    bool ok = llm_buffer_put(&ids, n ? prompt : &end, (n ? n : 1) * sizeof(int));
    need(llm_gpt2_decoder_create(&d, g, 64, &e));
    printf("%s", o.prompt);
    for (double i = 0; ok && i < o.tokens && !interrupted; i++) {
        id = llm_gpt2_next(&d, (const int *)(const void *)ids.data, ids.size / sizeof id,
                           (float)o.temp, (size_t)o.top_k, (float)o.top_p, &rng);
        if (id == end) break;
        text.size = 0;
        ok = llm_buffer_put(&ids, &id, sizeof id) && llm_tokenizer_decode(t, &text, &id, 1, &e);
        fwrite(text.data, 1, text.size, stdout);
        fflush(stdout);
    }
    if (!ok) die("out of memory");
    printf("\n");
    llm_gpt2_decoder_destroy(&d);
    llm_buffer_free(&ids);
    llm_buffer_free(&text);
    free(prompt);
}

/* Nats per byte of the held-out text, all tokens but the first: the GPT, and counts of one and three
 * tokens. */
static void compare(llm_gpt2_run *r, const llm_tokenizer *t) {
    const size_t n = r->held.size / sizeof(int), count = r->train.size / sizeof(int),
                 T = r->model.config.context;
    const int *ids = (const int *)(const void *)r->held.data,
              *seen = (const int *)(const void *)r->train.data;
    double nats[3];
    llm_buffer text = {NULL, 0, 0};
    for (size_t i = 0; i < n; i++)
        if (ids[i] != llm_tokenizer_id(t, END))
            need(llm_tokenizer_decode(t, &text, &ids[i], 1, &e));
    if (text.size == 0) return;
    nats[0] = llm_gpt2_evaluate(&r->model, ids, n, (size_t)r->state.batch, T);
    for (int order = 1; order <= 3; order += 2) {
        llm_interpolated_lm lm;
        need(llm_interpolated_lm_fit(&lm, seen, count, t->vocab, order, 0.75, &e));
        nats[order / 2 + 1] = llm_interpolated_lm_nats(&lm, ids, n);
        llm_interpolated_lm_free(&lm);
    }
    printf("held-out text, nats per byte: GPT %.3f, trigram %.3f, unigram %.3f\n",
           nats[0] / (double)text.size, nats[2] / (double)text.size, nats[1] / (double)text.size);
    llm_buffer_free(&text);
}

int main(int argc, char **argv) {
    llm_gpt2_run r;
    llm_gpt2 g;
    llm_tokenizer t;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt;
    sigaction(SIGINT, &action, NULL);
    parse(argc, argv);
    const char *dir = o.load ? o.load : o.resume ? o.resume : o.out;
    if (o.load) need(llm_gpt2_load(&g, dir, 0, 0, &e));
    if (o.resume) need(llm_gpt2_run_load(&r, dir, &e));
    if (o.load || o.resume)
        need(llm_tokenizer_load(&t, dir, &e));
    else
        start(&r, &t);
    const llm_gpt2 *model = o.load ? &g : &r.model;
    if (t.vocab != model->config.vocab)
        die("%s: the tokenizer has %zu tokens, the model %zu", dir, t.vocab, model->config.vocab);
    if (!o.load) train(&r, &t, dir);
    if (!o.load) draw(&r, dir);
    write_text(model, &t);
    if (!o.load) compare(&r, &t);
    if (fflush(stdout) != 0 || ferror(stdout)) die("the output cannot be written");
    return 0;
}
