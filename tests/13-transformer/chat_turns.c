/* @chat_turns; chat_template.py writes the golden values. */
#include "../test.h"

/* realloc that runs out after a number of calls */
static int cu_calls = 1 << 30;
static void *cu_realloc(void *p, size_t size) { return cu_calls-- > 0 ? realloc(p, size) : NULL; }
#define realloc cu_realloc

#include "../../llm.h"

enum { CU_MOST = 8 };

/* Conversation k of the golden file; returns its messages. */
static size_t cu_talk(llm_chat_turns_message *m, size_t k) {
    static char all[400];
    size_t n, at = 0;
    const float *size = golden("talks/size"), *role = golden("talks/role");
    const float *text = golden("talks/text"), *bytes = golden_n(&n, "texts/bytes");
    const float *length = golden("texts/size");
    CHECK(n <= sizeof all && size[k] <= CU_MOST);
    for (size_t i = 0; i < n; i++) all[i] = (char)(unsigned char)bytes[i];
    for (size_t i = 0; i < k; i++) at += (size_t)size[i];
    for (size_t i = 0; i < (size_t)size[k]; i++) {
        size_t from = 0;
        for (size_t j = 0; j < (size_t)text[at + i]; j++) from += (size_t)length[j];
        m[i].role = (llm_chat_template_role)(int)role[at + i];
        m[i].text = all + from, m[i].size = (size_t)length[(size_t)text[at + i]];
    }
    return (size_t)size[k];
}

static double cu_hash(const llm_buffer *text) {
    llm_sha256 s;
    char hex[65];
    llm_sha256_begin(&s);
    llm_sha256_put(&s, text->data, text->size);
    llm_sha256_end(&s, hex);
    hex[6] = 0;
    return (double)strtoul(hex, NULL, 16);
}

TEST(chat_turns, "44 conversations in 12 templates, with and without an answer to come, are "
                 "apply_chat_template's, or refused as there") {
    size_t talks, refused = 0, written = 0;
    golden_n(&talks, "talks/size");
    llm_chat_template t;
    for (size_t f = 0; llm_chat_template_get(&t, f); f++) {
        size_t n;
        const float *want = golden_n(&n, "%s/hash", t.name);
        CHECK(n == 4 * talks);
        for (size_t k = 0; k < talks; k++) {
            llm_chat_turns_message m[CU_MOST];
            const size_t count = cu_talk(m, k);
            for (size_t p = 0; p < 2; p++, want += 2) {
                llm_chat_turns out;
                llm_error e;
                memset(&out, 0, sizeof out);
                const bool ok = llm_chat_turns_write(&out, &t, m, count, p > 0 ? "" : NULL, &e);
                CHECK(ok == (want[0] >= 0.0f));
                if (ok) {
                    CHECK_NEAR(out.text.size, want[0], 0);
                    CHECK_NEAR(cu_hash(&out.text), want[1], 0);
                    CHECK(out.mark.size == out.text.size);
                }
                refused += !ok, written += ok;
                llm_chat_turns_free(&out);
                CHECK(!out.text.data && !out.mark.data);
            }
        }
    }
    CHECK(refused > 50 && written > 800);
}

/* The text of `t` for a system's, a user's and an assistant's words, and the marks as digits. */
static void cu_short(llm_chat_turns *out, const char *name, size_t first, const char *prompt) {
    static const llm_chat_turns_message all[3] = {{LLM_CHAT_TEMPLATE_SYSTEM, "s", 1},
                                                  {LLM_CHAT_TEMPLATE_USER, "</s>", 4},
                                                  {LLM_CHAT_TEMPLATE_ASSISTANT, "a", 1}};
    llm_chat_template t;
    size_t k = 0;
    while (llm_chat_template_get(&t, k) && strcmp(t.name, name) != 0) k++;
    memset(out, 0, sizeof *out);
    CHECK(llm_chat_turns_write(out, &t, all + first, 3 - first, prompt, NULL));
    for (size_t i = 0; i < out->mark.size; i++) out->mark.data[i] = (char)('0' + out->mark.data[i]);
    CHECK(llm_buffer_put(&out->text, "", 1) && llm_buffer_put(&out->mark, "", 1));
}

TEST(chat_turns, "each byte knows whether the template wrote it and whether an answer has it") {
    llm_chat_turns out;
    cu_short(&out, "llama2", 0, NULL);
    CHECK(!strcmp(out.text.data, "<s>[INST] <<SYS>>\ns\n<</SYS>>\n\n</s> [/INST] a </s>"));
    CHECK(!strcmp(out.mark.data, "1111111111"
                                 "11111111"
                                 "0"
                                 "111111111"
                                 "11"
                                 "0000"
                                 "11111111"
                                 "3"
                                 "2"
                                 "33333"));
    llm_chat_turns_free(&out);
    cu_short(&out, "chatml", 1, "So");
    CHECK(!strcmp(out.text.data, "<|im_start|>user\n</s><|im_end|>\n<|im_start|>assistant\na"
                                 "<|im_end|>\n<|im_start|>assistant\nSo"));
    CHECK(!strncmp(out.mark.data,
                   "11111111111111111"
                   "0000"
                   "11111111111"
                   "1111111111111111111111"
                   "2"
                   "33333333333"
                   "1111111111111111111111"
                   "11",
                   86));
    llm_chat_turns_free(&out);
    cu_short(&out, "zephyr", 2, "");
    CHECK(!strcmp(out.text.data, "<|assistant|>\na</s>\n<|assistant|>\n"));
    llm_chat_turns_free(&out);
    cu_short(&out, "mistral", 1, "");
    CHECK(!strcmp(out.text.data, "<s> [INST] </s> [/INST] a</s>"));
    CHECK(!strcmp(out.mark.data, "11111111111"
                                 "0000"
                                 "11111111"
                                 "3"
                                 "2"
                                 "3333"));
    llm_chat_turns_free(&out);
}

/* An answer of Qwen 3, from memory that ends with it. */
static void cu_thoughts(const char *text, bool all, bool last, const char *want) {
    llm_chat_turns out;
    const size_t size = strlen(text);
    char *exact = (char *)test_memory(size, 1);
    memcpy(exact, text, size);
    memset(&out, 0, sizeof out);
    CHECK(llm_chat_turns_thoughts(&out, exact, size, all, last));
    CHECK(out.text.size == strlen(want) && memcmp(out.text.data, want, out.text.size) == 0);
    for (size_t i = 0; i < out.mark.size; i++) CHECK(out.mark.data[i] == LLM_CHAT_TURNS_ANSWER);
    llm_chat_turns_free(&out);
}

TEST(chat_turns, "thoughts lose newlines at their ends; only the last answer gets empty ones, and "
                 "before a question none has any") {
    cu_thoughts("<think>\n\n</think>\na", true, true, "<think>\n\n</think>\n\na");
    cu_thoughts("</think>a", true, true, "<think>\n\n</think>\n\na");
    cu_thoughts("\n</think>a", true, true, "<think>\n\n</think>\n\na");
    cu_thoughts("a", true, true, "<think>\n\n</think>\n\na");
    cu_thoughts("a", true, false, "a");
    cu_thoughts("<think>\n</think>\na", true, false, "a");
    cu_thoughts("<think>\nhm\n</think>", true, false, "<think>\nhm\n</think>\n\n");
    cu_thoughts("<think>\nhm\n</think>\n\na", false, true, "a");
    char *tag = (char *)test_memory(7, 1);
    memcpy(tag, "</think", 7);
    CHECK(llm_chat_turns_last(tag, 7, "</think>") == 7 && llm_chat_turns_last(tag, 7, "th") == 2);

    static const llm_chat_turns_message m[3] = {{LLM_CHAT_TEMPLATE_USER, "u", 1},
                                                {LLM_CHAT_TEMPLATE_ASSISTANT, "a", 1},
                                                {LLM_CHAT_TEMPLATE_ASSISTANT, "b", 1}};
    static const char *const want[2] = {
        "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\nb<|im_end|>\n",
        "<|im_start|>assistant\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"};
    llm_chat_template t;
    CHECK(llm_chat_template_get(&t, 5) && strcmp(t.name, "qwen3") == 0);
    for (size_t k = 0; k < 2; k++) {
        llm_chat_turns out;
        memset(&out, 0, sizeof out);
        CHECK(llm_chat_turns_write(&out, &t, m + k, 3 - k, NULL, NULL));
        CHECK(out.text.size == strlen(want[k]));
        CHECK(memcmp(out.text.data, want[k], out.text.size) == 0);
        llm_chat_turns_free(&out);
    }
}

TEST(chat_turns, "a date can be another, and what cannot be said or stored is refused") {
    static const llm_chat_turns_message m[3] = {{LLM_CHAT_TEMPLATE_USER, "u", 1},
                                                {LLM_CHAT_TEMPLATE_USER, "v", 1},
                                                {LLM_CHAT_TEMPLATE_SYSTEM, "s", 1}};
    static const char want[] = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
                               "Cutting Knowledge Date: December 2023\nToday Date: 1 Apr 2026\n\n"
                               "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nu<|eot_id|>";
    llm_chat_turns out;
    llm_chat_template t;
    llm_error e;
    memset(&out, 0, sizeof out);
    CHECK(llm_chat_template_get(&t, 1));
    t.date = "1 Apr 2026";
    CHECK(llm_chat_turns_write(&out, &t, m, 1, NULL, &e));
    CHECK(out.text.size == sizeof want - 1 && memcmp(out.text.data, want, sizeof want - 1) == 0);
    llm_chat_turns_free(&out);
    CHECK_FAILS(llm_chat_turns_write(&out, &t, NULL, 0, NULL, &e), e, "chat: no messages");
    CHECK(llm_chat_template_get(&t, 0));
    CHECK_FAILS(llm_chat_turns_write(&out, &t, m, 2, NULL, &e), e,
                "chat: message 2 is by the user, and in llama2 it is the turn of the assistant");
    CHECK(llm_chat_template_get(&t, 11));
    CHECK_FAILS(llm_chat_turns_write(&out, &t, m + 2, 1, NULL, &e), e,
                "chat: gemma has no place for words of the system");
    int needed = 0;
    for (size_t f = 0; llm_chat_template_get(&t, f); f++) {
        const llm_chat_turns_message two[2] = {m[f == 11 ? 0 : 2],
                                               {LLM_CHAT_TEMPLATE_USER, "u", 1}};
        for (needed = 0;; needed++) {
            cu_calls = needed;
            memset(&out, 0, sizeof out);
            const bool ok = llm_chat_turns_write(&out, &t, two, f == 11 ? 1 : 2, "", &e);
            CHECK(ok || strcmp(e.message, "chat: out of memory") == 0);
            llm_chat_turns_free(&out);
            if (ok) break;
        }
        CHECK(needed > 1);
    }
}
