/* examples/tokenize.c, run as a user does: trains, shows, encodes, decodes, compares; bad input. */
#include "../test.h"

#define main tokenize_main
#include "../../examples/tokenize.c"
#undef main

#include "../program.h"

/* Runs `tokenize ARGUMENTS`, which are split at spaces, in the directory of this TEST. */
static int tokenize(const char *arguments) {
    char *text = (char *)test_memory(strlen(arguments) + 1, 1), *argv[16] = {text};
    int argc = 1;
    strcpy(text, arguments);
    for (char *w = strtok(text, " "); w && argc < 16; w = strtok(NULL, " ")) argv[argc++] = w;
    return program_run(tokenize_main, argc, argv, test_path(""));
}
static void file_of(const char *name, const char *text) {
    CHECK(llm_file_write(test_path(name), text, strlen(text), NULL));
}
static bool says(const char *what) { return strstr(program_output, what) != NULL; }

static const char book[] = "the cat sat on the mat, the cat sat on the hat";

TEST(tokenize,
     "trained on a sentence: its words are tokens, the text comes back, colours or bars") {
    file_of("book", book);
    file_of("other", "the caf\xC3\xA9\n");
    CHECK(tokenize("train book t.json --vocab 270 --special <|end|>") == 0);
    CHECK(says("t.json: 267 tokens")); /* no pair occurs twice any more */
    CHECK(says("46 bytes, ") && says("decoded: the same text") &&
          says("longest: ' cat' ' sat' ' the' 'the' ' on'\n"));
    CHECK(tokenize("show t.json other") == 0);
    CHECK(says("the| |c|a|f|<C3>|<A9>|<0A>\n|") && says("10 bytes, 8 tokens of"));
    CHECK(says("2 tokens are bytes of characters without one, 25.00%"));
    CHECK(tokenize("show t.json other --colour") == 0);
    CHECK(says("\033[48;5;153m\033[30mthe\033[0m\033[48;5;224m") && !says("|"));
    CHECK(tokenize("encode t.json other") == 0);
    file_of("ids", program_output);
    CHECK(tokenize("decode t.json ids") == 0 && strcmp(program_output, "the caf\xC3\xA9\n") == 0);
    CHECK(tokenize("train book u.json --vocab 256 --pattern qwen2") == 0 &&
          says("46 tokens of 256"));
    CHECK(tokenize("compare t.json u.json book") == 0);
    CHECK(says("t.json\n46 bytes") && says("\nu.json\n46 bytes, 46 tokens of 256, 1.000 bytes"));
    file_of("none", "");
    CHECK(tokenize("show t.json none") == 0 && says("0 bytes, 0 tokens") && says("0.000 bytes a"));
    CHECK(tokenize("decode t.json none") == 0 && program_output[0] == 0);
}

TEST(tokenize,
     "a model of pieces: spaces in front are shown, bytes and unknown characters counted") {
    static const char model[] = "\x0a\x09\x0a\x05<unk>\x18\x02"
                                "\x0a\x03\x0a\x01"
                                "a\x0a\x06\x0a\x04\xE2\x96\x81"
                                "a\x12\x02\x18\x02";
    CHECK(llm_file_write(test_path("m"), model, sizeof model - 1, NULL));
    file_of("text", "a aaz");
    CHECK(tokenize("show m text") == 0 && says(" a| a|a|<unk>|"));
    CHECK(says("5 bytes, 4 tokens of 3, 1.250") && says("1 tokens are bytes"));
    CHECK(says("not the same text") && says("longest: '<unk>' ' a' 'a'"));
    CHECK(tokenize("encode m text") == 0 && strcmp(program_output, "2 2 1 0\n") == 0);
}

TEST(tokenize, "BERT's kind of file: ## is shown, what is not known counted, and the way back") {
    file_of("bert.json",
            "{\"added_tokens\":[{\"id\":5,\"content\":\"[SEP]\",\"special\":true,\"normalized\":"
            "false}],"
            "\"normalizer\":{\"type\":\"BertNormalizer\"},\"pre_tokenizer\":{\"type\":"
            "\"BertPreTokenizer\"},\"decoder\":{\"type\":\"WordPiece\"},\"model\":{\"type\":"
            "\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\",\"vocab\":{"
            "\"[UNK]\":0,\"the\":1,\"caf\":2,\"##e\":3,\".\":4}}}");
    file_of("text", "The caf\xC3\xA9 x.");
    CHECK(tokenize("show bert.json text") == 0 && says("the|caf|##e|[UNK]|.|"));
    CHECK(says("12 bytes, 5 tokens of 6, 2.400") && says("1 tokens are bytes"));
    CHECK(says("not the same text") && says("longest: '[UNK]' 'the' 'caf' '##e' '.'"));
    CHECK(tokenize("encode bert.json text") == 0 && strcmp(program_output, "1 2 3 0 4\n") == 0);
    file_of("ids", "1 2 3 4 5");
    CHECK(tokenize("decode bert.json ids") == 0 && strcmp(program_output, "the cafe. [SEP]") == 0);
}

TEST(tokenize, "what is wrong is said in a sentence, with code 2") {
    static const struct {
        const char *arguments, *error;
    } row[] = {
        {"", "tokenize: expected train, show, encode, decode or compare"},
        {"dance", "tokenize: expected train"},
        {"train book", "tokenize: expected train TEXT OUT.json"},
        {"compare a", "tokenize: expected compare A B [TEXT]"},
        {"show", "tokenize: expected a TOKENIZER [TEXT]"},
        {"show a b c", "tokenize: expected a TOKENIZER [TEXT]"},
        {"show a b c d", "tokenize: \"d\" is no option, or one word too many"},
        {"train book t.json --vocal 9", "tokenize: \"--vocal\" is no option"},
        {"train book t.json --vocab 9", "tokenize: --vocab: expected 256 or more"},
        {"train book t.json --pattern x", "tokenize: --pattern: expected gpt2"},
        {"train nothing t.json", "nothing: cannot be opened"},
        {"train book nowhere/t.json", "nowhere/t.json"},
        {"show nothing book", "tokenize: tokenizer nothing: nothing: cannot be opened"},
        {"show book book", "tokenize: tokenizer book: ranks, line 1"},
        {"show t.json nothing", "nothing: cannot be opened"},
        {"decode t.json book", "tokenize: decode: expected ids, found \"the cat"},
        {"decode t.json far", "token 1 of 2: found id 99999"},
        {"decode t.json minus", "token 0 of 1: found id -1"},
    };
    file_of("book", book);
    file_of("far", "3 99999\n");
    file_of("minus", "-5");
    CHECK(tokenize("train book t.json") == 0);
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        const int code = tokenize(row[i].arguments);
        if (code != 2 || !says(row[i].error))
            test_fail(__FILE__, __LINE__, "%s: code %d, says: %s", row[i].arguments, code,
                      program_output);
    }
}
