/* Draws the attention of a trained GPT-2 as SVG: one head with its tokens, or all heads at once.
 *
 *     cc -O2 examples/attention_map.c -o attention_map -lm
 *     attention_map DIR "a sentence" all.svg              every layer (down) and head (across)
 *     attention_map DIR "a sentence" head.svg 2 0         layer 2, head 0, with the pieces of text
 *
 * DIR is what examples/gpt.c --out writes, or any GPT-2 directory of transformers. A row is a token
 * that looks, a column a token that is looked at; the darker, the more weight. The triangle above
 * the diagonal is the future. */
#include "../llm.h"

static int stop(const char *what, const char *why) {
    fprintf(stderr, "attention_map: %s%s%s\n", what, why ? ": " : "", why ? why : "");
    return 2;
}

/* The triangle of att (T,T) with its corner at (x, y), a square of size side for each weight. */
static void draw_map(llm_buffer *svg, const float *att, size_t T, double x, double y, double side) {
    const double all = side * (double)T;
    llm_buffer_print(svg, "<path d=\"M%.1f %.1fv%.1fh%.1fz\" fill=\"#f2f2f2\"/>\n", x, y, all, all);
    for (size_t q = 0; q < T; q++)
        for (size_t k = 0; k <= q; k++) {
            const double weight = (double)att[q * T + k];
            if (weight < 0.01) continue;
            llm_buffer_print(svg,
                             "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" "
                             "fill=\"#12508c\" fill-opacity=\"%.2f\"/>\n",
                             x + side * (double)k, y + side * (double)q, side, side, weight);
        }
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

int main(int argc, char **argv) {
    if (argc != 4 && argc != 6) return stop("usage", "DIR TEXT FILE.svg [LAYER HEAD]");
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
    const bool one = argc == 6;
    const size_t layer = one ? (size_t)strtoul(argv[4], NULL, 10) : 0;
    const size_t head = one ? (size_t)strtoul(argv[5], NULL, 10) : 0;
    if (layer >= c->layers || head >= c->heads)
        return stop("layers and heads count from 0; the model does not have this one", NULL);
    llm_gpt2_forward(&model, ids, NULL, 1, T);

    llm_buffer svg = {NULL, 0, 0};
    const double side = one ? 16.0 : 160.0 / (double)T, corner = 120.0, step = 176.0, down = 192.0;
    const double width = one ? corner + side * (double)T + 10.0 : 10.0 + step * (double)c->heads;
    const double height = one ? width : 28.0 + down * (double)c->layers;
    llm_buffer_print(&svg,
                     "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
                     "font-family=\"monospace\" font-size=\"11\">\n"
                     "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
                     width, height);
    for (size_t l = 0; l < c->layers; l++)
        for (size_t h = 0; h < c->heads; h++) {
            const float *att = model.block[l].att + h * T * T;
            const double x = 10.0 + step * (double)h, y = 24.0 + down * (double)l;
            if (!one) draw_map(&svg, att, T, x, y, side);
            if (!one)
                llm_buffer_print(&svg, "<text x=\"%.1f\" y=\"%.1f\">layer %zu, head %zu</text>\n",
                                 x, y - 6.0, l, h);
            if (one && l == layer && h == head) draw_map(&svg, att, T, corner, corner, side);
        }
    if (one) draw_labels(&svg, &tokenizer, ids, T, corner, side);
    if (!one)
        llm_buffer_print(&svg,
                         "<text x=\"10\" y=\"%.1f\" fill=\"#666\">a row: the token that looks; a "
                         "column: what it looks at; dark: much</text>\n",
                         height - 8.0);
    if (!llm_buffer_print(&svg, "</svg>\n")) return stop("out of memory", NULL);
    if (!llm_file_write(argv[3], svg.data, svg.size, &e)) return stop(e.message, NULL);

    llm_buffer_free(&svg);
    free(ids);
    llm_gpt2_destroy(&model);
    llm_tokenizer_free(&tokenizer);
    return 0;
}
