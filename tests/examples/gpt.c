/* examples/gpt.c, driven as a user does: by its arguments, files, signals and what it prints. */
#include "../test.h"

#define main gpt_main
#include "../../examples/gpt.c"
#undef main

#include <sys/resource.h>

static bool full_disk;
static char *output; /* what the last run printed, stdout and stderr */

/* The text of a file, and its size. */
static char *content(const char *path, size_t *size) {
    llm_file f;
    llm_error error;
    if (!llm_file_read(&f, path, &error)) test_fail(__FILE__, __LINE__, "%s", error.message);
    char *text = (char *)test_memory(f.size + 1, 1);
    memcpy(text, f.data, f.size);
    if (size) *size = f.size;
    llm_file_free(&f);
    return text;
}

static void put(const char *path, const char *text, size_t size) {
    llm_error error;
    if (!llm_file_write(path, text, size, &error))
        test_fail(__FILE__, __LINE__, "%s", error.message);
}

/* Starts gpt with a line of arguments; %s stands for the test's directory. */
static pid_t spawn(const char *line) {
    static char text[4096];
    char *argv[64] = {NULL}, *at = text;
    int argc = 1;
    argv[0] = text;
    const char *directory = test_path("");
    for (const char *c = line; *c && at < text + sizeof text - 600; c++) {
        if (*c == '%')
            at += sprintf(at, "%.*s", (int)strlen(directory) - 1, directory);
        else
            *at++ = *c;
    }
    *at = 0;
    for (char *word = strtok(text, " "); word && argc < 63; word = strtok(NULL, " "))
        argv[argc++] = word;
    fflush(stdout);
    const char *to = test_path("output");
    const pid_t child = fork();
    if (child == 0) {
        /* no file beyond 20000 bytes: what a full disk looks like to write() */
        const struct rlimit limit = {20000, 20000};
        signal(SIGXFSZ, SIG_IGN);
        if (full_disk && setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(99);
        if (!freopen(to, "w", stdout) || dup2(1, 2) < 0) _exit(99);
        exit(gpt_main(argc, argv));
    }
    return child;
}

static int finish(pid_t child) {
    int status;
    waitpid(child, &status, 0);
    output = content(test_path("output"), NULL);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int gpt(const char *line) { return finish(spawn(line)); }

static void succeed(int line_number, const char *line) {
    const int code = gpt(line);
    if (code != 0)
        test_fail(__FILE__, line_number, "gpt %s: exit code %d, \"%s\"", line, code, output);
}
#define SUCCEEDS(line) succeed(__LINE__, line)

/* A line as above is refused: exit code 2, and one sentence, which holds the text. */
static void refused(int line_number, const char *line, const char *text) {
    const int code = gpt(line);
    const char *end = strchr(output, '\n');
    if (code != 2 || strncmp(output, "gpt: ", 5) != 0 || !end || end[1] || !strstr(output, text))
        test_fail(__FILE__, line_number, "gpt %s: exit code %d, \"%s\", want 2 and \"%s\"", line,
                  code, output, text);
}
#define REFUSED(line, text) refused(__LINE__, line, text)

/* A text with something to learn: 600 lines of a count. */
static void write_data(void) {
    llm_buffer b = {NULL, 0, 0};
    for (int i = 0; i < 600; i++)
        CHECK(llm_buffer_print(&b, "line %d is followed by line %d\n", i % 100, (i + 1) % 100));
    put(test_path("data.txt"), b.data, b.size);
    llm_buffer_free(&b);
}

#define TINY " --layers 1 --heads 2 --width 16 --context 16 --vocab 300 --batch 4 --lr 0.01"

TEST(
    gpt,
    "trains, draws, writes, and beats the trigram on a text that needs more than two tokens back") {
    write_data();
    SUCCEEDS("--data %/data.txt --out %/model --steps 250 --tokens 40" TINY);
    CHECK(strstr(output, "step 250 of 250, loss "));
    CHECK(strstr(output, "loss, nats per token, over 250 steps"));
    double nats[3];
    const char *last = strstr(output, "held-out text, nats per byte:");
    CHECK(last && strchr(last, '\n')[1] == 0);
    CHECK(sscanf(last,
                 "held-out text, nats per byte: GPT %lf, trigram %lf, bigram %*f, unigram %lf",
                 &nats[0], &nats[1], &nats[2]) == 3);
    CHECK(nats[0] < nats[1] && nats[1] < nats[2]);
    CHECK(strstr(content(test_path("model/loss.svg"), NULL), "</svg>"));

    SUCCEEDS("--load %/model --prompt line --tokens 20 --temperature 0");
    CHECK(strncmp(output, "line ", 5) == 0);
    const char *first = strcpy((char *)test_memory(strlen(output) + 1, 1), output);
    SUCCEEDS("--load %/model --prompt line --tokens 20 --top-k 1 --seed 9");
    CHECK(strcmp(first, output) == 0);
    SUCCEEDS("--load %/model --prompt line --tokens 20 --min-p 1 --seed 9");
    CHECK(strcmp(first, output) == 0);
    SUCCEEDS("--load %/model --prompt line --tokens 20 --temperature 0 --repeat 3");
    CHECK(strcmp(first, output) != 0);
    SUCCEEDS("--load %/model --prompt line --tokens 0");
    CHECK(strcmp(output, "line\n") == 0);
}

TEST(gpt,
     "stopped by Ctrl-C and resumed it ends at the same file as an unbroken run, byte for byte") {
    write_data();
    SUCCEEDS("--data %/data.txt --out %/whole --steps 600 --tokens 1" TINY);
    for (int tries = 0; tries < 3; tries++) {
        const struct timespec millisecond = {0, 1000000};
        struct stat ignored;
        const pid_t child = spawn("--data %/data.txt --out %/half --steps 600 --tokens 1" TINY);
        /* until the first tenth is done */
        while (stat(test_path("half/tokenizer.json"), &ignored) != 0) nanosleep(&millisecond, NULL);
        kill(child, SIGINT);
        if (finish(child) == 130) break;
    }
    CHECK(strstr(output, "stopped; gpt --resume "));
    SUCCEEDS("--resume %/half --tokens 1");
    size_t n, m;
    const char *name[] = {"model.safetensors", "run.safetensors", "config.json", "tokenizer.json",
                          "loss.svg"};
    for (size_t i = 0; i < 5; i++) {
        char path[64];
        snprintf(path, sizeof path, "whole/%s", name[i]);
        const char *want = content(test_path(path), &n);
        snprintf(path, sizeof path, "half/%s", name[i]);
        const char *got = content(test_path(path), &m);
        CHECK(n == m && memcmp(got, want, n) == 0);
    }
    SUCCEEDS("--resume %/half --tokens 1"); /* nothing left to do */
}

TEST(gpt, "bad arguments are refused in one sentence, before anything is written") {
    write_data();
    REFUSED("", "--data FILE... is missing");
    REFUSED("--data", "--data FILE... is missing");
    REFUSED("--date x", "--date is no option");
    REFUSED("--data %/data.txt --steps", "--steps needs a value");
    REFUSED("--data %/data.txt --steps ten",
            "--steps is 'ten', expected a whole number from 1 to 1e+09");
    REFUSED("--data %/data.txt --steps 0", "--steps is '0'");
    REFUSED("--data %/data.txt --steps 1.5", "--steps is '1.5'");
    REFUSED("--data %/data.txt --steps 9x", "--steps is '9x'");
    REFUSED("--data %/data.txt --lr nan", "--lr is 'nan', expected a number");
    REFUSED("--data %/data.txt --top-p 1.5", "--top-p is '1.5'");
    REFUSED("--data %/data.txt --width 10 --heads 4", "--width is not a multiple of --heads");
    REFUSED("--data %/data.txt --load %/model", "--resume, --load and --data exclude each other");
    REFUSED("--resume %/model --steps 5", "--resume, --load and --steps exclude each other");
    REFUSED("--resume %/model --load %/model", "--resume, --load and --data exclude each other");
    CHECK(gpt("--help") == 0 && strstr(output, "--top-p X") && strstr(output, "--resume DIR"));
}

TEST(gpt, "bad data is refused, and a model that is there stays") {
    write_data();
    SUCCEEDS("--data %/data.txt --out %/model --steps 2 --tokens 1" TINY);
    size_t n, m;
    const char *before = content(test_path("model/model.safetensors"), &n);
    put(test_path("empty.txt"), "", 0);
    put(test_path("short.txt"), "a b c", 5);
    REFUSED("--data %/nowhere.txt --out %/model" TINY, "nowhere.txt");
    REFUSED("--data %/data.txt %/nowhere.txt --out %/model" TINY, "nowhere.txt");
    REFUSED("--data %/empty.txt --out %/model" TINY, "empty.txt: the file is empty");
    REFUSED("--data %/short.txt --out %/model" TINY, "tokens, too few for --context 16");
    REFUSED("--data % --out %/model" TINY, "directory");
    REFUSED("--data %/data.txt --out %/data.txt/model" TINY, "data.txt/model");
    REFUSED("--data %/data.txt --out %/no/where" TINY, "no/where");
    const char *after = content(test_path("model/model.safetensors"), &m);
    CHECK(n == m && memcmp(before, after, n) == 0);
}

TEST(gpt, "models that are missing, cut off, foreign or do not fit together are refused") {
    write_data();
    SUCCEEDS("--data %/data.txt --out %/model --steps 2 --tokens 1" TINY);
    REFUSED("--load %/nowhere", "nowhere/config.json");
    REFUSED("--resume %/nowhere", "nowhere/run.safetensors");
    const char *const names[] = {"model.safetensors", "run.safetensors", "config.json",
                                 "tokenizer.json"};
    for (size_t i = 0; i < 4; i++) {
        char path[64];
        size_t n;
        snprintf(path, sizeof path, "model/%s", names[i]);
        const char *whole = content(test_path(path), &n);
        put(test_path(path), whole, n / 2);
        if (i != 1) REFUSED("--load %/model --prompt a", "gpt: ");
        REFUSED("--resume %/model", "gpt: ");
        put(test_path(path), "what is this?", 13);
        if (i != 1) REFUSED("--load %/model --prompt a", "gpt: ");
        REFUSED("--resume %/model", "gpt: ");
        put(test_path(path), whole, n);
    }
    SUCCEEDS("--data %/data.txt --out %/other --steps 2 --tokens 1" TINY " --vocab 280");
    size_t n;
    const char *tokenizer_json = content(test_path("other/tokenizer.json"), &n);
    put(test_path("model/tokenizer.json"), tokenizer_json, n);
    REFUSED("--load %/model --prompt a", "the tokenizer has 280 tokens, the model 300");
    const char *config = content(test_path("other/config.json"), &n);
    put(test_path("model/config.json"), config, n);
    REFUSED("--load %/model --prompt a",
            "transformer.wte.weight is (300, 16), config.json says (280, 16)");
}

TEST(gpt, "a full disk is said so, and the files that were there stay whole") {
    write_data();
    SUCCEEDS("--data %/data.txt --out %/model --steps 20 --tokens 1" TINY);
    size_t n, m;
    const char *before = content(test_path("model/run.safetensors"), &n);
    full_disk = true;
    CHECK(gpt("--data %/data.txt --out %/model --steps 20 --tokens 1 --seed 2" TINY) == 2);
    CHECK(strstr(output, "run.safetensors: cannot be written: "));
    full_disk = false;
    const char *after = content(test_path("model/run.safetensors"), &m);
    CHECK(n == m && memcmp(before, after, n) == 0);
    SUCCEEDS("--load %/model --prompt line --tokens 2");
}
