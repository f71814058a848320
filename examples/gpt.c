/* gpt: trains a GPT on your text files, then writes in their style.
 *
 *     cc -std=c99 -O3 -march=native -fopenmp examples/gpt.c -o gpt -lm
 *     ./gpt --data book.txt --out my-gpt              train, a minute or two
 *     ./gpt --load my-gpt --prompt "Once upon a"      write; the directory of any GPT-2 will do
 *     ./generate my-gpt --prompt "Once upon a"        examples/generate.c can do more with it
 *
 * Every tenth piece of the text, 4 KB or less, is held out: the tokenizer, byte-level BPE, and the
 * model see only the rest. The directory holds config.json and model.safetensors, which
 * transformers' GPT2LMHeadModel loads, tokenizer.json for its PreTrainedTokenizerFast, and
 * run.safetensors for --resume. An error ends with exit code 2. */
#define _POSIX_C_SOURCE 200809L
#include "../llm.h"

#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#define END "<|endoftext|>"

static struct {
    const char *out, *resume, *load, *prompt;
    double steps, layers, heads, width, context, vocab, batch, lr, seed, tokens, temp, top_k, top_p,
        min_p, repeat;
    char **data;
    size_t files;
} o;

static const struct {
    const char *name, **text;           /* a text, or */
    double *number, start, least, most; /* a number; whole where the help says N */
    const char *help;
} known[] = {
    {"--out", &o.out, NULL, 0, 0, 0, "DIR        where the model goes (out)"},
    {"--steps", NULL, &o.steps, 3600, 1, 1e9, "N        training steps (3600)"},
    {"--layers", NULL, &o.layers, 2, 1, 1024, "N       blocks (2)"},
    {"--heads", NULL, &o.heads, 3, 1, 1024, "N        heads of a block (3)"},
    {"--width", NULL, &o.width, 96, 1, 32768, "N        channels, a multiple of the heads (96)"},
    {"--context", NULL, &o.context, 64, 1, 8192, "N      tokens that it sees (64)"},
    {"--vocab", NULL, &o.vocab, 768, 257, 1e6, "N        tokens that it knows, at most (768)"},
    {"--batch", NULL, &o.batch, 16, 1, 4096, "N        rows of a step (16)"},
    {"--lr", NULL, &o.lr, 6e-3, 1e-9, 10, "X           learning rate at its peak (0.006)"},
    {"--resume", &o.resume, NULL, 0, 0, 0, "DIR     goes on with a training that was stopped"},
    {"--load", &o.load, NULL, 0, 0, 0, "DIR       no training: writes with this model"},
    {"--prompt", &o.prompt, NULL, 0, 0, 0, "TEXT    what it goes on from"},
    {"--seed", NULL, &o.seed, 1, 0, 4294967295.0, "N         of all random numbers (1)"},
    {"--tokens", NULL, &o.tokens, 300, 0, 1e7, "N       how much to write (300)"},
    {"--temperature", NULL, &o.temp, 0.8, 0, 100, "X  of the choice; 0: the likeliest (0.8)"},
    {"--top-k", NULL, &o.top_k, 0, 0, 1e9, "N        only the k likeliest; 0: all (0)"},
    {"--top-p", NULL, &o.top_p, 0.95, 0, 1, "X        only the likeliest of this share (0.95)"},
    {"--min-p", NULL, &o.min_p, 0, 0, 1, "X        only what has this share of the best (0)"},
    {"--repeat", NULL, &o.repeat, 1, 0.01, 100, "X       divides the logits of used tokens (1)"},
};
enum { KNOWN = sizeof known / sizeof *known, NEW = 9 }; /* the first 9 belong to a new training */

static llm_gpt2_run r;
static llm_tokenizer tokenizer;
static llm_error e;
static const char *dir;
static volatile sig_atomic_t interrupted;
static void on_interrupt(int number) { interrupted = number; }

static void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("gpt: ", stderr), vfprintf(stderr, format, args), fputs("\n", stderr);
    exit(2);
}
static void need(bool ok) { ok ? (void)0 : die("%s", e.message); }
static void room(bool ok) { ok ? (void)0 : die("out of memory"); }
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static const char *in_dir(const char *name) {
    static char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= 4096) die("%s: too long", dir);
    return path;
}

static void parse(int argc, char **argv) {
    const char *trains = NULL;
    o.out = "out", o.prompt = "";
    for (size_t k = 0; k < KNOWN; k++)
        if (known[k].number) *known[k].number = known[k].start;
    for (int i = 1; i < argc; i++) {
        size_t k = 0;
        if (strcmp(argv[i], "--help") == 0) {
            printf("gpt --data FILE... [options]; gpt --resume DIR; gpt --load DIR [options]\n");
            for (; k < KNOWN; k++) printf("  %s %s\n", known[k].name, known[k].help);
            exit(0);
        }
        if (strcmp(argv[i], "--data") == 0) {
            trains = argv[i], o.data = argv + i + 1;
            for (; i + 1 < argc && strncmp(argv[i + 1], "--", 2) != 0; i++) o.files++;
            continue;
        }
        while (k < KNOWN && strcmp(argv[i], known[k].name) != 0) k++;
        if (k == KNOWN) die("%s is no option; --help lists them", argv[i]);
        if (++i == argc) die("%s needs a value", known[k].name);
        if (k < NEW) trains = known[k].name;
        if (known[k].text) *known[k].text = argv[i];
        if (known[k].text) continue;
        char *end;
        const double x = *known[k].number = strtod(argv[i], &end);
        const bool whole = known[k].help[0] == 'N';
        if (end == argv[i] || *end || !(x >= known[k].least && x <= known[k].most) ||
            (whole && x != floor(x)))
            die("%s is '%s', expected a %snumber from %g to %g", known[k].name, argv[i],
                whole ? "whole " : "", known[k].least, known[k].most);
    }
    if (!!o.resume + !!o.load + !!trains > 1)
        die("--resume, --load and %s exclude each other", trains ? trains : "--data");
    if (!o.resume && !o.load && o.files == 0) die("--data FILE... is missing; see --help");
    if (fmod(o.width, o.heads) != 0) die("--width is not a multiple of --heads");
}

/* Appends the tokens of a text; where it begins they follow an end-of-text token. */
static void put_ids(llm_buffer *out, const unsigned char *text, size_t size, bool begins) {
    int *ids, end = llm_tokenizer_id(&tokenizer, END);
    size_t n;
    need(llm_tokenizer_encode(&tokenizer, &ids, &n, (const char *)text, size, &e));
    room(!begins || size == 0 || llm_buffer_put(out, &end, sizeof end));
    room(llm_buffer_put(out, ids, n * sizeof *ids));
    free(ids);
}

/* Counts the words to learn from or, without words, puts the tokens where they belong. Pieces are
 * counted through all files: of small ones it is not always the end that is held out. */
static void walk(const llm_file *f, llm_bpe_train_words *words) {
    size_t total = 0, at = 0, n;
    for (size_t i = 0; i < o.files; i++) total += f[i].size;
    const size_t piece = llm_gemm_least(4096, (total + 9) / 10);
    for (size_t i = 0; i < o.files; i++) {
        for (size_t from = 0; from < f[i].size; from += n, at += n) {
            const size_t in = at % (10 * piece);
            const bool held = in >= 9 * piece;
            const unsigned char *text = f[i].data + from;
            n = llm_gemm_least(f[i].size - from, (held ? 10 : 9) * piece - in);
            if (!words)
                put_ids(held ? &r.held : &r.train, text, n, held || from == 0);
            else
                room(held || llm_bpe_train_count(words, (char *)text, n, LLM_PRE_TOKENIZE_GPT2));
        }
    }
}

/* A tokenizer trained on nine tenths of the text, a new model, and the tokens of both parts. */
static void start(void) {
    llm_bpe bpe;
    llm_gpt2_config c = llm_gpt2_defaults();
    llm_bpe_train_words words = llm_bpe_train_words_empty();
    llm_file *f = (llm_file *)calloc(o.files, sizeof *f);
    room(f != NULL);
    for (size_t i = 0; i < o.files; i++) {
        need(llm_file_read(&f[i], o.data[i], &e));
        if (f[i].size == 0) die("%s: the file is empty", o.data[i]);
    }
    walk(f, &words);
    need(llm_bpe_train_run(&bpe, &words, (size_t)o.vocab - 1, 2, &e));
    llm_bpe_train_words_free(&words);
    llm_tokenizer_from_bpe(&tokenizer, &bpe, LLM_PRE_TOKENIZE_GPT2);
    need(llm_tokenizer_add_special(&tokenizer, END, &e));
    c.vocab = tokenizer.vocab, c.context = (size_t)o.context, c.layers = (size_t)o.layers;
    c.heads = (size_t)o.heads, c.width = (size_t)o.width, c.hidden = 4 * c.width;
    need(llm_gpt2_run_create(&r, &c, (size_t)o.batch, (size_t)o.steps, o.lr, (uint64_t)o.seed, &e));
    walk(f, NULL);
    for (size_t i = 0; i < o.files; i++) llm_file_free(&f[i]);
    free(f);
    const size_t n = r.train.size / sizeof(int);
    if (n <= c.context) die("the text has %zu tokens, too few for --context %zu", n, c.context);
    if ((mkdir(dir, 0777) != 0 && errno != EEXIST) || access(dir, W_OK) != 0)
        die("%s: %s", dir, strerror(errno));
}

static void train(void) {
    const size_t first = (size_t)r.state.step, last = (size_t)r.state.steps;
    const bool terminal = isatty(2);
    const double began = now(), tokens = (double)(r.state.batch * r.model.config.context);
    double shown = began;
    for (size_t step = first + 1; step <= last && !interrupted; step++) {
        float loss = 0.0f, norm = 0.0f;
        need(llm_gpt2_run_step(&r, &loss, &norm, &e));
        const bool stop = step % ((last + 9) / 10) == 0 || step == last || interrupted;
        const double each = (now() - began) / (double)(step - first);
        if (stop || now() - shown > (terminal ? 0.2 : 10.0)) {
            fprintf(stderr, "%sstep %zu of %zu, loss %.3f, gradient %.2f, ", terminal ? "\r" : "",
                    step, last, (double)loss, (double)norm);
            fprintf(stderr, "%.0f tokens/s, %.0f s left%s", tokens / each,
                    each * (double)(last - step), terminal && !stop ? "  " : "\n");
            shown = now();
        }
        if (!stop) continue;
        need(llm_gpt2_run_save(&r, dir, &e));
        need(llm_tokenizer_save_json(&tokenizer, in_dir("tokenizer.json"), &e));
    }
    if (r.state.step < last) fprintf(stderr, "stopped; gpt --resume %s goes on\n", dir), exit(130);
}

/* The loss of every step, in the terminal and as loss.svg: a column is the mean of its steps. */
static void draw(void) {
    enum { W = 60, H = 12 };
    const float *loss = (const float *)(const void *)r.loss.data;
    const size_t n = r.loss.size / sizeof *loss, columns = n < W ? n : W;
    float mean[W], low = INFINITY, high = -INFINITY;
    llm_buffer svg = {NULL, 0, 0};
    for (size_t c = 0; c < columns; c++) {
        const size_t from = c * n / columns, to = (c + 1) * n / columns;
        mean[c] = 0.0f;
        for (size_t i = from; i < to; i++) mean[c] += loss[i] / (float)(to - from);
        low = fminf(low, mean[c]), high = fmaxf(high, mean[c]);
    }
    const float height = high > low ? high - low : 1.0f;
    const char *frame = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='-60 -40 720 400' "
                        "style='background:white'><text y='-16'>loss, nats per token, %zu steps"
                        "</text><text x='-50' y='6'>%.2f</text><text x='-50' y='306'>%.2f</text>\n"
                        "<path d='M0 0V300H600' fill='none' stroke='black'/>\n<polyline "
                        "fill='none' stroke='#36c' stroke-width='2' points='";
    room(llm_buffer_print(&svg, frame, n, (double)high, (double)low));
    for (size_t c = 0; c < columns; c++)
        room(llm_buffer_print(&svg, "%.1f,%.1f ", 600.0 * ((double)c + 0.5) / (double)columns,
                              (double)(300.0f * (high - mean[c]) / height)));
    room(llm_buffer_print(&svg, "'/>\n</svg>\n"));
    need(llm_file_write(in_dir("loss.svg"), svg.data, svg.size, &e));
    llm_buffer_free(&svg);
    printf("loss, nats per token, over %zu steps\n", n);
    for (size_t y = 0; y < H; y++) {
        printf("%6.2f |", (double)(high - height * (float)y / (H - 1)));
        for (size_t c = 0; c < columns; c++)
            putchar((size_t)((H - 1) * (high - mean[c]) / height + 0.5f) == y ? '*' : ' ');
        printf("\n");
    }
}

static void write_text(void) {
    llm_gpt2_decode_state d;
    llm_sampling_text s;
    llm_sampling_text_config chain = llm_sampling_text_defaults(LLM_SAMPLING_TEXT_API);
    llm_arena arena;
    llm_buffer text = {NULL, 0, 0};
    llm_rng rng = llm_rng_seed((uint64_t)o.seed);
    const size_t V = r.model.config.vocab;
    int *ids, id = 0, end = llm_tokenizer_id(&tokenizer, END);
    size_t n, most = (size_t)o.tokens;
    need(llm_tokenizer_encode(&tokenizer, &ids, &n, o.prompt, strlen(o.prompt), &e));
    room((ids = (int *)realloc(ids, (n + 1 + most) * sizeof *ids)) != NULL);
    if (n == 0 && end < 0) die("this model needs a --prompt");
    if (n == 0) ids[n++] = end;
    chain.filter.temperature = (float)o.temp, chain.filter.top_k = (float)o.top_k;
    chain.filter.top_p = (float)o.top_p, chain.filter.min_p = (float)o.min_p;
    chain.repetition = (float)o.repeat;
    need(llm_gpt2_decode_create(&d, &r.model, 64, &e));
    room(llm_arena_create(&arena, 96 * V + 8 * (n + most) + 4096));
    llm_sampling_text_create(&s, &chain, V, n + most, n, &arena);
    printf("%s", o.prompt);
    for (; most > 0 && !interrupted && id != end; n++, most--) {
        llm_gpt2_decode_follow(&d, ids, n);
        id = ids[n] = llm_sampling_text_pick(&s, d.logits, V, ids, n, &rng);
        if (id < 0) die("the model's logits are no numbers");
        text.size = 0;
        need(id == end || llm_tokenizer_decode(&tokenizer, &text, &id, 1, &e));
        fwrite(text.data, 1, text.size, stdout), fflush(stdout);
    }
    printf("\n");
    llm_gpt2_decode_destroy(&d), llm_arena_destroy(&arena);
    free(ids), llm_buffer_free(&text);
}

/* Nats per byte of the held-out text, of all tokens but the first. */
static void compare(void) {
    const size_t n = r.held.size / sizeof(int), count = r.train.size / sizeof(int);
    const int *ids = (int *)(void *)r.held.data, *seen = (int *)(void *)r.train.data;
    const int end = llm_tokenizer_id(&tokenizer, END);
    double nats[4];
    llm_buffer text = {NULL, 0, 0};
    for (size_t i = 0; i < n; i++)
        if (ids[i] != end) need(llm_tokenizer_decode(&tokenizer, &text, &ids[i], 1, &e));
    if (text.size == 0) return;
    const size_t B = (size_t)r.state.batch, T = r.model.config.context;
    nats[0] = llm_gpt2_evaluate(&r.model, ids, n, B, T, (T + 3) / 4) / (double)text.size;
    for (int order = 1; order <= 3; order++) {
        llm_interpolated_lm lm;
        need(llm_interpolated_lm_fit(&lm, seen, count, tokenizer.vocab, order, 0.75, &e));
        nats[order] = llm_interpolated_lm_nats(&lm, ids, n) / (double)text.size;
        llm_interpolated_lm_free(&lm);
    }
    printf("held-out text, nats per byte: GPT %.3f, trigram %.3f, bigram %.3f, unigram %.3f\n",
           nats[0], nats[3], nats[2], nats[1]);
    llm_buffer_free(&text);
}

int main(int argc, char **argv) {
    signal(SIGINT, on_interrupt); /* once: a second one ends the program */
    parse(argc, argv);
    dir = o.load ? o.load : o.resume ? o.resume : o.out;
    if (o.load) need(llm_gpt2_load(&r.model, dir, 0, 0, &e));
    if (o.resume) need(llm_gpt2_run_load(&r, dir, &e));
    if (o.load || o.resume) need(llm_tokenizer_load(&tokenizer, dir, &e));
    if (!o.load && !o.resume) start();
    if (tokenizer.vocab != r.model.config.vocab)
        die("the tokenizer has %zu tokens, the model %zu", tokenizer.vocab, r.model.config.vocab);
    if (!o.load) train(), draw();
    write_text();
    if (!o.load) compare();
    if (fflush(stdout) != 0 || ferror(stdout)) die("the output cannot be written");
    llm_gpt2_run_free(&r), llm_tokenizer_free(&tokenizer);
    return 0;
}
