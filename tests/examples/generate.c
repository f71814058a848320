/* examples/generate.c, run as a user does, with a tiny model whose words are the letters a to x and
 * whose greedy tokens are transformers' (tests/13-transformer/llama.py). */
#include "../test.h"

#include <signal.h>
#include <time.h>

/* fwrite, at whose call number `interrupt` somebody presses Ctrl-C */
static size_t interrupt;
static size_t generate_write(const void *p, size_t size, size_t n, FILE *to) {
    if (interrupt > 0 && --interrupt == 0) raise(SIGINT);
    return fwrite(p, size, n, to);
}
/* getline, during which somebody does */
static bool impatient;
static ssize_t generate_line(char **line, size_t *space, FILE *from) {
    const pid_t asked = getpid();
    if (impatient && fork() == 0) {
        const struct timespec pause = {0, 2000000};
        while (getppid() == asked) kill(asked, SIGINT), nanosleep(&pause, NULL);
        _exit(0);
    }
    return getline(line, space, from);
}
#define fwrite generate_write
#define getline generate_line
#define main generate_main
#include "../../examples/generate.c"
#undef main
#undef getline
#undef fwrite

#include "../program.h"
#include "../tiny_llama.h"

static int generate(const char *arguments) {
    char *text = (char *)test_memory(strlen(arguments) + 1, 1), *argv[32] = {text};
    int argc = 1;
    strcpy(text, arguments);
    for (char *w = strtok(text, " "); w && argc < 32; w = strtok(NULL, " ")) {
        for (char *c = w; *c; c++) *c = *c == '_' ? ' ' : *c; /* a space within a word */
        if (!strcmp(w, "''")) *w = 0;
        argv[argc++] = w;
    }
    return program_run(generate_main, argc, argv, test_path(""));
}
static void file_of(const char *name, const char *text) {
    CHECK(llm_file_write(test_path(name), text, strlen(text), NULL));
}
static bool says(const char *what) { return strstr(program_output, what) != NULL; }

static const char config[] =
    "{\"model_type\": \"%s\", \"vocab_size\": 24, \"hidden_size\": 16, \"intermediate_size\": "
    "24, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
    "\"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5%s}";

static const char config_gpt2[] =
    "{\"model_type\": \"%s\", \"vocab_size\": 24, \"n_embd\": 16, \"n_inner\": 24, \"n_layer\": 2, "
    "\"n_head\": 4, \"n_positions\": 64, \"layer_norm_epsilon\": 1e-5%s}";

/* A directory with that model, or that of another family with heads of 8: letters, `more` in
 * config.json and these control tokens, or "". */
static void family(const char *name, const char *more, const char *control) {
    tiny_llama tiny;
    char text[4000];
    size_t n = 0;
    const bool gpt2 = strcmp(name, "gpt2") == 0;
    snprintf(text, sizeof text, gpt2 ? config_gpt2 : config, name, more);
    tiny_llama_make(&tiny, name, gpt2 || strcmp(name, "llama") == 0 ? 4 : 8);
    tiny_llama_directory(&tiny, text, LLM_SAFETENSORS_F32);
    n += (size_t)sprintf(text, "{\"version\": \"1.0\", \"added_tokens\": [");
    if (*control)
        n += (size_t)sprintf(text + n,
                             "{\"id\": 21, \"content\": \"%s\", \"special\": true}, "
                             "{\"id\": 22, \"content\": \"%s\", \"special\": true}",
                             control, control + strlen(control) + 1);
    n += (size_t)sprintf(
        text + n,
        "], \"normalizer\": null, \"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}, "
        "\"post_processor\": null, \"decoder\": {\"type\": \"WordPiece\", \"prefix\": \"##\", "
        "\"cleanup\": false}, \"model\": {\"type\": \"WordPiece\", \"unk_token\": \"[UNK]\", "
        "\"continuing_subword_prefix\": \"##\", \"max_input_chars_per_word\": 100, \"vocab\": {");
    for (int i = 0; i < 24; i++) {
        char letter[2] = {(char)('a' + i), 0};
        const char *word = i == 20               ? "[UNK]"
                           : *control && i == 21 ? control
                           : *control && i == 22 ? control + strlen(control) + 1
                                                 : letter;
        n += (size_t)sprintf(text + n, "%s\"%s\": %d", i ? ", " : "", word, i);
    }
    sprintf(text + n, "}}}");
    file_of("tokenizer.json", text);
}

static void model(const char *more, const char *control) { family("llama", more, control); }

TEST(generate, "goes on as transformers does, to the number of tokens, an end, or the context") {
    model("", "");
    CHECK(generate(". --prompt x_c_v_f_t_n_h_q_g_p_g_a --temp 0 --tokens 12") == 0);
    CHECK(!strncmp(program_output, "x c v f t n h q g p g a e j e j e b v e j e b v\n", 48));
    CHECK(says("[read 12 tokens, ") && says("; wrote 12, ") && says(" MB]\n"));
    CHECK(generate(". --prompt x_c_v_f_t_n_h_q_g_p_g_a --top-k 1 --tokens 3 --seed 7") == 0);
    CHECK(!strncmp(program_output, "x c v f t n h q g p g a e j e\n", 30));
    CHECK(generate(". --prompt x_c_v_f_t_n_h_q_g_p_g_a --temp 0 --context 14") == 0);
    CHECK(says("g a e j e\n") && says("wrote 3,")); /* the last one is not read any more */
    CHECK(generate(". --prompt x_c --tokens 0") == 0 && !strncmp(program_output, "x c\n", 4));
    CHECK(generate(". --prompt x_c_v --context 2") == 2 &&
          says("the prompt has 3 tokens, the context 2; --context N makes it up to 64\n"));
    CHECK(generate(". --prompt x_c --tokens 9 --temp 2 --seed 3") == 0);
    char *first = strcpy((char *)test_memory(sizeof program_output, 1), program_output);
    *strchr(first, '[') = 0;
    CHECK(generate(". --prompt x_c --tokens 9 --temp 2 --seed 3") == 0 && says(first));
    CHECK(generate(". --prompt x_c --tokens 9 --temp 2 --seed 4") == 0 && !says(first));
    model(", \"eos_token_id\": [3, 9]", "");
    CHECK(generate(". --prompt x_c_v_f_t_n_h_q_g_p_g_a --temp 0") == 0);
    CHECK(says("g p g a e\n") && says("wrote 1,"));
    model(", \"eos_token_id\": 1", "");
    CHECK(generate(". --prompt x_c_v_f_t_n_h_q_g_p_g_a --temp 0") == 0);
    CHECK(says("a e j e j e\n"));
    file_of("generation_config.json", "{\"eos_token_id\": 4}");
    CHECK(generate(". --prompt x_c_v_f_t_n_h_q_g_p_g_a --temp 0") == 0);
    CHECK(says("g p g a\n") && says("wrote 0,"));
}

TEST(generate, "talks: a question from the arguments or lines, of which only what is new is read") {
    static const char marks[] = "<|im_start|>\0<|im_end|>";
    model("", marks);
    file_of("tokenizer_config.json",
            "{\"chat_template\": \"{{'<|im_start|>' + message.role + '<|im_end|>'}}\"}");
    CHECK(generate(". --chat --prompt b_c --temp 0 --tokens 4") == 0 && says("[read 7 tokens"));
    char *first = strcpy((char *)test_memory(sizeof program_output, 1), program_output);
    *strchr(first, '[') = 0;
    file_of("lines", "b c\nd\n");
    CHECK(freopen(test_path("lines"), "r", stdin) != NULL);
    CHECK(generate(". --chat --temp 0 --tokens 4") == 0 &&
          !strncmp(program_output, first, strlen(first)));
    const char *second = strstr(program_output, "MB]\n");
    CHECK(second && strstr(second + 4, "[read ") && strstr(strstr(second + 4, "[read "), "MB]"));
    size_t whole = 0, fresh = 0;
    CHECK(sscanf(strstr(program_output, "[read "), "[read %zu", &whole) == 1);
    CHECK(sscanf(strstr(second + 4, "[read "), "[read %zu", &fresh) == 1);
    CHECK(whole == 7 && fresh == 8); /* of 18: an answer's last token was never read */
    CHECK(generate(". --chat --prompt b --template zephyr") == 2 &&
          says("the tokenizer has no </s>, which template zephyr wants"));
    CHECK(generate(". --chat --prompt b --template x") == 2 &&
          says("--template x is not known here; expected one of llama2 llama3.1 ") &&
          says(" gemma\n"));
    CHECK(generate(". --chat --prompt b --system a --temp 0 --tokens 2") == 0 &&
          says("[read 10 tokens"));
    CHECK(generate(". --chat --prompt b --no-think --temp 0 --tokens 2") == 0);
    file_of("tokenizer_config.json", "{}");
    CHECK(generate(". --chat --prompt b") == 2 &&
          says("no chat_template; --template NAME chooses"));
    CHECK(generate(". --chat --prompt b --template chatml --tokens 1") == 0);
}

/* Moves the model to a directory of that name. */
static void move(const char *to) {
    static const char *const name[3] = {"config.json", "model.safetensors", "tokenizer.json"};
    char from[600], path[700];
    CHECK(mkdir(test_path(to), 0700) == 0);
    for (int i = 0; i < 3; i++) {
        snprintf(from, sizeof from, "%s", test_path(name[i]));
        snprintf(path, sizeof path, "%s/%s", test_path(to), name[i]);
        CHECK(rename(from, path) == 0);
    }
}

/* What was written, without the report, and the report's drafts. */
static char *text_of(double *share, size_t *drafts) {
    char *text = strcpy((char *)test_memory(sizeof program_output, 1), program_output);
    char *wrote = strstr(text, "; wrote ");
    *share = -1.0, *drafts = 0;
    CHECK(wrote != NULL);
    if (strstr(text, "drafts")) {
        const char *number = strstr(strchr(wrote, ','), "second; ") + strlen("second; ");
        CHECK(sscanf(number, "%lf %% of %zu drafts accepted; ", share, drafts) == 2);
    }
    *strchr(text, '[') = 0;
    return text;
}

TEST(generate, "a draft changes no greedy text: its own, another, in talks, up to any end") {
    static const char marks[] = "<|im_start|>\0<|im_end|>";
    static const char *const arguments[] = {
        "--prompt x_c_v_f_t_n_h_q_g_p_g_a --tokens 12",
        "--prompt x_c_v_f_t_n_h_q_g_p_g_a --tokens 30 --repeat 1.3",
        "--prompt x_c_v_f_t_n_h_q_g_p_g_a --context 19",
        "--chat --prompt b_c --tokens 20 --template chatml", "--chat --tokens 9 --template chatml"};
    char all[300];
    double share;
    size_t drafts, accepted = 0;
    family("qwen3", ", \"head_dim\": 8, \"tie_word_embeddings\": false", marks);
    move("other");
    model(", \"rope_theta\": 50.0", marks); /* the same weights, turned otherwise */
    move("near");
    model(", \"eos_token_id\": 21", marks);
    file_of("lines", "b c\nd\n");
    for (size_t i = 0; i < 5; i++) {
        static const char *const who[] = {"", "--draft . --ahead 1", "--draft .", "--draft other",
                                          "--draft near --ahead 7"};
        const char *want = NULL;
        for (size_t k = 0; k < 5; k++) {
            snprintf(all, sizeof all, ". %s --temp 0 %s", arguments[i], who[k]);
            CHECK(freopen(test_path("lines"), "r", stdin) != NULL);
            CHECK(generate(all) == 0);
            const char *text = text_of(&share, &drafts);
            if (k == 0) want = text;
            CHECK(!strcmp(text, want) && (k > 0) == (share >= 0.0));
            if (k == 1 || k == 2) CHECK(share == 100.0 && drafts > 0);
            if (k == 3) CHECK(drafts > 0 && share < 100.0);
            accepted += k == 4 && share > 0.0 && share < 100.0;
            const char *second = strstr(program_output, "MB]\n"); /* of a talk */
            CHECK(second && (i < 4) == (second[4] == 0));
        }
    }
    CHECK(accepted > 0);
    CHECK(generate(". --prompt b_c --draft near --temp 2 --tokens 9 --seed 5") == 0);
    const char *once = text_of(&share, &drafts);
    CHECK(generate(". --prompt b_c --draft near --temp 2 --tokens 9 --seed 5") == 0);
    CHECK(!strcmp(text_of(&share, &drafts), once) && drafts > 0);
}

TEST(generate, "a draft with another vocabulary, or none, is refused") {
    model("", "");
    move("plain");
    model("", "<s>\0</s>");
    CHECK(generate(". --prompt a --draft plain") == 2);
    CHECK(says("generate: --draft plain has another vocabulary: draft: token 21 twice is 'v v', of "
               "the model '<s>"));
    CHECK(generate(". --prompt a --draft none") == 2 && says("none: No such file"));
    CHECK(generate(". --prompt a --draft . --ahead 0") == 2 && says("--ahead is '0', expected"));
}

static const char *piece_of(int id) {
    static char letter[2];
    *letter = (char)('a' + id);
    return id == 3    ? "<s>"
           : id == 8  ? "</s>"
           : id == 11 ? "<|im_start|>"
           : id == 12 ? "<|im_end|>"
           : id == 20 ? "<unk>"
                      : letter;
}

/* A GGUF file of that model: pieces are letters, d is the beginning, i the end, l and m what stands
 * around a turn; and these pairs. */
static void gguf(int add_bos, int eos, int eot, const char *talk) {
    static const struct {
        const char *key;
        double value;
    } number[] = {{"llama.context_length", 64},      {"llama.embedding_length", 16},
                  {"llama.feed_forward_length", 24}, {"llama.block_count", 2},
                  {"llama.attention.head_count", 4}, {"llama.attention.head_count_kv", 2},
                  {"tokenizer.ggml.bos_token_id", 3}};
    tiny_llama tiny;
    llm_buffer b = {NULL, 0, 0};
    size_t pairs = 0;
    bool ok = llm_gguf_write_string(&b, &pairs, "general.architecture", "llama") &&
              llm_gguf_write_string(&b, &pairs, "tokenizer.ggml.model", "llama");
    for (size_t i = 0; i < 7; i++)
        ok = ok &&
             llm_gguf_write_value(&b, &pairs, number[i].key, LLM_GGUF_VALUES_U32, number[i].value);
    ok = ok && llm_gguf_write_value(&b, &pairs, "llama.attention.layer_norm_rms_epsilon",
                                    LLM_GGUF_VALUES_F32, 1e-5);
    ok = ok && llm_gguf_write_value(&b, &pairs, "tokenizer.ggml.add_space_prefix",
                                    LLM_GGUF_VALUES_BOOL, 0);
    if (add_bos >= 0)
        ok = ok && llm_gguf_write_value(&b, &pairs, "tokenizer.ggml.add_bos_token",
                                        LLM_GGUF_VALUES_BOOL, add_bos);
    if (eos >= 0)
        ok = ok && llm_gguf_write_value(&b, &pairs, "tokenizer.ggml.eos_token_id",
                                        LLM_GGUF_VALUES_U32, eos);
    if (eot >= 0)
        ok = ok && llm_gguf_write_value(&b, &pairs, "tokenizer.ggml.eot_token_id",
                                        LLM_GGUF_VALUES_U32, eot);
    if (talk) ok = ok && llm_gguf_write_string(&b, &pairs, "tokenizer.chat_template", talk);
    ok =
        ok && llm_gguf_write_array(&b, &pairs, "tokenizer.ggml.tokens", LLM_GGUF_VALUES_STRING, 24);
    for (int i = 0; i < 24; i++) {
        const char *piece = piece_of(i);
        ok = ok && llm_gguf_write_text(&b, piece, strlen(piece));
    }
    ok = ok && llm_gguf_write_array(&b, &pairs, "tokenizer.ggml.scores", LLM_GGUF_VALUES_F32, 24);
    for (int i = 0; i < 24; i++) ok = ok && llm_gguf_write_number(&b, LLM_GGUF_VALUES_F32, -i);
    ok = ok &&
         llm_gguf_write_array(&b, &pairs, "tokenizer.ggml.token_type", LLM_GGUF_VALUES_I32, 24);
    for (int i = 0; i < 24; i++) {
        const bool control = i == 3 || i == 8 || i == 11 || i == 12;
        ok = ok && llm_gguf_write_number(&b, LLM_GGUF_VALUES_I32, i == 20 ? 2 : control ? 3 : 1);
    }
    CHECK(ok);
    tiny_llama_make(&tiny, "llama", 4);
    tiny_llama_gguf(tiny_llama_path("m.gguf"), &tiny, "llama", 4, &b, pairs, NULL);
    llm_buffer_free(&b);
}

/* The greedy text of 6 tokens behind a prompt of letters that begins with BOS, from the model. */
static const char *with_bos(const char *prompt) {
    static char text[200];
    llm_llama g;
    int ids[32] = {3};
    size_t n = 1;
    for (const char *c = prompt; *c; c++) ids[n++] = *c - 'a';
    CHECK(llm_llama_open(&g, tiny_llama_path("m.gguf"), 32, 32, NULL));
    llm_llama_forward(&g, ids, n);
    strcpy(text, prompt);
    for (size_t i = 0; i < 6; i++) {
        const int best = llm_greedy_pick(g.logits, 24);
        CHECK(best != 20); /* which is written otherwise */
        strcat(text, piece_of(best));
        llm_llama_forward(&g, &best, 1);
    }
    llm_llama_close(&g);
    return strcat(text, "\n");
}

TEST(generate, "a GGUF file brings its tokenizer, beginning, ends and template") {
    static const char run[] = "m.gguf --prompt xcvftnhqgpga --temp 0 --tokens 12";
    static const char talk[] = "{{'<|im_start|>' + message.role + '<|im_end|>'}}";
    double share;
    size_t drafts;
    gguf(0, -1, -1, NULL);
    CHECK(generate(run) == 0 && !strncmp(program_output, "xcvftnhqgpgaejejebvejebv\n", 25));
    CHECK(says("[read 12 tokens, ") && says("; wrote 12, "));
    CHECK(generate("m.gguf --prompt xcvftnhqgpga --temp 0 --tokens 12 --round") == 0 &&
          !strncmp(program_output, "xcvftnhqgpgaejejebvejebv\n", 25)); /* no blocks in it */
    CHECK(generate("m.gguf --chat --prompt bc") == 2 &&
          says("GGUF: no tokenizer.chat_template; --template NAME chooses one"));
    for (int add = -1; add <= 1; add += 2) { /* pieces have a beginning unless the file says no */
        gguf(add, -1, -1, NULL);
        CHECK(generate("m.gguf --prompt xcv --temp 0 --tokens 6") == 0 && says("[read 4 tokens, "));
        const char *want = with_bos("xcv");
        CHECK(!strncmp(program_output, want, strlen(want)));
    }
    gguf(0, 9, -1, NULL);
    CHECK(generate(run) == 0 && says("gpgae\n") && says("wrote 1,"));
    gguf(0, 9, 4, NULL);
    CHECK(generate(run) == 0 && says("gpga\n") && says("wrote 0,"));
    gguf(0, 24, 9, talk); /* 24 is no token */
    CHECK(generate(run) == 0 && says("gpgae\n") && says("wrote 1,"));
    CHECK(generate("m.gguf --chat --prompt bc --temp 0 --tokens 9 --template chatml") == 0);
    const char *want = text_of(&share, &drafts);
    CHECK(generate("m.gguf --chat --prompt bc --temp 0 --tokens 9 --draft m.gguf") == 0);
    CHECK(!strcmp(text_of(&share, &drafts), want));
    model("", "");
    CHECK(generate("m.gguf --prompt xcv --draft .") == 2 && says("--draft . has another vocabu"));
}

static const char gpt2_prompt[] = "f_n_j_v_i_e_i_e_o_a_f_p";
static const char gpt2_text[] = "f n j v i e i e o a f p r x x x q q q q q q q q q q g g r r x x q "
                                "q q q r r s s s s s s s s s s q q q g q q q q q q q q q q\n";

TEST(generate, "GPT-2 in 32 and 16 bits writes transformers' 50 tokens, with drafts and without") {
    static const llm_safetensors_dtype dtype[3] = {LLM_SAFETENSORS_F32, LLM_SAFETENSORS_F16,
                                                   LLM_SAFETENSORS_BF16};
    char run[200];
    tiny_llama tiny;
    family("gpt2", "", "");
    CHECK(generate(". --prompt ''") == 2 && says("generate: the --prompt is empty"));
    for (size_t k = 0; k < 3; k++) {
        char text[400];
        snprintf(text, sizeof text, config_gpt2, "gpt2", "");
        tiny_llama_make(&tiny, "gpt2", 4);
        tiny_llama_directory(&tiny, text, dtype[k]);
        snprintf(run, sizeof run, ". --prompt %s --temp 0 --tokens 50", gpt2_prompt);
        CHECK(generate(run) == 0 && !strncmp(program_output, gpt2_text, strlen(gpt2_text)));
        CHECK(says("[read 12 tokens, ") && says("; wrote 50, "));
    }
    snprintf(run, sizeof run, ". --prompt %s --temp 0 --tokens 50 --draft .", gpt2_prompt);
    CHECK(generate(run) == 0 && !strncmp(program_output, gpt2_text, strlen(gpt2_text)));
    CHECK(says("100 % of "));
    snprintf(run, sizeof run, ". --prompt %s --temp 0 --tokens 3 --cache16", gpt2_prompt);
    CHECK(generate(run) == 0 && !strncmp(program_output, gpt2_text, 28));
    snprintf(run, sizeof run, ". --prompt %s --temp 0", gpt2_prompt); /* to the context's end */
    CHECK(generate(run) == 0 && says("; wrote 53, "));
    CHECK(generate(". --chat --prompt b") == 2 && says("--template NAME chooses one"));
}

TEST(generate, "GPT-2 with vocab.json and merges.txt: bytes, an end, and texts from nothing") {
    enum { V = 258, COUNT = 20 };
    llm_gpt2 g;
    llm_gpt2_decode_state d;
    llm_gpt2_config c = {V, 32, 2, 2, 8, 12, 1e-5f};
    llm_buffer vocab = {NULL, 0, 0}, want = {NULL, 0, 0};
    llm_tokenizer t;
    llm_error e2;
    int other = 256, ids[2][2 + COUNT] = {{257, 'e'}, {256}};
    CHECK(llm_gpt2_create(&g, &c, 0, 0, &e2));
    llm_rng r = llm_rng_seed(5);
    for (size_t i = 0; i < g.count; i++) g.w[i] = 0.5f * llm_rng_normal(&r);
    for (size_t i = 0; i < 256 * c.width; i++) /* most often a letter */
        if (i / c.width < 'a' || i / c.width > 'z') g.weights.wte[i] *= 0.1f;
    for (int b = 0; b < 256; b++) { /* OpenAI's spelling of bytes */
        const bool plain = (b > 32 && b < 127) || (b > 160 && b != 173);
        llm_buffer_print(&vocab, "%s\"\\u%04x\": %d", b ? ", " : "{", plain ? b : other++, b);
    }
    llm_buffer_print(&vocab, ", \"<|endoftext|>\": 256, \"th\": 257}");
    CHECK(llm_gpt2_save(&g, tiny_llama_path(""), &e2));
    file_of("vocab.json", vocab.data);
    CHECK(generate(". --prompt the") == 2 && says("merges.txt: cannot be opened"));
    file_of("merges.txt", "#version: 0.2\nt h\n");
    CHECK(llm_tokenizer_load(&t, tiny_llama_path(""), &e2));
    CHECK(llm_gpt2_decode_create(&d, &g, 8, &e2));
    for (int k = 0; k < 2; k++) { /* "the"; an empty prompt, behind the end of another text */
        const size_t n = k ? 1 : 2;
        llm_rng unused = llm_rng_seed(1);
        CHECK(llm_gpt2_decode_text(&d, ids[k], n, COUNT, -1, 0.0f, 0, 1.0f, &unused) == COUNT);
        want.size = 0;
        if (k == 0) CHECK(llm_buffer_put(&want, "the", 3));
        CHECK(llm_tokenizer_decode(&t, &want, ids[k] + n, COUNT, &e2));
        CHECK(generate(k ? ". --prompt '' --temp 0 --tokens 20"
                         : ". --prompt the --temp 0 --tokens 20") == 0);
        CHECK(!memcmp(program_output, want.data, want.size) && program_output[want.size] == '\n');
    }
    char text[60];
    snprintf(text, sizeof text, "{\"eos_token_id\": %d}", ids[0][2 + 3]);
    size_t first = 0;
    while (ids[0][2 + first] != ids[0][2 + 3]) first++;
    file_of("generation_config.json", text);
    snprintf(text, sizeof text, "; wrote %zu, ", first);
    CHECK(generate(". --prompt the --temp 0 --tokens 20") == 0);
    CHECK(llm_chat_template_has(program_output, sizeof program_output, text));
    llm_gpt2_decode_destroy(&d);
    llm_tokenizer_free(&t);
    llm_gpt2_destroy(&g);
    llm_buffer_free(&vocab);
    llm_buffer_free(&want);
}

/* Letters of what was written behind the prompt of 12, without the spaces. */
static const char *written(const char *options) {
    static char text[2][100];
    static int turn;
    char run[300];
    size_t n = 0;
    turn = !turn;
    snprintf(run, sizeof run, ". --prompt %s --tokens 11 %s", gpt2_prompt, options);
    CHECK(generate(run) == 0 && says("; wrote 11, "));
    for (const char *c = program_output + 24; *c && *c != '\n'; c++)
        if (*c != ' ') text[turn][n++] = *c;
    text[turn][n] = 0;
    CHECK(n == 11);
    return text[turn];
}

TEST(generate, "every step of the chain is an option, and does what it says") {
    static const char *const greedy[] = {"--top-k 1",   "--top-p 0",        "--min-p 1",
                                         "--epsilon 1", "--top-sigma 1e-6", "--mirostat 1e-6",
                                         "--temp 0"};
    static const char best[] = "rxxxqqqqqqq";
    family("gpt2", "", "");
    for (size_t i = 0; i < 7; i++) CHECK(!strcmp(written(greedy[i]), best));
    static const char *const other[] = {"--typical 0.2", "--eta 0.3", "--xtc 1 --xtc-above 0.01",
                                        "--mirostat 5",  "--temp 3",  "--dry 100 --temp 0"};
    for (size_t i = 0; i < 6; i++) CHECK(strcmp(written(other[i]), best) != 0);
    static const char *const priced[] = {"--frequency 100 --temp 0", "--presence 100 --temp 0"};
    for (size_t i = 0; i < 2; i++) {
        const char *text = written(priced[i]);
        for (size_t k = 0; k < 11; k++) /* what was said is never said again */
            CHECK(!strchr("fnjvieoap", text[k]) && !strchr(text + k + 1, text[k]));
    }
    const char *text = written("--frequency 100 --temp 0 --last 1");
    bool back = false;
    for (size_t k = 0; k + 1 < 11; k++) {
        CHECK(text[k] != text[k + 1]);
        back = back || strchr(text + k + 1, text[k]);
    }
    CHECK(back);
    CHECK(strcmp(written("--mirostat 3 --seed 2"), written("--mirostat 3 --seed 2")) == 0);
    CHECK(strcmp(written("--mirostat 3 --seed 2"), written("--mirostat 3 --seed 3")) != 0);
    CHECK(generate(". --prompt f --mirostat 3 --draft .") == 2 &&
          says("--mirostat and --draft exclude each other"));
}

/* Standard input of the programs that follow. */
static void input(const char *text, size_t size) {
    CHECK(llm_file_write(test_path("lines"), text, size, NULL));
    CHECK(freopen(test_path("lines"), "r", stdin) != NULL);
}

TEST(generate, "a prompt of - is standard input, whole, without the end of its last line") {
    model("", "");
    input("x c v f t n h q g\np g a\r\n\n", 26);
    CHECK(generate(". --prompt - --temp 0 --tokens 12") == 0);
    CHECK(!strncmp(program_output, "x c v f t n h q g\np g a e j e j e b v e j e b v\n", 48));
    input("x\0c", 3);
    CHECK(generate(". --prompt -") == 2 && says("standard input holds a 0"));
    input("\n", 1);
    CHECK(generate(". --prompt -") == 2 && says("the --prompt is empty"));
    model("", "<|im_start|>\0<|im_end|>");
    input("b c\n", 4);
    CHECK(generate(". --chat --prompt - --template chatml --temp 0 --tokens 4") == 0);
    double share;
    size_t drafts;
    const char *want = text_of(&share, &drafts);
    CHECK(generate(". --chat --prompt b_c --template chatml --temp 0 --tokens 4") == 0);
    CHECK(!strcmp(text_of(&share, &drafts), want));
    char large[9001];
    memset(large, 'a', 9000);
    input(large, 9000); /* one unknown word */
    CHECK(generate(". --prompt - --tokens 0") == 0 && !strncmp(program_output, large, 9000));
    CHECK(strstr(program_output, "[read 1 tokens"));
}

TEST(generate, "Ctrl-C ends an answer, and at a question the conversation") {
    static const char marks[] = "<|im_start|>\0<|im_end|>";
    int silent[2];
    model("", "");
    interrupt = 3;
    CHECK(generate(". --prompt x_c_v_f_t_n_h_q_g_p_g_a --temp 0 --tokens 12") == 0);
    CHECK(says("x c v f t n h q g p g a e j e\n[read 12 tokens") && says("; wrote 3, "));
    interrupt = 0;
    model("", marks);
    file_of("lines", "b c\nd\n");
    CHECK(freopen(test_path("lines"), "r", stdin) != NULL);
    interrupt = 2;
    CHECK(generate(". --chat --temp 0 --tokens 5 --template chatml") == 0);
    CHECK(says("; wrote 2, ") && says("; wrote 5, ")); /* the next question has its answer */
    interrupt = 0, impatient = true;
    CHECK(pipe(silent) == 0 && dup2(silent[0], 0) == 0);
    CHECK(generate(". --chat --template chatml") == 0 && *program_output == 0);
}

TEST(generate, "what cannot be is refused in a sentence") {
    static const struct {
        const char *arguments, *text;
    } bad[] = {
        {"", "which model?"},
        {".", "--prompt TEXT or --chat is missing"},
        {". x --prompt a", ". and x: expected one model"},
        {". --prompt", "--prompt needs a value"},
        {". --what", "--what is no option"},
        {". --prompt a --tokens 1.5", "--tokens is '1.5', expected a whole number from 0"},
        {". --prompt a --temp hot", "--temp is 'hot', expected a number from 0 to 100"},
        {". --prompt a --top-p 2", "--top-p is '2', expected a number from 0 to 1"},
        {". --prompt a --top-k 1.5", "--top-k is '1.5', expected a whole number from 0"},
        {". --prompt a --system b", "are for --chat"},
        {"none --prompt a",
         "none: No such file or directory; expected a model's directory or a .gguf file"},
        {"none.gguf --prompt a", "none.gguf: No such file or directory; expected"},
        {"letter.txt --prompt a", "letter.txt is a file that does not end in .gguf; expected"},
        {"letter.gguf --prompt a", "GGUF"},
        {". --prompt a", ". has no config.json; expected a model's directory"}};
    file_of("letter.txt", "Dear reader");
    file_of("letter.gguf", "Dear reader");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(generate(bad[i].arguments) == 2 && says(bad[i].text));
        CHECK(!strncmp(program_output, "generate: ", 10) && strchr(program_output, '\n')[1] == 0);
    }
    CHECK(generate("--help") == 0 && says("--no-think  ") && says("--seed      N ") &&
          says("--template  TEXT ") && says("--top-k     N ") && says("--top-p     X "));
    file_of("config.json", "{}");
    CHECK(generate(". --prompt a") == 2 &&
          says("generate: . has no tokenizer; expected tokenizer.json, vocab.json and merges.txt, "
               "or tokenizer.model\n"));
    model("", "");
    file_of("tokenizer.json", "{}");
    CHECK(generate(". --prompt a") == 2 && says("generate: tokenizer "));
    model("", "");
    CHECK(generate(". --prompt") == 2);
}
