/* @json_token @json @json_put: what is accepted, written and read again, is the same tree. */
#include "fuzz.h"

static bool fuzz_write(llm_buffer *b, const llm_json *j, const llm_json_node *v) {
    static const char *const word[3] = {"null", "false", "true"};
    if (v->kind <= LLM_JSON_TRUE) return llm_buffer_print(b, "%s", word[v->kind]);
    if (v->kind == LLM_JSON_STRING) return llm_json_put_string(b, v->text, v->text_size);
    if (v->kind == LLM_JSON_NUMBER)
        return isinf(v->number) ? llm_buffer_print(b, v->number > 0.0 ? "1e999" : "-1e999")
                                : llm_json_put_number(b, v->number);
    const bool array = v->kind == LLM_JSON_ARRAY;
    bool ok = llm_buffer_put(b, array ? "[" : "{", 1);
    for (const llm_json_node *c = llm_json_first(j, v); c && ok; c = llm_json_next(j, c)) {
        if (c != llm_json_first(j, v)) ok = llm_buffer_put(b, ",", 1);
        if (!array)
            ok = ok && llm_json_put_string(b, c->key, c->key_size) && llm_buffer_put(b, ":", 1);
        ok = ok && fuzz_write(b, j, c);
    }
    return ok && llm_buffer_put(b, array ? "]" : "}", 1);
}

static void fuzz(const unsigned char *data, size_t size) {
    llm_json j, again;
    llm_error e;
    e.message[0] = 0;
    if (!llm_json_parse(&j, (const char *)data, size, &e)) {
        FUZZ_CHECK_SENTENCE(e);
        FUZZ_CHECK(!j.node && !j.memory);
        return;
    }
    llm_buffer b = {NULL, 0, 0};
    FUZZ_CHECK(j.count > 0 && fuzz_write(&b, &j, j.node));
    FUZZ_CHECK(llm_json_parse(&again, b.data, b.size, &e) && again.count == j.count);
    for (size_t i = 0; i < j.count; i++) {
        const llm_json_node *x = &j.node[i], *y = &again.node[i];
        FUZZ_CHECK(x->kind == y->kind && x->count == y->count && x->next == y->next);
        FUZZ_CHECK(x->count == 0 || (x->first == i + 1 && y->first == i + 1));
        FUZZ_CHECK(x->key_size == y->key_size && !x->key == !y->key);
        FUZZ_CHECK(!x->key || memcmp(x->key, y->key, x->key_size + 1) == 0);
        FUZZ_CHECK(memcmp(&x->number, &y->number, sizeof x->number) == 0);
        if (x->kind == LLM_JSON_STRING)
            FUZZ_CHECK(x->text_size == y->text_size &&
                       memcmp(x->text, y->text, x->text_size + 1) == 0);
        size_t exact;
        if (llm_json_size(&exact, x)) FUZZ_CHECK((double)exact == x->number);
        if (x->key) llm_json_get(&j, j.node, x->key);
    }
    llm_buffer_free(&b);
    llm_json_free(&again);
    llm_json_free(&j);
}
