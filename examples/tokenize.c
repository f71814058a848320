/* tokenize: trains tokenizers, shows what they make of a text, and compares two of them.
 *
 *     cc -std=c99 -O3 -march=native examples/tokenize.c -o tokenize -lm
 *     ./tokenize train book.txt mine.json --vocab 2000      byte-level BPE; Hugging Face loads it
 *     ./tokenize show mine.json some.txt                    the pieces of a text, in colours
 *     ./tokenize encode mine.json some.txt                  its ids; decode does the way back
 *     ./tokenize compare mine.json gpt2/ some.txt           tokens, bytes a token, longest pieces
 *
 *     --vocab N       256 and more (1000)     --pattern NAME   gpt2, cl100k, o200k, llama3, qwen2
 *     --special TEXT  adds a control token    --colour         colours, in a file too
 *
 * A tokenizer is a tokenizer.json (of GPT, BERT, T5, Llama, Qwen and others), a directory with one
 * (or GPT-2's files), a SentencePiece tokenizer.model, a rank file of tiktoken, a GGUF model, a
 * tokenizer.bin. Text comes from a file, or where none is named from the standard input. Errors:
 * code 2. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include "../llm.h"

#include <unistd.h>

enum { LONGEST = 5, SHOWN = 60 };
static const char *const pattern_name[5] = {"gpt2", "cl100k", "o200k", "llama3", "qwen2"};
static const char *word[4]; /* the arguments that are no options */
static size_t words, vocab = 1000;
static llm_pre_tokenize_kind pattern = LLM_PRE_TOKENIZE_GPT2;
static const char *special;
static bool colour;
static llm_error e;

/* Where something is not ok the program ends with a sentence: the section's, or this one. */
static void need(bool ok) {
    if (!ok) fprintf(stderr, "tokenize: %s\n", e.message), exit(2);
}
static void expect(bool ok, const char *why) { need(ok || llm_fail(&e, "%s", why)); }

/* Text from a file, or from the standard input. */
static llm_file text_of(const char *path) {
    llm_file f;
    need(llm_file_read(&f, path ? path : "/dev/stdin", &e));
    return f;
}

/* Appends the bytes that the id stands for, a control token's name, spaces as spaces. A token of
 * parts is shown as it stands in the vocabulary, so that ## is seen. */
static void piece_of(llm_buffer *out, const llm_tokenizer *t, int id) {
    size_t size;
    const llm_vocab_table *table =
        t->parts ? llm_token_model_table(&t->parts->model) : &t->spm.pieces.text;
    const llm_token_decoder_step *way =
        t->parts ? (const llm_token_decoder_step *)(const void *)t->parts->decoder.step.data : NULL;
    const bool bytes = way ? way->kind == LLM_TOKEN_DECODER_BYTES : !t->pieces && !t->parts;
    if (bytes || (size_t)id >= table->count) {
        need(llm_tokenizer_decode(t, out, &id, 1, &e));
        return;
    }
    const char *text = llm_vocab_table_bytes(table, (size_t)id, &size);
    expect(llm_pre_words_read(out, text, size, false), "out of memory");
}

/* Whether the id is a last resort: one byte of a character that no token has, or unknown. */
static bool fallen(const llm_tokenizer *t, int id) {
    if (t->pieces) {
        const llm_pieces_kind kind = llm_pieces_get(&t->spm.pieces, (size_t)id).kind;
        return kind == LLM_PIECES_BYTE || kind == LLM_PIECES_UNKNOWN;
    }
    size_t size = 0;
    const char *text = "";
    const llm_token_model *m = t->parts ? &t->parts->model : NULL;
    const llm_vocab_table *table = m ? llm_token_model_table(m) : &t->bpe.token;
    if ((size_t)id < table->count) text = llm_vocab_table_bytes(table, (size_t)id, &size);
    if (m)
        return id == (m->kind == LLM_TOKEN_MODEL_UNIGRAM     ? m->pieces.unknown
                      : m->kind == LLM_TOKEN_MODEL_WORDPIECE ? m->wordpiece.unknown
                                                             : m->unknown) ||
               llm_token_decoder_byte(text, size) >= 0;
    return size == 1 && (unsigned char)text[0] >= 0x80;
}

/* Prints bytes so that they can be seen: characters as they are, what is none as <E4>, a control
 * character by its number too; a line break is shown and then made. */
static void show_bytes(const char *text, size_t size) {
    for (size_t at = 0; at < size;) {
        uint32_t code;
        const size_t n = llm_unicode_decode(&code, text + at, size - at);
        if (code == '\n')
            printf("<0A>\n");
        else if (code == LLM_UNICODE_BROKEN || code < 32 || code == 127)
            for (size_t i = 0; i < n; i++) printf("<%02X>", (unsigned)(unsigned char)text[at + i]);
        else
            printf("%.*s", (int)n, text + at);
        at += n;
    }
}

/* What a tokenizer makes of a text. */
typedef struct {
    int *ids;
    size_t count, fallen;
    int longest[LONGEST]; /* the ids with the longest texts, the longest first; -1: none */
    size_t length[LONGEST];
    bool same; /* decoding gives the text */
} result;

static result measure(const llm_tokenizer *t, const llm_file *f) {
    result r;
    llm_buffer text = {NULL, 0, 0};
    memset(&r, 0, sizeof r);
    for (size_t k = 0; k < LONGEST; k++) r.longest[k] = -1;
    need(llm_tokenizer_encode(t, &r.ids, &r.count, (const char *)f->data, f->size, &e));
    for (size_t i = 0; i < r.count; i++) {
        text.size = 0;
        piece_of(&text, t, r.ids[i]);
        r.fallen += fallen(t, r.ids[i]);
        size_t k = LONGEST;
        bool known = false;
        for (size_t j = 0; j < LONGEST; j++) known = known || r.longest[j] == r.ids[i];
        for (; k > 0 && !known && text.size > r.length[k - 1]; k--) {
            if (k == LONGEST) continue;
            r.longest[k] = r.longest[k - 1], r.length[k] = r.length[k - 1];
        }
        if (k < LONGEST) r.longest[k] = r.ids[i], r.length[k] = text.size;
    }
    text.size = 0;
    need(llm_tokenizer_decode(t, &text, r.ids, r.count, &e));
    r.same = text.size == f->size && (f->size == 0 || memcmp(text.data, f->data, f->size) == 0);
    llm_buffer_free(&text);
    return r;
}

static void report(const llm_tokenizer *t, const llm_file *f, const result *r) {
    llm_buffer text = {NULL, 0, 0};
    printf("%zu bytes, %zu tokens of %zu, %.3f bytes a token\n", f->size, r->count, t->vocab,
           r->count > 0 ? (double)f->size / (double)r->count : 0.0);
    printf("%zu tokens are bytes of characters without one, %.2f%%\n", r->fallen,
           r->count > 0 ? 100.0 * (double)r->fallen / (double)r->count : 0.0);
    printf("decoded: %s\n", r->same ? "the same text" : "not the same text");
    printf("longest:");
    for (size_t k = 0; k < LONGEST && r->longest[k] >= 0; k++) {
        text.size = 0;
        piece_of(&text, t, r->longest[k]);
        printf(" '");
        for (size_t i = 0; i < text.size; i++) /* on one line */
            if (text.data[i] == '\n') text.data[i] = ' ';
        show_bytes(text.data, text.size < SHOWN ? text.size : (size_t)SHOWN);
        printf("'");
    }
    printf("\n");
    llm_buffer_free(&text);
}

static void show(const llm_tokenizer *t, const llm_file *f) {
    static const int background[6] = {153, 224, 194, 229, 189, 223}; /* pale, of the 256 colours */
    result r = measure(t, f);
    llm_buffer text = {NULL, 0, 0};
    for (size_t i = 0; i < r.count; i++) {
        text.size = 0;
        piece_of(&text, t, r.ids[i]);
        if (colour) printf("\033[48;5;%dm\033[30m", background[i % 6]);
        show_bytes(text.data, text.size);
        printf(colour ? "\033[0m" : "|");
    }
    printf("\n\n");
    report(t, f, &r);
    llm_buffer_free(&text);
    free(r.ids);
}

static void train(void) {
    llm_file f = text_of(word[1]);
    llm_bpe bpe;
    llm_tokenizer t;
    expect(vocab >= 256, "--vocab: expected 256 or more");
    need(llm_bpe_train(&bpe, (const char *)f.data, f.size, pattern, vocab, &e));
    llm_tokenizer_from_bpe(&t, &bpe, pattern);
    if (special) need(llm_tokenizer_add_special(&t, special, &e));
    need(llm_tokenizer_save_json(&t, word[2], &e));
    result r = measure(&t, &f);
    printf("%s: %zu tokens\n", word[2], t.vocab);
    report(&t, &f, &r);
    free(r.ids);
    llm_tokenizer_free(&t);
    llm_file_free(&f);
}

static void compare(void) {
    llm_file f = text_of(words > 3 ? word[3] : NULL);
    for (size_t k = 1; k < 3; k++) {
        llm_tokenizer t;
        need(llm_tokenizer_load(&t, word[k], &e));
        result r = measure(&t, &f);
        printf("%s%s\n", k == 2 ? "\n" : "", word[k]);
        report(&t, &f, &r);
        free(r.ids);
        llm_tokenizer_free(&t);
    }
    llm_file_free(&f);
}

/* The ids as numbers, or the text of numbers. */
static void encode(const llm_tokenizer *t, const llm_file *f) {
    int *ids;
    size_t count;
    need(llm_tokenizer_encode(t, &ids, &count, (const char *)f->data, f->size, &e));
    for (size_t i = 0; i < count; i++) printf("%s%d", i > 0 ? " " : "", ids[i]);
    printf("\n");
    free(ids);
}
static void decode(const llm_tokenizer *t, const llm_file *f) {
    llm_buffer ids = {NULL, 0, 0}, text = {NULL, 0, 0};
    const char *at = (const char *)f->data; /* which ends in 0 */
    for (;;) {
        char *end;
        const long x = strtol(at, &end, 10);
        const int id = x >= 0 && x < INT_MAX ? (int)x : -1;
        if (end == at) break;
        expect(llm_buffer_put(&ids, &id, sizeof id), "out of memory");
        at = end;
    }
    at += strspn(at, " \t\r\n");
    need(*at == 0 || llm_fail(&e, "decode: expected ids, found \"%.20s\"", at));
    need(llm_tokenizer_decode(t, &text, (const int *)(const void *)ids.data, ids.size / sizeof(int),
                              &e));
    fwrite(text.data ? text.data : "", 1, text.size, stdout);
    llm_buffer_free(&ids);
    llm_buffer_free(&text);
}

static void options(int argc, char **argv) {
    colour = isatty(1) && !getenv("NO_COLOR");
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--colour") == 0) {
            colour = true;
        } else if (strcmp(argv[i], "--vocab") == 0) {
            vocab = (size_t)strtoul(value, NULL, 10), i++;
        } else if (strcmp(argv[i], "--special") == 0) {
            special = value, i++;
        } else if (strcmp(argv[i], "--pattern") == 0) {
            size_t k = 0;
            while (k < 5 && strcmp(value, pattern_name[k]) != 0) k++;
            expect(k < 5, "--pattern: expected gpt2, cl100k, o200k, llama3 or qwen2");
            pattern = (llm_pre_tokenize_kind)k, i++;
        } else {
            need((argv[i][0] != '-' && words < 4) ||
                 llm_fail(&e, "\"%.60s\" is no option, or one word too many", argv[i]));
            word[words++] = argv[i];
        }
    }
}

int main(int argc, char **argv) {
    static const char *const verb[5] = {"train", "compare", "show", "encode", "decode"};
    static const size_t least[5] = {3, 3, 2, 2, 2}, most[5] = {3, 4, 3, 3, 3};
    options(argc, argv);
    size_t k = 0;
    while (k < 5 && (words == 0 || strcmp(word[0], verb[k]) != 0)) k++;
    expect(k < 5, "expected train, show, encode, decode or compare (see the top of tokenize.c)");
    expect(words >= least[k] && words <= most[k], k == 0   ? "expected train TEXT OUT.json"
                                                  : k == 1 ? "expected compare A B [TEXT]"
                                                           : "expected a TOKENIZER [TEXT]");
    if (k == 0) train();
    if (k == 1) compare();
    if (k < 2) return 0;
    llm_tokenizer t;
    need(llm_tokenizer_load(&t, word[1], &e));
    llm_file f = text_of(words > 2 ? word[2] : NULL);
    (k == 2 ? show : k == 3 ? encode : decode)(&t, &f);
    llm_tokenizer_free(&t);
    llm_file_free(&f);
    return 0;
}
