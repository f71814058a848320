/* examples/generate.c, run as a user does, with a tiny model whose words are the letters a to x and
 * whose greedy tokens are transformers' (tests/13-transformer/llama.py). */
#include "../test.h"

#define main generate_main
#include "../../examples/generate.c"
#undef main

#include "../program.h"
#include "../tiny_llama.h"

static int generate(const char *arguments) {
    char *text = (char *)test_memory(strlen(arguments) + 1, 1), *argv[32] = {text};
    int argc = 1;
    strcpy(text, arguments);
    for (char *w = strtok(text, " "); w && argc < 32; w = strtok(NULL, " ")) {
        for (char *c = w; *c; c++) *c = *c == '_' ? ' ' : *c; /* a space within a word */
        argv[argc++] = w;
    }
    return program_run(generate_main, argc, argv, test_path(""));
}
static void file_of(const char *name, const char *text) {
    CHECK(llm_file_write(test_path(name), text, strlen(text), NULL));
}
static bool says(const char *what) { return strstr(program_output, what) != NULL; }

static const char config[] =
    "{\"model_type\": \"llama\", \"vocab_size\": 24, \"hidden_size\": 16, \"intermediate_size\": "
    "24, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
    "\"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5%s}";

/* A directory with that model: letters, `more` in config.json and these control tokens, or "". */
static void model(const char *more, const char *control) {
    tiny_llama tiny;
    char text[4000];
    size_t n = 0;
    snprintf(text, sizeof text, config, more);
    tiny_llama_make(&tiny, "llama", 4);
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
    CHECK(generate(". --prompt x_c_v --context 2") == 2 && says("has 3 tokens, the context 2\n"));
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
    CHECK(whole == 7 && fresh == 7); /* of 18 */
    CHECK(generate(". --chat --prompt b --template zephyr") == 2 &&
          says("the tokenizer has no </s>, which template zephyr wants"));
    CHECK(generate(". --chat --prompt b --template x") == 2 &&
          says("--template x is not known here"));
    CHECK(generate(". --chat --prompt b --system a --temp 0 --tokens 2") == 0 &&
          says("[read 10 tokens"));
    CHECK(generate(". --chat --prompt b --no-think --temp 0 --tokens 2") == 0);
    file_of("tokenizer_config.json", "{}");
    CHECK(generate(". --chat --prompt b") == 2 &&
          says("no chat_template; --template NAME chooses"));
    CHECK(generate(". --chat --prompt b --template chatml --tokens 1") == 0);
}

TEST(generate, "what cannot be is refused in a sentence") {
    static const struct {
        const char *arguments, *text;
    } bad[] = {{"", "which model?"},
               {".", "--prompt TEXT or --chat is missing"},
               {". x --prompt a", ". and x: expected one model"},
               {". --prompt", "--prompt needs a value"},
               {". --what", "--what is no option"},
               {". --prompt a --tokens 1.5", "--tokens is '1.5', expected a whole number from 0"},
               {". --prompt a --temp hot", "--temp is 'hot', expected a number from 0 to 100"},
               {". --prompt a --top-p 2", "--top-p is '2', expected a number from 0 to 1"},
               {". --prompt a --system b", "are for --chat"},
               {"none --prompt a", "none/config.json: cannot be opened"},
               {"none.gguf --prompt a", "none.gguf: cannot be opened"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(generate(bad[i].arguments) == 2 && says(bad[i].text));
        CHECK(!strncmp(program_output, "generate: ", 10) && strchr(program_output, '\n')[1] == 0);
    }
    CHECK(generate("--help") == 0 && says("--no-think") && says("--seed N"));
    model("", "");
    file_of("tokenizer.json", "{}");
    CHECK(generate(". --prompt a") == 2 && says("generate: tokenizer "));
    model("", "");
    CHECK(generate(". --prompt") == 2);
}
