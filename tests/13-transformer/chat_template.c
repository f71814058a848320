/* @chat_template */
#include "../test.h"

#include "../../llm.h"

static const char *const ct_names[12] = {"llama2",     "llama3.1", "llama3",  "mistral",
                                         "mistral-v3", "qwen3",    "qwen2.5", "qwen2",
                                         "smollm2",    "chatml",   "zephyr",  "gemma"};

TEST(chat_template, "twelve by their numbers, each with its marks in order") {
    llm_chat_template t;
    for (size_t k = 0; k < 12; k++) {
        CHECK(llm_chat_template_get(&t, k) && strcmp(t.name, ct_names[k]) == 0);
        for (size_t r = k == 11; r < 3; r++) CHECK(strchr(t.turn[r], '@'));
        const char *last = strchr(t.turn[LLM_CHAT_TEMPLATE_ASSISTANT], '@');
        CHECK(strstr(last, t.end));
        CHECK((t.date != NULL) == ((t.ways & LLM_CHAT_TEMPLATE_DATED) != 0));
    }
    CHECK(!llm_chat_template_get(&t, 12) && !llm_chat_template_get(&t, 13));
    CHECK(llm_chat_template_get(&t, 7) && strcmp(t.silent, "You are a helpful assistant.") == 0);
}

TEST(chat_template,
     "whose white space goes, who thinks, who is told a date: as @chat_turns finds it") {
    /* s, u, a: text of system, user, assistant is trimmed; t: thoughts are dropped; d: a date */
    static const char *const want[12] = {"ua", "suad", "sua", "", "a", "t",
                                         "",   "",     "",    "", "",  "sua"};
    for (size_t k = 0; k < 12; k++) {
        llm_chat_template t;
        CHECK(llm_chat_template_get(&t, k));
        for (unsigned bit = 0; bit < 5; bit++)
            CHECK((t.ways >> bit & 1) == (strchr(want[k], "suatd"[bit]) != NULL));
        CHECK(t.ways < 32);
    }
    CHECK(LLM_CHAT_TEMPLATE_THINKS == 1 << 3 && LLM_CHAT_TEMPLATE_DATED == 1 << 4);
}

/* The words of a program with the bits `has`, one behind the other. */
static const char *ct_program(const float *has) {
    static char text[2000];
    size_t n, at = 0, to = 0;
    const float *size = golden_n(&n, "words/size"), *bytes = golden("words/bytes");
    for (size_t i = 0; i < n; at += (size_t)size[i], i++) {
        if (!((unsigned)has[i / 14] >> i % 14 & 1)) continue;
        for (size_t c = 0; c < (size_t)size[i]; c++) text[to++] = (char)bytes[at + c];
        text[to++] = '\n';
    }
    text[to] = 0;
    return text;
}

TEST(chat_template, "words are found at both ends, a single letter too, and no words nowhere") {
    CHECK(llm_chat_template_has("abc", 3, "a") && llm_chat_template_has("abc", 3, "bc"));
    CHECK(!llm_chat_template_has("abc", 2, "c") && !llm_chat_template_has("abc", 3, "abcd"));
    CHECK(!llm_chat_template_has("abc", 3, ""));
}

TEST(chat_template, "of trl's templates those that are known are found, and the others refused") {
    size_t files;
    const float *known = golden_n(&files, "files/known"), *has = golden("files/has");
    size_t found = 0;
    CHECK(files > 50);
    for (size_t f = 0; f < files; f++) {
        llm_chat_template t;
        llm_error e;
        const char *text = ct_program(has + 3 * f);
        if (known[f] < 0.0f) {
            CHECK_FAILS(llm_chat_template_find(&t, text, strlen(text), &e), e,
                        "chat template: this program is none of those known here");
            continue;
        }
        CHECK(llm_chat_template_find(&t, text, strlen(text), &e));
        CHECK(strcmp(t.name, ct_names[(size_t)known[f]]) == 0);
        found++;
    }
    CHECK(found == 10);
}

/* What find makes of a program: its name, or "". */
static const char *ct_find(const char *text) {
    llm_chat_template t;
    return llm_chat_template_find(&t, text, strlen(text), NULL) ? t.name : "";
}

TEST(chat_template, "programs of the others are found by their words, with others among them not") {
    CHECK(strcmp(ct_find("'[INST] ' '<<SYS>>\\n'"), "llama2") == 0);
    CHECK(strcmp(ct_find("'[INST] '"), "") == 0 && strcmp(ct_find("<<SYS>>"), "") == 0);
    CHECK(strcmp(ct_find("' [INST] ' + c + ' [/INST]'"), "mistral") == 0);
    CHECK(strcmp(ct_find("' [INST] ' + c + '[/INST]'"), "") == 0);
    CHECK(strcmp(ct_find("' [INST] ' + c + ' [/INST]' tools"), "") == 0);
    CHECK(strcmp(ct_find("\"[INST] \" \"[AVAILABLE_TOOLS] [\""), "mistral-v3") == 0);
    CHECK(strcmp(ct_find("\"[INST] \" \"[AVAILABLE_TOOLS] [\" [SYSTEM_PROMPT]"), "") == 0);
    CHECK(strcmp(ct_find("<|im_start|>system\\nYou are a helpful assistant."), "qwen2") == 0);
    CHECK(strcmp(ct_find("<|im_start|>system\\nYou are a helpful assistant. think"), "") == 0);
    CHECK(strcmp(ct_find("<|im_start|> named SmolLM, trained by Hugging Face"), "smollm2") == 0);
    CHECK(strcmp(ct_find("'<|im_start|>' + message '<|im_end|>'"), "chatml") == 0);
    CHECK(strcmp(ct_find("'<|im_start|>' + message '<|im_end|>' You are"), "") == 0);
    CHECK(strcmp(ct_find("'<|im_start|>' + message '<|im_end|>' <think>"), "") == 0);
    CHECK(strcmp(ct_find("'<|user|>\\n' '<|assistant|>'"), "zephyr") == 0);
    CHECK(strcmp(ct_find("'<|user|>\\n' '<|assistant|>' '<|end|>'"), "") == 0);
    CHECK(strcmp(ct_find("'<|user|>\\n' '<|assistant|>' think"), "") == 0);
    CHECK(strcmp(ct_find("<|start_header_id|> <|eot_id|>"), "llama3") == 0);
    CHECK(strcmp(ct_find("<|start_header_id|> <|eot_id|> Date"), "") == 0);
    CHECK(strcmp(ct_find("<|start_header_id|> <|eot_id|> tool"), "") == 0);
    CHECK(strcmp(ct_find("<start_of_turn>"), "") == 0 && strcmp(ct_find(""), "") == 0);
    CHECK(strcmp(ct_find("'[INST] ' '<<SYS>>\\n' image"), "") == 0);
    CHECK(strcmp(ct_find("<|im_start|>system\\nYou are a helpful assistant. image"), "") == 0);
    CHECK(strcmp(ct_find("enable_thinking content.lstrip('\\n')"), "qwen3") == 0);
    CHECK(strcmp(ct_find("enable_thinking content.lstrip('\\n') image"), "") == 0);
    CHECK(strcmp(ct_find("enable_thinking"), "") == 0);
    CHECK(llm_chat_template_has("abc", 3, "bc") && !llm_chat_template_has("abc", 2, "bc"));
    CHECK(llm_chat_template_has("abc", 3, "abc") && !llm_chat_template_has("abc", 3, ""));
}
