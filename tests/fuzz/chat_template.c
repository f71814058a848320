/* @chat_template @chat_turns @chat_lm @bos: a tokenizer_config.json, or a program in Jinja; where
 * it is a known template its own text is said in every role, and every id goes back to its
 * bytes. */
#include "fuzz.h"

static const char *const control[] = {"<s>",
                                      "</s>",
                                      "<bos>",
                                      "<end_of_turn>",
                                      "<start_of_turn>",
                                      "<|im_start|>",
                                      "<|im_end|>",
                                      "<|begin_of_text|>",
                                      "<|start_header_id|>",
                                      "<|end_header_id|>",
                                      "<|eot_id|>"};

/* Bytes and the control tokens, made once. */
static const llm_tokenizer *bytes(void) {
    static llm_tokenizer t;
    static bool made;
    llm_bpe bpe;
    llm_error e;
    if (made) return &t;
    FUZZ_CHECK(llm_bpe_create(&bpe));
    llm_tokenizer_from_bpe(&t, &bpe, LLM_PRE_TOKENIZE_GPT2);
    for (size_t i = 0; i < sizeof control / sizeof *control; i++)
        FUZZ_CHECK(llm_tokenizer_add_special(&t, control[i], &e));
    made = true;
    return &t;
}

static void talk(const llm_chat_template *t, const char *text, size_t size) {
    const size_t cut = size < 300 ? size : 300, half = cut / 2;
    const llm_chat_turns_message m[4] = {
        {LLM_CHAT_TEMPLATE_SYSTEM, text, half},
        {LLM_CHAT_TEMPLATE_USER, text + half, cut - half},
        {LLM_CHAT_TEMPLATE_ASSISTANT, text, cut},
        {size % 2 ? LLM_CHAT_TEMPLATE_USER : LLM_CHAT_TEMPLATE_SYSTEM, text, half}};
    const size_t way = size > 0 ? (size + (unsigned char)text[size - 1]) % 8 : 0;
    llm_chat_turns out = {{NULL, 0, 0}, {NULL, 0, 0}};
    llm_buffer ids = {NULL, 0, 0}, answer = {NULL, 0, 0}, back = {NULL, 0, 0};
    llm_error e;
    e.message[0] = 0;
    const size_t first = way % 2, n = 4 - first - way / 2 % 2;
    if (!llm_chat_turns_write(&out, t, m + first, n, way / 4 ? "<think>\n" : NULL, &e)) {
        FUZZ_CHECK_SENTENCE(e);
    } else {
        FUZZ_CHECK(out.text.size == out.mark.size);
        FUZZ_CHECK(llm_chat_lm_encode(&ids, &answer, bytes(), &out, &e));
        FUZZ_CHECK(ids.size / sizeof(int) == answer.size / sizeof(bool));
        FUZZ_CHECK(llm_tokenizer_decode(bytes(), &back, (const int *)(void *)ids.data,
                                        ids.size / sizeof(int), &e));
        FUZZ_CHECK(back.size == out.text.size &&
                   (back.size == 0 || memcmp(back.data, out.text.data, back.size) == 0));
    }
    llm_chat_turns_free(&out);
    llm_buffer_free(&ids), llm_buffer_free(&answer), llm_buffer_free(&back);
}

static void fuzz(const unsigned char *data, size_t size) {
    llm_chat_template t;
    llm_json j;
    llm_error e;
    llm_bos bos = {-1, false};
    e.message[0] = 0;
    if (size == 0 || data[0] != '{') {
        if (llm_chat_template_find(&t, (const char *)data, size, &e))
            talk(&t, (const char *)data, size);
        else
            FUZZ_CHECK_SENTENCE(e);
        return;
    }
    for (int absent = 0; absent < 2; absent++) {
        e.message[0] = 0;
        if (!llm_bos_read(&bos, bytes(), (const char *)data, size, absent, &e))
            FUZZ_CHECK_SENTENCE(e);
        else
            FUZZ_CHECK(bos.id >= -1 && bos.id < (int)bytes()->vocab && (!bos.add || bos.id >= 0));
    }
    e.message[0] = 0;
    if (!llm_json_parse(&j, (const char *)data, size, &e)) {
        FUZZ_CHECK_SENTENCE(e);
        return;
    }
    e.message[0] = 0;
    if (llm_chat_lm_config(&t, &j, &e))
        talk(&t, (const char *)data, size);
    else
        FUZZ_CHECK_SENTENCE(e);
    llm_json_free(&j);
}
