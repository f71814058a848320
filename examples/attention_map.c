/* Draws the attention of a trained GPT-2 as SVG: one head with its tokens, all heads at once, or
 * what all layers together look at; and, without a model, what the position schemes look like.
 *
 *     cc -O2 examples/attention_map.c -o attention_map -lm
 *     attention_map DIR "a sentence" all.svg              every layer (down) and head (across)
 *     attention_map DIR "a sentence" head.svg 2 0         layer 2, head 0, with the pieces of text
 *     attention_map DIR "a sentence" through.svg rollout  the weights followed down to the input
 *     attention_map positions positions.svg               encodings and biases as maps
 *
 * DIR is what examples/gpt.c --out writes, or any GPT-2 directory of transformers. A row is a token
 * that looks, a column a token that is looked at; the darker, the more weight. The triangle above
 * the diagonal is the future. Numbers below 0 are orange. */
#include "../llm.h"

static int stop(const char *what, const char *why) {
    fprintf(stderr, "attention_map: %s%s%s\n", what, why ? ": " : "", why ? why : "");
    return 2;
}

/* The piece of text of one token, fit for XML: a space as an open box, no text as its byte. */
static void draw_piece(llm_buffer *svg, const llm_tokenizer *t, int id) {
    llm_buffer piece = {NULL, 0, 0};
    if (!llm_tokenizer_decode(t, &piece, &id, 1, NULL)) return;
    const unsigned char *s = (const unsigned char *)piece.data;
    for (size_t i = 0, n; i < piece.size; i += n) {
        n = llm_json_token_utf8(s + i, s + piece.size);
        if (n == 0 || s[i] < 32 || s[i] == 127) {
            n = 1;
            llm_buffer_print(svg, "\\x%02x", s[i]);
        } else if (s[i] == ' ') {
            llm_buffer_print(svg, "&#9251;");
        } else if (strchr("<>&\"", s[i])) {
            llm_buffer_print(svg, "&#%d;", s[i]);
        } else {
            llm_buffer_put(svg, s + i, n);
        }
    }
    llm_buffer_free(&piece);
}

static void draw_labels(llm_buffer *svg, const llm_tokenizer *t, const int *ids, size_t T,
                        double corner, double side) {
    for (size_t i = 0; i < T; i++) {
        const double at = corner + side * ((double)i + 0.7);
        llm_buffer_print(svg, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">", corner - 4.0, at);
        draw_piece(svg, t, ids[i]);
        llm_buffer_print(svg, "</text>\n<text transform=\"translate(%.1f %.1f) rotate(-90)\">", at,
                         corner - 4.0);
        draw_piece(svg, t, ids[i]);
        llm_buffer_print(svg, "</text>\n");
    }
}

static void open_svg(llm_buffer *svg, double width, double height) {
    llm_buffer_print(svg,
                     "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
                     "font-family=\"monospace\" font-size=\"11\">\n"
                     "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
                     width, height);
}

static int close_svg(llm_buffer *svg, const char *path) {
    llm_error e;
    if (!llm_buffer_print(svg, "</svg>\n")) return stop("out of memory", NULL);
    if (!llm_file_write(path, svg->data, svg->size, &e)) return stop(e.message, NULL);
    llm_buffer_free(svg);
    return 0;
}

/* ---- position schemes ---- */

enum { PLACES = 20, WIDE = 160 };

/* A named panel, the n-th of rows of four: a (PLACES,columns), colours full at high and at low. */
static void panel(llm_buffer *svg, size_t n, const char *name, const float *a, size_t columns,
                  float low, float high, bool lower) {
    llm_attn_visual_config c = llm_attn_visual_defaults(lower);
    const double x = 10.0 + 180.0 * (double)(n % 4), y = 24.0 + 192.0 * (double)(n / 4);
    c.low = low, c.high = high;
    llm_buffer_print(svg, "<text x=\"%.1f\" y=\"%.1f\">%s</text>\n", x, y - 6.0, name);
    llm_attn_visual_cells(svg, a, PLACES, columns, x, y, (double)WIDE / PLACES, &c);
}

/* a (PLACES,PLACES) <- the mean over pairs of cos((i - j) stride f), for queries i and keys j. */
static void turning(float *a, const llm_yarn_config *c, size_t stride) {
    float *f = (float *)malloc(c->rot / 2 * sizeof(float));
    if (!f) exit(stop("out of memory", NULL));
    llm_yarn_inv_freq(f, c);
    for (size_t n = 0; n < PLACES * PLACES; n++) {
        const double distance = (double)stride * ((double)(n / PLACES) - (double)(n % PLACES));
        double sum = 0.0;
        for (size_t i = 0; i < c->rot / 2; i++) sum += cos(distance * (double)f[i]);
        a[n] = (float)(sum * 2.0 / (double)c->rot);
    }
    free(f);
}

static int draw_positions(const char *path) {
    enum { N = PLACES };
    llm_buffer svg = {NULL, 0, 0};
    float table[N * N], a[N * N], slope[8];
    open_svg(&svg, 730.0, 408.0);

    llm_sinusoidal_table(table, NULL, N, N, 0, LLM_SINUSOIDAL_NEIGHBOURS);
    panel(&svg, 0, "sines: place, channel", table, N, -1.0f, 1.0f, false);
    llm_matmul_forward(a, table, table, NULL, N, N, N);
    panel(&svg, 4, "sines: PE(t).PE(s)", a, N, -(float)N / 2.0f, (float)N / 2.0f, false);
    llm_positional_encoding_table(table, LLM_POSITIONAL_ENCODING_BINARY, N, 5, 0.0f, NULL);
    panel(&svg, 1, "binary: place, bit", table, 5, -1.0f, 1.0f, false);

    llm_alibi_slopes(slope, 8);
    for (size_t h = 0; h < 2; h++) {
        for (size_t n = 0; n < N * N; n++)
            a[n] = -slope[2 * h + 1] * ((float)(n / N) - (float)(n % N));
        panel(&svg, h ? 6 : 2, h ? "ALiBi, m = 1/16" : "ALiBi, m = 1/4", a, N, -5.0f, 5.0f, true);
    }
    for (size_t n = 0; n < N * N; n++) {
        const long distance = (long)(n % N) - (long)(n / N);
        a[n] = (float)llm_relative_position_t5_bucket(distance, true, 16, 16);
    }
    panel(&svg, 5, "T5: 16 buckets", a, N, 0.0f, 15.0f, false);

    /* 20 tokens a cell: a model trained on 200, that is 10 cells, looks at 400 */
    llm_yarn_config c = llm_yarn_defaults(LLM_YARN_NONE, 64, 10000.0, 2.0, 200.0);
    turning(a, &c, 20);
    panel(&svg, 3, "RoPE, 20 tokens a cell", a, N, -1.0f, 1.0f, true);
    c.mode = LLM_YARN_YARN;
    turning(a, &c, 20);
    panel(&svg, 7, "YaRN, twice as long", a, N, -1.0f, 1.0f, true);
    return close_svg(&svg, path);
}

/* ---- a model ---- */

/* r (T,T) <- the weights of all layers, heads averaged, followed down to the input. */
static bool follow(float *r, const llm_gpt2 *model, size_t T) {
    const llm_gpt2_config *c = &model->config;
    llm_arena arena;
    if (!llm_arena_create(&arena, ((c->layers + 1) * T * T + 32) * sizeof(float))) return false;
    float *a = llm_arena_floats(&arena, c->layers * T * T);
    for (size_t l = 0; l < c->layers; l++)
        llm_attn_visual_rollout_mix(a + l * T * T, model->block[l].att, 1, c->heads, T, true);
    llm_attn_visual_rollout(r, a, c->layers, T, &arena);
    llm_arena_destroy(&arena);
    return true;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "positions") == 0) return draw_positions(argv[2]);
    const bool through = argc == 5 && strcmp(argv[4], "rollout") == 0, head = argc == 6;
    if (argc != 4 && !through && !head)
        return stop("usage", "DIR TEXT FILE.svg [LAYER HEAD | rollout], or positions FILE.svg");
    llm_error e;
    llm_tokenizer tokenizer;
    llm_gpt2 model;
    int *ids = NULL;
    size_t T = 0;
    if (!llm_tokenizer_load(&tokenizer, argv[1], &e)) return stop(e.message, NULL);
    if (!llm_gpt2_load(&model, argv[1], 1, 0, &e)) return stop(e.message, NULL);
    if (!llm_tokenizer_encode(&tokenizer, &ids, &T, argv[2], strlen(argv[2]), &e))
        return stop("the text", e.message);
    const llm_gpt2_config *c = &model.config;
    if (T == 0) return stop("the text is empty", NULL);
    if (T > c->context) return stop("the text is longer than the model's context", NULL);
    for (size_t i = 0; i < T; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= c->vocab)
            return stop(argv[1], "the tokenizer has ids that the model does not know");
    const size_t layer = head ? (size_t)strtoul(argv[4], NULL, 10) : 0;
    const size_t number = head ? (size_t)strtoul(argv[5], NULL, 10) : 0;
    if (layer >= c->layers || number >= c->heads)
        return stop("layers and heads count from 0; the model does not have this one", NULL);
    llm_gpt2_forward(&model, ids, NULL, 1, T);

    llm_buffer svg = {NULL, 0, 0};
    const llm_attn_visual_config look = llm_attn_visual_defaults(true);
    if (through || head) {
        const double side = 16.0, corner = 120.0, size = corner + side * (double)T + 10.0;
        float *r = (float *)malloc(T * T * sizeof(float));
        if (!r || (through && !follow(r, &model, T))) return stop("out of memory", NULL);
        const float *map = through ? r : model.block[layer].att + number * T * T;
        open_svg(&svg, size, size);
        llm_attn_visual_cells(&svg, map, T, T, corner, corner, side, &look);
        draw_labels(&svg, &tokenizer, ids, T, corner, side);
        free(r);
    } else {
        const double side = 160.0 / (double)T, step = 176.0, down = 192.0;
        const double height = 28.0 + down * (double)c->layers;
        open_svg(&svg, 10.0 + step * (double)c->heads, height);
        for (size_t l = 0; l < c->layers; l++)
            for (size_t h = 0; h < c->heads; h++) {
                const double x = 10.0 + step * (double)h, y = 24.0 + down * (double)l;
                llm_attn_visual_cells(&svg, model.block[l].att + h * T * T, T, T, x, y, side,
                                      &look);
                llm_buffer_print(&svg, "<text x=\"%.1f\" y=\"%.1f\">layer %zu, head %zu</text>\n",
                                 x, y - 6.0, l, h);
            }
        llm_buffer_print(&svg,
                         "<text x=\"10\" y=\"%.1f\" fill=\"#666\">a row: the token that looks; a "
                         "column: what it looks at; dark: much</text>\n",
                         height - 8.0);
    }
    free(ids);
    llm_gpt2_destroy(&model);
    llm_tokenizer_free(&tokenizer);
    return close_svg(&svg, argv[3]);
}
