/* generate: lets a language model write, or talks with it.
 *
 *     cc -std=c99 -O3 -march=native -fopenmp examples/generate.c -o generate -lm
 *     ./generate SmolLM2-135M --prompt "Once upon a time"     goes on with a text
 *     ./generate Llama-3.2-1B-Instruct --chat                 a conversation: a line for each turn
 *     ./generate qwen3.gguf --chat --prompt "Why is the sky blue?" --temp 0       one answer
 *     ./generate Qwen3-8B --chat --draft Qwen3-0.6B            the same law, in fewer passes
 *     head book.txt | ./generate gpt2 --prompt -               a text from standard input
 *
 * The model is a directory as Hugging Face has it (config.json, safetensors, tokenizer) or a GGUF
 * file: Llama, Mistral, Qwen 2 and 3, Gemma 2, SmolLM2, GPT-2, in the file's 32 to 4 bits. Ctrl-C
 * ends an answer, and at a question the conversation. An error ends with exit code 2. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include "../llm.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static struct {
    const char *model, *prompt, *system, *template, *draft;
    double ahead, tokens, context, last, seed, chat, quiet, cache16, round;
} o;
static float surprise;                 /* Mirostat's, or 0 */
static llm_sampling_text_config chain; /* what is done to the logits, in llama.cpp's order */

static const struct {
    const char *name;
    char kind; /* Text, Number that is whole, X: a float, K: one that is whole, -: being there */
    void *to;
    double start, least, most;
    const char *help;
} known[] = {
    {"--prompt", 'T', &o.prompt, 0, 0, 0, "what it goes on from, or the question; - for stdin"},
    {"--chat", '-', &o.chat, 0, 0, 1, "a conversation: a line for each turn"},
    {"--system", 'T', &o.system, 0, 0, 0, "what the model is told in front of it"},
    {"--template", 'T', &o.template, 0, 0, 0, "a spelling of turns other than its own"},
    {"--no-think", '-', &o.quiet, 0, 0, 1, "answers begin behind empty thoughts"},
    {"--draft", 'T', &o.draft, 0, 0, 0, "a small model that guesses, for the model to check"},
    {"--ahead", 'N', &o.ahead, 4, 1, 64, "tokens it guesses at a time (4)"},
    {"--tokens", 'N', &o.tokens, 256, 0, 1e9, "of an answer, at most (256)"},
    {"--context", 'N', &o.context, 4096, 2, 1 << 24, "tokens it can see (4096)"},
    {"--cache16", '-', &o.cache16, 0, 0, 1, "keys and values in 16 bits: half their memory"},
    {"--round", '-', &o.round, 0, 0, 1, "inputs of Q8_0, Q4_0 are rounded, too: faster"},
    {"--seed", 'N', &o.seed, 1, 0, 4294967295.0, "of all random numbers (1)"},
    {"--temp", 'X', &chain.filter.temperature, 0.8, 0, 100, "0: the likeliest (0.8)"},
    {"--top-k", 'K', &chain.filter.top_k, 0, 0, 1e6, "only so many of the likeliest; 0: all (0)"},
    {"--top-p", 'X', &chain.filter.top_p, 0.95, 0, 1, "only the likeliest of this share (0.95)"},
    {"--min-p", 'X', &chain.filter.min_p, 0, 0, 1, "only what has this share of the best (0)"},
    {"--typical", 'X', &chain.filter.typical, 1, 0, 1, "only the most typical of this share (1)"},
    {"--epsilon", 'X', &chain.filter.epsilon, 0, 0, 1, "only what is this probable (0)"},
    {"--eta", 'X', &chain.filter.eta, 0, 0, 1, "the same, less where many would do (0)"},
    {"--top-sigma", 'X', &chain.filter.top_n_sigma, 0, 0, 100, "deviations below the best (off)"},
    {"--xtc", 'X', &chain.xtc_chance, 0, 0, 1, "chance that what is expected most goes (0)"},
    {"--xtc-above", 'X', &chain.xtc_threshold, 0.1, 0, 1, "from this probability on (0.1)"},
    {"--mirostat", 'X', &surprise, 0, 0, 100, "instead: bits of surprise a token (off)"},
    {"--repeat", 'X', &chain.repetition, 1, 0.01, 100, "divides the logits of used tokens (1)"},
    {"--frequency", 'X', &chain.frequency, 0, -100, 100, "off a logit, for each use (0)"},
    {"--presence", 'X', &chain.presence, 0, -100, 100, "off it once, if it was used (0)"},
    {"--dry", 'X', &chain.dry.multiplier, 0, 0, 100, "off it, where a piece would repeat (0)"},
    {"--last", 'N', &o.last, 64, 0, 1 << 24, "tokens these four look at; 0: all (64)"},
};
enum { KNOWN = sizeof known / sizeof *known, CHUNK = 128, ENDS = 16 };

static llm_llama m, draft;
static llm_tokenizer tokenizer;
static llm_chat_template template;
static llm_rng rng;
static llm_error e;
static llm_buffer seen; /* of int: what the model has read */
static int ends[ENDS];  /* the tokens that end a text */
static size_t end_count;
static volatile sig_atomic_t interrupted;
static void on_interrupt(int number) { interrupted = number; }

static void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("generate: ", stderr), vfprintf(stderr, format, args), fputs("\n", stderr);
    exit(2);
}
static void need(bool ok) { ok ? (void)0 : die("%s", e.message); }
static void room(bool ok) { ok ? (void)0 : die("out of memory"); }
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void set(size_t k, double x) {
    if (strchr("N-", known[k].kind)) *(double *)known[k].to = x;
    if (strchr("XK", known[k].kind)) *(float *)known[k].to = (float)x;
}

static void parse(int argc, char **argv) {
    chain = llm_sampling_text_defaults(LLM_SAMPLING_TEXT_LLAMA_CPP);
    for (size_t k = 0; k < KNOWN; k++) set(k, known[k].start);
    for (int i = 1; i < argc; i++) {
        size_t k = 0;
        if (strcmp(argv[i], "--help") == 0) {
            printf("generate MODEL [options]; MODEL: a directory or a .gguf file\n");
            for (; k < KNOWN; k++)
                printf("  %-11s %-4s  %s\n", known[k].name,
                       known[k].kind == 'T'          ? "TEXT"
                       : known[k].kind == '-'        ? ""
                       : strchr("NK", known[k].kind) ? "N"
                                                     : "X",
                       known[k].help);
            exit(0);
        }
        if (strncmp(argv[i], "--", 2) != 0) {
            if (o.model) die("%s and %s: expected one model", o.model, argv[i]);
            o.model = argv[i];
            continue;
        }
        while (k < KNOWN && strcmp(argv[i], known[k].name) != 0) k++;
        if (k == KNOWN) die("%s is no option; --help lists them", argv[i]);
        const bool alone = known[k].kind == '-', whole = strchr("NK", known[k].kind) != NULL;
        if (!alone && ++i == argc) die("%s needs a value", known[k].name);
        if (alone) set(k, 1);
        if (known[k].kind == 'T') *(const char **)known[k].to = argv[i];
        if (alone || known[k].kind == 'T') continue;
        char *end;
        const double x = strtod(argv[i], &end);
        set(k, x);
        if (end == argv[i] || *end || !(x >= known[k].least && x <= known[k].most) ||
            (whole && x != floor(x)))
            die("%s is '%s', expected a %snumber from %g to %g", known[k].name, argv[i],
                whole ? "whole " : "", known[k].least, known[k].most);
    }
    if (!o.model) die("which model? generate MODEL --prompt TEXT; see --help");
    if (o.chat == 0 && !o.prompt) die("--prompt TEXT or --chat is missing; see --help");
    if (o.chat == 0 && (o.system || o.template || o.quiet > 0))
        die("--system, --template and --no-think are for --chat");
    if (surprise > 0 && o.draft) die("--mirostat and --draft exclude each other");
    chain.last_n = chain.dry.last_n = (size_t)o.last;
}

/* The prompt from standard input, without the ends of its last line. */
static void read_prompt(void) {
    static llm_buffer in;
    for (size_t got = 1; got > 0; in.size += got) {
        room(llm_buffer_reserve(&in, 4096));
        got = fread(in.data + in.size, 1, 4096, stdin);
    }
    if (ferror(stdin)) die("standard input: %s", strerror(errno));
    if (in.size > 0 && memchr(in.data, 0, in.size))
        die("standard input holds a 0, which no text has");
    while (in.size > 0 && strchr("\r\n", in.data[in.size - 1])) in.size--;
    room(llm_buffer_put(&in, "", 1));
    o.prompt = in.data;
}

/* Whether the directory has such a file. */
static bool has(const char *dir, const char *name) {
    char path[4096];
    return snprintf(path, sizeof path, "%s/%s", dir, name) < 4096 && access(path, R_OK) == 0;
}

/* What can be said of a model before it is opened. */
static void look_at(const char *path) {
    struct stat info;
    const size_t size = strlen(path);
    const bool gguf = size > 5 && strcmp(path + size - 5, ".gguf") == 0;
    if (stat(path, &info) != 0)
        die("%s: %s; expected a model's directory or a .gguf file", path, strerror(errno));
    if (gguf) return;
    if (!S_ISDIR(info.st_mode))
        die("%s is a file that does not end in .gguf; expected a directory or such a file", path);
    if (!has(path, "config.json"))
        die("%s has no config.json; expected a model's directory as Hugging Face has it", path);
    if (!has(path, "tokenizer.json") && !has(path, "vocab.json") && !has(path, "tokenizer.model"))
        die("%s has no tokenizer; expected tokenizer.json, vocab.json and merges.txt, or "
            "tokenizer.model",
            path);
}

static void end_with(double id) {
    if (id >= 0.0 && id < (double)m.file.config.vocab && end_count < ENDS)
        ends[end_count++] = (int)id;
}

/* A number of a GGUF file, or absent. */
static double number_of(const char *key, double absent) {
    const llm_gguf_values *g = &m.file.gguf.values;
    return llm_gguf_values_number(g, llm_gguf_values_find(g, key), 0, absent);
}

/* A file of the model's directory as JSON; false where there is none. */
static bool json_of(llm_json *j, llm_file *f, const char *name) {
    char path[4096];
    if (m.file.is_gguf || snprintf(path, sizeof path, "%s/%s", o.model, name) >= 4096) return false;
    if (!llm_file_read(f, path, NULL)) return false;
    if (!llm_json_parse(j, (const char *)f->data, f->size, &e)) die("%s: %s", path, e.message);
    return true;
}

/* The tokens that end a text, as the model's files say. */
static void read_ends(void) {
    static const char *const name[2] = {"config.json", "generation_config.json"};
    static const char *const key[2] = {"tokenizer.ggml.eos_token_id",
                                       "tokenizer.ggml.eot_token_id"};
    for (int i = 0; i < 2; i++) {
        llm_json j;
        llm_file f;
        if (m.file.is_gguf) end_with(number_of(key[i], -1.0));
        if (!json_of(&j, &f, name[i])) continue;
        const llm_json_node *v = llm_json_get(&j, j.node, "eos_token_id");
        const bool list = v && v->kind == LLM_JSON_ARRAY;
        for (v = list ? llm_json_first(&j, v) : v; v; v = list ? llm_json_next(&j, v) : NULL)
            if (v->kind == LLM_JSON_NUMBER) end_with(v->number);
        llm_json_free(&j), llm_file_free(&f);
    }
    if (end_count == 0) end_with(llm_tokenizer_id(&tokenizer, "<|endoftext|>"));
}

/* The token in front of a text, or -1. An empty one begins with it even if others do not. */
static int begin(bool empty) {
    llm_bos bos = {-1, false};
    llm_json j;
    llm_file f;
    if (m.file.is_gguf) {
        const double id = number_of("tokenizer.ggml.bos_token_id", -1.0);
        bos.add = number_of("tokenizer.ggml.add_bos_token", tokenizer.pieces) > 0.0;
        bos.id = id < (double)m.file.config.vocab ? (int)id : -1;
    } else if (json_of(&j, &f, "tokenizer_config.json")) {
        need(llm_bos_read(&bos, &tokenizer, (const char *)f.data, f.size,
                          tokenizer.pieces || tokenizer.single.size > 0, &e));
        llm_json_free(&j), llm_file_free(&f);
    }
    if (empty && bos.id < 0) bos.id = llm_tokenizer_id(&tokenizer, "<|endoftext|>");
    return bos.add || empty ? bos.id : -1;
}

static void load_model(llm_llama *to, llm_tokenizer *t, const char *path) {
    look_at(path);
    need(llm_llama_file_open(&to->file, path, &e));
    to->file.config.rounded = o.round > 0;
    const size_t most = to->file.config.context;
    need(llm_llama_create_as(to, o.context < (double)most ? (size_t)o.context : most, CHUNK,
                             o.cache16 > 0 ? LLM_LLAMA_CACHE_BF16 : LLM_LLAMA_CACHE_F32, &e));
    need(llm_tokenizer_load(t, path, &e));
    if (t->vocab > to->file.config.vocab)
        die("the tokenizer has %zu tokens, the model %zu", t->vocab, to->file.config.vocab);
}

static void load_draft(void) {
    llm_tokenizer other;
    load_model(&draft, &other, o.draft);
    if (!llm_llama_draft_fits(&tokenizer, &other, &e))
        die("--draft %s has another vocabulary: %s", o.draft, e.message);
    llm_tokenizer_free(&other);
}

static void load(void) {
    load_model(&m, &tokenizer, o.model);
    if (o.draft) load_draft();
    read_ends();
    if (o.chat == 0) return;
    size_t k = 0;
    while (o.template && llm_chat_template_get(&template, k) && strcmp(template.name, o.template))
        k++;
    if (!llm_chat_template_get(&template, k)) {
        llm_buffer names = {NULL, 0, 0};
        for (k = 0; llm_chat_template_get(&template, k); k++)
            room(llm_buffer_print(&names, " %s", template.name));
        die("--template %s is not known here; expected one of%s", o.template, names.data);
    }
    if (!o.template && !llm_chat_lm_template(&template, &m.file, o.model, &e))
        die("%s; --template NAME chooses one", e.message);
    need(llm_chat_lm_fits(&tokenizer, &template, &e));
    end_with(llm_tokenizer_id(&tokenizer, template.end));
}

/* Writes what of the text has come in whole characters; returns how far that is. */
static size_t show(const llm_buffer *text, size_t at, bool all) {
    const size_t from = at;
    for (size_t n; at < text->size; at += n) {
        uint32_t code;
        n = llm_unicode_decode(&code, text->data + at, text->size - at);
        if (code == LLM_UNICODE_BROKEN && !all &&
            llm_token_id_unfinished(text->data, text->size, at, n))
            break;
    }
    if (at > from) fwrite(text->data + from, 1, at - from, stdout), fflush(stdout);
    return at;
}

static void report(size_t fresh, double reading, size_t count, double writing,
                   const llm_llama_draft *d) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("\n"), fflush(stdout);
    fprintf(stderr, "[read %zu tokens, %.1f a second; wrote %zu, %.1f a second; ", fresh,
            (double)fresh / (reading + 1e-9), count, (double)count / (writing + 1e-9));
    if (d->draft)
        fprintf(stderr, "%.0f %% of %zu drafts accepted; ",
                100.0 * (double)d->accepted / ((double)d->drafted + 1e-9), d->drafted);
    fprintf(stderr, "%.0f MB]\n", (double)usage.ru_maxrss / 1024.0);
}

/* One token more by Mirostat, whose own filter follows penalties and temperature. */
static size_t mirostat(int *text, size_t n, llm_sampling_text *s) {
    static float mu;
    const size_t V = m.file.config.vocab, mark = s->arena->used;
    if (n > m.length) llm_llama_forward(&m, text + m.length, n - m.length);
    if (!(mu > 0.0f)) mu = 2.0f * surprise;
    float *logits = llm_arena_floats(s->arena, V);
    memcpy(logits, m.logits, V * sizeof *logits);
    llm_sampling_text_penalize(logits, V, s, text, n);
    llm_temperature_apply(logits, V, chain.filter.temperature);
    text[n] = llm_sampling_control_mirostat(&mu, logits, V, surprise, 0.1f, &rng, s->arena);
    s->arena->used = mark;
    return text[n] >= 0;
}

/* Reads ids (n) and writes on to an end; answer gets the text, behind the prompt's where whole. */
static void write_on(llm_buffer *answer, const int *ids, size_t n, bool whole) {
    const size_t V = m.file.config.vocab, first = whole ? 0 : n, ahead = (size_t)o.ahead;
    size_t fresh = 0, count = 0, at = 0;
    bool ended = false;
    llm_arena arena;
    llm_sampling_text s;
    llm_llama_draft d = {&m, o.draft ? &draft : NULL, &s, ahead, 0, 0};
    if (n > m.context)
        die("the %s has %zu tokens, the context %zu; --context N makes it up to %zu",
            whole ? "prompt" : "conversation", n, m.context, m.file.config.context);
    room(llm_arena_create(&arena, V * (96 + 8 * ahead) + m.context * 16 + 4096));
    llm_sampling_text_create(&s, &chain, V, m.context, n, &arena);
    const double start = now();
    need(llm_chat_lm_read(&m, &seen, ids, n, &fresh, &e));
    if (draft.length > n - fresh) draft.length = n - fresh; /* what it has read of these */
    const double read = now();
    need(!whole || llm_tokenizer_decode(&tokenizer, answer, ids, n, &e));
    if (whole) at = answer->size, printf("%s", o.prompt), fflush(stdout);
    while (!ended && !interrupted && count < (size_t)o.tokens && n + count <= m.context) {
        room(llm_buffer_reserve(&seen, (ahead + 1) * sizeof(int)));
        int *text = (int *)(void *)seen.data;
        const size_t most = (size_t)o.tokens - count;
        const size_t got = surprise > 0 ? mirostat(text, n + count, &s)
                                        : llm_llama_draft_turn(&d, text, n + count, most, &rng);
        const size_t end = count + got;
        if (got == 0) die("the model's logits are no numbers");
        for (; count < end && !ended; count += !ended)
            ended = llm_eos_check(text[n + count], 1, ends, end_count, NULL, 2) == LLM_EOS_TOKEN;
        seen.size = (n + count) * sizeof *text, answer->size = 0;
        need(llm_tokenizer_decode(&tokenizer, answer, text + first, n + count - first, &e));
        at = show(answer, at, false);
    }
    if (m.length > n + count) m.length = n + count; /* behind an end nothing counts */
    if (draft.length > m.length) draft.length = m.length;
    seen.size = m.length * sizeof(int);
    show(answer, at, true);
    report(fresh, read - start, count, now() - read, &d);
    llm_arena_destroy(&arena);
}

static void go_on(void) {
    llm_buffer answer = {NULL, 0, 0};
    int *ids;
    size_t n;
    need(llm_tokenizer_encode(&tokenizer, &ids, &n, o.prompt, strlen(o.prompt), &e));
    room((ids = (int *)realloc(ids, (n + 2) * sizeof *ids)) != NULL);
    const int bos = begin(n == 0);
    if (bos >= 0) n = llm_bos_prepend(ids, n, (llm_bos){bos, true});
    if (n == 0) die("the --prompt is empty, and this model has no token that begins a text");
    write_on(&answer, ids, n, true);
    free(ids), llm_buffer_free(&answer);
}

static void say(llm_buffer *talk, llm_chat_template_role role, const char *text, size_t size) {
    llm_buffer copy = {NULL, 0, 0};
    room(llm_buffer_put(&copy, text, size));
    const llm_chat_turns_message one = {role, copy.data, size};
    room(llm_buffer_put(talk, &one, sizeof one));
}

static void chat(void) {
    llm_buffer talk = {NULL, 0, 0};
    char *line = NULL;
    size_t space = 0;
    if (o.system) say(&talk, LLM_CHAT_TEMPLATE_SYSTEM, o.system, strlen(o.system));
    for (bool more = true; more; more = !o.prompt) {
        llm_chat_turns text = {{NULL, 0, 0}, {NULL, 0, 0}};
        llm_buffer ids = {NULL, 0, 0}, said = {NULL, 0, 0}, answer = {NULL, 0, 0};
        interrupted = 0;
        if (!o.prompt && isatty(0)) fputs("> ", stdout), fflush(stdout);
        ssize_t size = o.prompt ? (ssize_t)strlen(o.prompt) : getline(&line, &space, stdin);
        if (size < 0) break;
        while (!o.prompt && size > 0 && strchr("\r\n", line[size - 1])) size--;
        say(&talk, LLM_CHAT_TEMPLATE_USER, o.prompt ? o.prompt : line, (size_t)size);
        const char *thoughts = o.quiet > 0 ? "<think>\n\n</think>\n\n" : "";
        need(llm_chat_turns_write(&text, &template,
                                  (const llm_chat_turns_message *)(void *)talk.data,
                                  talk.size / sizeof(llm_chat_turns_message), thoughts, &e));
        need(llm_chat_lm_encode(&ids, &said, &tokenizer, &text, &e));
        write_on(&answer, (const int *)(void *)ids.data, ids.size / sizeof(int), false);
        say(&talk, LLM_CHAT_TEMPLATE_ASSISTANT, answer.data, answer.size);
        llm_chat_turns_free(&text);
        llm_buffer_free(&ids), llm_buffer_free(&said), llm_buffer_free(&answer);
    }
    free(line);
}

int main(int argc, char **argv) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt; /* and no SA_RESTART: waiting for a line ends */
    parse(argc, argv);
    if (o.prompt && strcmp(o.prompt, "-") == 0) read_prompt();
    load();
    sigaction(SIGINT, &action, NULL);
    rng = llm_rng_seed((uint64_t)o.seed);
    o.chat > 0 ? chat() : go_on();
    if (fflush(stdout) != 0 || ferror(stdout)) die("the output cannot be written");
    if (o.draft) llm_llama_close(&draft);
    llm_llama_close(&m), llm_tokenizer_free(&tokenizer), llm_buffer_free(&seen);
    return 0;
}
