/* examples/attention_map.c, run as a user does: the four pictures of a small model, and bad
 * input. */
#include "../test.h"

#define main attention_map_main
#include "../../examples/attention_map.c"
#undef main

#include "../program.h"

/* Runs it with these words (up to five, then NULL) in the test's directory. */
static int map(const char *a, const char *b, const char *c, const char *d, const char *f) {
    const char *words[6] = {"attention_map", a, b, c, d, f};
    char *argv[7] = {NULL};
    int argc = 0;
    while (argc < 6 && words[argc]) {
        argv[argc] = (char *)test_memory(strlen(words[argc]) + 1, 1);
        strcpy(argv[argc], words[argc]);
        argc++;
    }
    return program_run(attention_map_main, argc, argv, test_path("."));
}

/* How often a word stands in a file of the test's directory. */
static size_t occurs(const char *name, const char *word) {
    llm_file f;
    llm_error e;
    if (!llm_file_read(&f, test_path(name), &e)) test_fail(__FILE__, __LINE__, "%s", e.message);
    char *text = (char *)test_memory(f.size + 1, 1);
    memcpy(text, f.data, f.size);
    llm_file_free(&f);
    CHECK(strncmp(text, "<svg ", 5) == 0 && strcmp(strstr(text, "</svg>"), "</svg>\n") == 0);
    CHECK(!strstr(text, "nan"));
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at++) n++;
    return n;
}

/* A model of 2 layers and 3 heads with a tokenizer of bytes, in the test's directory. */
static void write_model(void) {
    llm_bpe bpe;
    llm_error e;
    llm_tokenizer t;
    llm_gpt2 model;
    CHECK(llm_bpe_train(&bpe, "ab", 2, LLM_PRE_TOKENIZE_GPT2, 256, &e));
    llm_tokenizer_from_bpe(&t, &bpe, LLM_PRE_TOKENIZE_GPT2);
    llm_gpt2_config c = llm_gpt2_defaults();
    c.vocab = t.vocab, c.context = 8, c.layers = 2, c.heads = 3, c.width = 6, c.hidden = 12;
    CHECK(llm_gpt2_create(&model, &c, 1, 8, &e));
    llm_rng rng = llm_rng_seed(1);
    llm_gpt2_init(&model, &rng);
    CHECK(llm_gpt2_save(&model, test_path(""), &e));
    CHECK(llm_tokenizer_save_json(&t, test_path("tokenizer.json"), &e));
    llm_gpt2_destroy(&model);
    llm_tokenizer_free(&t);
}

TEST(attention_map,
     "all heads, one head, the rollout: as many squares, names and panels as it says") {
    write_model();
    CHECK(map(".", "a <b", "all.svg", NULL, NULL) == 0);
    CHECK(occurs("all.svg", ">layer ") == 6);
    CHECK(occurs("all.svg", "#f2f2f2") == 6);
    CHECK(occurs("all.svg", "#12508c") == 6 * 10); /* 4 tokens: 10 weights, all near even */
    CHECK(map(".", "a <b", "head.svg", "1", "2") == 0);
    CHECK(occurs("head.svg", "#12508c") == 10);
    CHECK(occurs("head.svg", "<text") == 8); /* each token down and across */
    CHECK(occurs("head.svg", ">&#60;<") == 2 && occurs("head.svg", "&#9251;") == 2);
    CHECK(occurs("head.svg", "fill-opacity='1.00'") == 1); /* the first sees itself alone */
    CHECK(map(".", "a <b", "through.svg", "rollout", NULL) == 0);
    CHECK(occurs("through.svg", "#12508c") == 10 && occurs("through.svg", "<text") == 8);
    CHECK(occurs("through.svg", "fill-opacity='1.00'") == 1);
}

TEST(attention_map, "the position schemes: eight panels, and no model is needed") {
    CHECK(map("positions", "p.svg", NULL, NULL, NULL) == 0);
    CHECK(occurs("p.svg", "<text") == 8 && occurs("p.svg", "#f2f2f2") == 8);
    CHECK(occurs("p.svg", "#d55e00") > 300); /* sines, bits, fines and cosines below 0 */
    CHECK(map("positions", "missing/p.svg", NULL, NULL, NULL) == 2);
    CHECK(strstr(program_output, "missing/p.svg"));
}

TEST(attention_map, "what cannot be drawn is said in a line") {
    write_model();
    CHECK(map(NULL, NULL, NULL, NULL, NULL) == 2 && strstr(program_output, "usage"));
    CHECK(map(".", "a", "x.svg", "unrolled", NULL) == 2 && strstr(program_output, "usage"));
    CHECK(map(".", "", "x.svg", NULL, NULL) == 2 && strstr(program_output, "empty"));
    CHECK(map(".", "abcdefghi", "x.svg", NULL, NULL) == 2 && strstr(program_output, "context"));
    CHECK(map(".", "a", "x.svg", "2", "0") == 2 && strstr(program_output, "count from 0"));
    CHECK(map(".", "a", "x.svg", "0", "3") == 2 && strstr(program_output, "count from 0"));
    CHECK(map("nowhere", "a", "x.svg", NULL, NULL) == 2 && strstr(program_output, "nowhere"));
    CHECK(map(".", "a", "missing/x.svg", NULL, NULL) == 2);
}
