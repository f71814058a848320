/* Differentiates an expression given on the command line, and draws how.
 *
 *     cc -O2 examples/autograd.c -o autograd -lm
 *     autograd "x*y + sin(x)" x=2 y=3                 value, and the derivative by each variable
 *     autograd "x*y + sin(x)" x=2 y=3 graph.svg       the same, and the graph
 *
 * Numbers, variables, + - * / ^ ( ) and exp log sin cos tanh sqrt relu max(a,b). In the picture a
 * box is an operation with its value (v) and the derivative of the result by it (d); the number at
 * an arrow: what d is multiplied by on its way back. Bad input: one sentence, exit code 2. */
#include "../llm.h"

#include <ctype.h>

enum { MOST = 200, NAME = 24, DEPTH = 60 };

typedef struct {
    const char *text, *at;  /* the expression, and how far it has been read */
    char label[MOST][NAME]; /* of each node of the tape */
    size_t count;           /* of variables: nodes 0, 1, ... of the tape */
    llm_autodiff tape;
    llm_error error;
    int depth;
} session;

static int stop(const char *sentence) {
    fprintf(stderr, "autograd: %s\n", sentence);
    return 2;
}

/* Fails, at the place that was reached; the first sentence stays. */
static size_t wrong(session *s, const char *what) {
    if (!s->error.message[0]) {
        const int at = (int)(s->at - s->text) + 1;
        if (*s->at)
            llm_fail(&s->error, "position %d, at '%.10s': %s", at, s->at, what);
        else
            llm_fail(&s->error, "position %d, at the end: %s", at, what);
    }
    return LLM_AUTODIFF_NONE;
}

/* Names the node that was just recorded. */
static size_t named(session *s, size_t node, const char *label) {
    snprintf(s->label[node], NAME, "%s", label);
    return node;
}

static bool space_left(session *s) {
    if (s->tape.count + 4 <= MOST) return true;
    wrong(s, "the expression is too long (at most about 200 operations)");
    return false;
}

/* The next character that is no space, and past it if it is the one asked for. */
static bool accept(session *s, char c) {
    while (*s->at == ' ') s->at++;
    if (*s->at != c) return false;
    s->at++;
    return true;
}

/* Length of a name at the start of text: a letter, then letters and digits; 0: there is none. */
static size_t name_length(const char *text) {
    size_t n = 0;
    while (isalpha((unsigned char)text[n]) || (n > 0 && isdigit((unsigned char)text[n]))) n++;
    return n;
}

static size_t sum(session *s), negated(session *s);

static size_t call(session *s, const char *name) {
    static const char *const known[8] = {"exp", "log", "sin", "cos", "tanh", "sqrt", "relu", "max"};
    size_t f = 0;
    while (f < 8 && strcmp(name, known[f]) != 0) f++;
    if (f == 8) return wrong(s, "there are only exp log sin cos tanh sqrt relu max");
    accept(s, '(');
    const size_t a = sum(s);
    if (a == LLM_AUTODIFF_NONE) return a;
    if (f == 7 && !accept(s, ',')) return wrong(s, "max takes two arguments, with a comma");
    size_t b = f == 7 ? sum(s) : a;
    if (b == LLM_AUTODIFF_NONE) return b;
    if (!accept(s, ')')) return wrong(s, "a ')' was expected");
    if (!space_left(s)) return LLM_AUTODIFF_NONE;
    llm_autodiff *t = &s->tape;
    if (f == 6) b = named(s, llm_autodiff_input(t, 0.0, 0.0), "0");
    const size_t y = f == 0   ? llm_autodiff_exp(t, a)
                     : f == 1 ? llm_autodiff_log(t, a)
                     : f == 2 ? llm_autodiff_sin(t, a)
                     : f == 3 ? llm_autodiff_cos(t, a)
                     : f == 4 ? llm_autodiff_tanh(t, a)
                     : f == 5 ? llm_autodiff_pow(t, a, 0.5)
                              : llm_autodiff_max(t, a, b);
    return named(s, y, name);
}

/* A number, a variable, a function of something, or something in parentheses. */
static size_t atom(session *s) {
    if (accept(s, '(')) {
        const size_t y = sum(s);
        if (y != LLM_AUTODIFF_NONE && !accept(s, ')')) return wrong(s, "a ')' was expected");
        return y;
    }
    const size_t length = name_length(s->at);
    char name[NAME];
    if (length >= NAME) return wrong(s, "the name is too long");
    if (length > 0) {
        memcpy(name, s->at, length);
        name[length] = 0;
        const char *after = s->at + length;
        while (*after == ' ') after++;
        if (*after == '(') {
            s->at = after;
            return call(s, name);
        }
        for (size_t k = 0; k < s->count; k++)
            if (strcmp(name, s->label[k]) == 0) {
                s->at += length;
                return k;
            }
        return wrong(s,
                     "this variable was given no value (write NAME=NUMBER behind the expression)");
    }
    char *end = NULL;
    if (!isdigit((unsigned char)*s->at) && *s->at != '.')
        return wrong(s, "a number, a variable, a function or '(' was expected");
    const double value = strtod(s->at, &end);
    if (end == s->at || !isfinite(value)) return wrong(s, "this is no number");
    if (!space_left(s)) return LLM_AUTODIFF_NONE;
    snprintf(name, NAME, "%g", value);
    s->at = end;
    return named(s, llm_autodiff_input(&s->tape, value, 0.0), name);
}

/* a ^ b, from the right: the exponent may be signed and have a power of its own. */
static size_t power(session *s) {
    const size_t a = atom(s);
    if (a == LLM_AUTODIFF_NONE || !accept(s, '^')) return a;
    const size_t b = negated(s);
    if (b == LLM_AUTODIFF_NONE || !space_left(s)) return LLM_AUTODIFF_NONE;
    llm_autodiff *t = &s->tape;
    bool varies[MOST]; /* the variables are the first nodes of the tape */
    for (size_t i = 0; i < t->count; i++) {
        const size_t *in = t->node[i].in;
        varies[i] = i < s->count || (in[0] != LLM_AUTODIFF_NONE && varies[in[0]]) ||
                    (in[1] != LLM_AUTODIFF_NONE && varies[in[1]]);
    }
    if (!varies[b]) { /* a constant exponent has a rule of its own, for negative a too */
        char label[NAME];
        snprintf(label, NAME, "^ %g", t->node[b].value.v);
        return named(s, llm_autodiff_pow(t, a, t->node[b].value.v), label);
    }
    const size_t l = named(s, llm_autodiff_log(t, a), "log"); /* a^b = exp(b log a) */
    return named(s, llm_autodiff_exp(t, named(s, llm_autodiff_mul(t, b, l), "*")), "exp");
}

static size_t negated(session *s) {
    if (++s->depth > DEPTH) return wrong(s, "too many parentheses and signs inside each other");
    size_t y;
    if (accept(s, '-')) {
        y = negated(s);
        if (y == LLM_AUTODIFF_NONE || !space_left(s)) return LLM_AUTODIFF_NONE;
        const size_t zero = named(s, llm_autodiff_input(&s->tape, 0.0, 0.0), "0");
        y = named(s, llm_autodiff_sub(&s->tape, zero, y), "-");
    } else {
        y = power(s);
    }
    s->depth--;
    return y;
}

/* Operands between * and /, or, one level up, between + and -. */
static size_t row_of(session *s, bool products) {
    llm_autodiff *t = &s->tape;
    size_t y = products ? negated(s) : row_of(s, true);
    while (y != LLM_AUTODIFF_NONE) {
        const bool first = accept(s, products ? '*' : '+');
        if (!first && !accept(s, products ? '/' : '-')) break;
        const size_t b = products ? negated(s) : row_of(s, true);
        if (b == LLM_AUTODIFF_NONE || !space_left(s)) return LLM_AUTODIFF_NONE;
        if (products)
            y = named(s, first ? llm_autodiff_mul(t, y, b) : llm_autodiff_div(t, y, b),
                      first ? "*" : "/");
        else
            y = named(s, first ? llm_autodiff_add(t, y, b) : llm_autodiff_sub(t, y, b),
                      first ? "+" : "-");
    }
    return y;
}

static size_t sum(session *s) { return row_of(s, false); }

/* A column for each depth; in it, nodes at the mean height of what they read, moved apart. */
static bool draw(const session *s, const llm_dual *bar, size_t y, const char *path, llm_error *e) {
    const llm_autodiff *t = &s->tape;
    llm_buffer svg = {NULL, 0, 0};
    size_t column[MOST], last = 0;
    double row[MOST], next[MOST], height = 0.0;
    bool used[MOST] = {false};
    used[y] = true;
    for (size_t i = y + 1; i-- > 0;)
        for (size_t k = 0; k < 2 && used[i]; k++)
            if (t->node[i].in[k] != LLM_AUTODIFF_NONE) used[t->node[i].in[k]] = true;
    for (size_t i = 0; i <= y; i++) next[i] = 0.0;
    for (size_t i = 0; i <= y; i++) {
        double mean = 0.0, inputs = 0.0;
        column[i] = 0;
        if (!used[i]) continue;
        for (size_t k = 0; k < 2; k++) {
            const size_t in = t->node[i].in[k];
            if (in == LLM_AUTODIFF_NONE) continue;
            if (column[in] + 1 > column[i]) column[i] = column[in] + 1;
            mean += row[in], inputs += 1.0;
        }
        row[i] = fmax(inputs > 0.0 ? mean / inputs : 0.0, next[column[i]]);
        next[column[i]] = row[i] + 1.0;
        height = fmax(height, row[i] + 1.0);
        if (column[i] > last) last = column[i];
    }
    llm_buffer_print(&svg,
                     "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %zu %.0f\" "
                     "font-family=\"monospace\" font-size=\"12\" text-anchor=\"middle\">\n"
                     "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
                     160 * last + 130, 76.0 * height + 14.0);
    for (size_t i = 0; i <= y; i++) {
        const double x = 160.0 * (double)column[i] + 15.0, top = 76.0 * row[i] + 15.0;
        if (!used[i]) continue;
        llm_buffer_print(&svg, "<g transform=\"translate(%.0f %.0f)\">\n", x, top);
        for (size_t k = 0; k < 2; k++) { /* from the right edge of the input's box */
            const size_t in = t->node[i].in[k];
            if (in == LLM_AUTODIFF_NONE) continue;
            const double x0 = 160.0 * (double)column[in] + 115.0 - x,
                         y0 = 76.0 * row[in] + 43.0 - top;
            llm_buffer_print(
                &svg,
                "<path d=\"M%.0f %.0fC%.0f %.0f -35 %d 0 %d\" fill=\"none\" stroke=\"#888\"/>\n"
                "<text x=\"-3\" y=\"%d\" font-size=\"10\" text-anchor=\"end\" fill=\"#b03a2e\" "
                "stroke=\"white\" stroke-width=\"3\" paint-order=\"stroke\">%.4g</text>\n",
                x0, y0, x0 + 35.0, y0, k ? 38 : 18, k ? 38 : 18, k ? 50 : 13,
                t->node[i].slope[k].v);
        }
        llm_buffer_print(
            &svg,
            "<rect width=\"100\" height=\"56\" rx=\"6\" fill=\"%s\" stroke=\"#12508c\"/>\n"
            "<text x=\"50\" y=\"17\" font-weight=\"bold\">%s</text>\n"
            "<text x=\"50\" y=\"33\">v %.5g</text>\n"
            "<text x=\"50\" y=\"49\" fill=\"#b03a2e\">d %.5g</text>\n</g>\n",
            column[i] == 0 ? "#eef3f8" : "white", s->label[i], t->node[i].value.v, bar[i].v);
    }
    bool ok = llm_buffer_print(&svg, "</svg>\n") || llm_fail(e, "out of memory");
    ok = ok && llm_file_write(path, svg.data, svg.size, e);
    llm_buffer_free(&svg);
    return ok;
}

/* NAME=NUMBER becomes the next variable. */
static bool variable(session *s, const char *word) {
    const size_t length = name_length(word);
    char *end = NULL;
    if (length == 0 || length >= NAME || word[length] != '=')
        return llm_fail(&s->error, "'%.40s' is neither NAME=NUMBER nor a name ending in .svg",
                        word);
    const double value = strtod(word + length + 1, &end);
    if (end == word + length + 1 || *end || !isfinite(value))
        return llm_fail(&s->error, "'%.40s': a finite number was expected behind the =", word);
    for (size_t k = 0; k < s->count; k++)
        if (strlen(s->label[k]) == length && memcmp(s->label[k], word, length) == 0)
            return llm_fail(&s->error, "%s is given twice", s->label[k]);
    if (s->count == MOST / 4) return llm_fail(&s->error, "at most %d variables", MOST / 4);
    memcpy(s->label[llm_autodiff_input(&s->tape, value, 0.0)], word, length);
    s->count++;
    return true;
}

int main(int argc, char **argv) {
    static session s;
    static unsigned char memory[MOST * sizeof(llm_autodiff_node) + 64];
    llm_arena arena = {memory, sizeof memory, 0, 0};
    llm_dual bar[MOST];
    const char *picture = NULL;
    if (argc < 2) return stop("usage: autograd EXPRESSION [NAME=NUMBER ...] [FILE.svg]");
    llm_autodiff_create(&s.tape, MOST, &arena);
    for (int k = 2; k < argc; k++) {
        const size_t n = strlen(argv[k]);
        if (n > 4 && strcmp(argv[k] + n - 4, ".svg") == 0)
            picture = argv[k];
        else if (!variable(&s, argv[k]))
            return stop(s.error.message);
    }
    s.text = s.at = argv[1];
    const size_t y = sum(&s);
    if (y != LLM_AUTODIFF_NONE && (accept(&s, ' '), *s.at)) wrong(&s, "an operator was expected");
    if (s.error.message[0]) return stop(s.error.message);
    llm_autodiff_grad(bar, &s.tape, y);
    if (picture && !draw(&s, bar, y, picture, &s.error)) return stop(s.error.message);
    printf("value %.10g\n", s.tape.node[y].value.v);
    for (size_t k = 0; k < s.count; k++) printf("d/d%s %.10g\n", s.label[k], bar[k].v);
    return 0;
}
