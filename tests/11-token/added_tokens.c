/* @added_tokens */
#include "../test.h"

/* realloc that runs out after a number of calls */
static int added_calls = 1 << 30;
static void *added_realloc(void *p, size_t size) {
    return added_calls-- > 0 ? realloc(p, size) : NULL;
}
#define realloc added_realloc

#include "../../llm.h"

static char *added_bytes(const char *name) {
    size_t size;
    const float *values = golden_n(&size, "%s/bytes", name);
    char *text = (char *)test_memory(size, 1);
    for (size_t i = 0; i < size; i++) text[i] = (char)(unsigned char)values[i];
    return text;
}

static llm_added_tokens added_none(void) {
    llm_added_tokens a;
    memset(&a, 0, sizeof a);
    return a;
}

TEST(added_tokens, "tokens are found where Hugging Face tokenizers finds them") {
    size_t tokens, texts;
    llm_added_tokens a = added_none();
    const char *token = added_bytes("token"), *text = added_bytes("text");
    const float *token_size = golden_n(&tokens, "token/size"), *control = golden("token/special");
    const float *text_size = golden_n(&texts, "text/size");
    for (size_t i = 0; i < tokens; i++) {
        CHECK(llm_added_tokens_put(&a, (int)i, token, (size_t)token_size[i], control[i] != 0.0f,
                                   false));
        token += (size_t)token_size[i];
    }
    const float *want[2] = {golden("text/without"), golden("text/with_special")};
    CHECK(texts > 150);
    for (size_t k = 0; k < texts; k++) {
        const size_t size = (size_t)text_size[k];
        char *exact = (char *)test_memory(size, 1); /* reading on is noticed */
        memcpy(exact, text, size);
        for (int special = 0; special < 2; special++) {
            size_t at = 0, hits = (size_t)*want[special]++;
            for (; hits > 0; hits--) {
                const llm_added_tokens_one *one =
                    llm_added_tokens_next(&a, exact, size, &at, false, special);
                CHECK(one);
                CHECK_NEAR(one->id, *want[special]++, 0);
                CHECK_NEAR(at, *want[special]++, 0);
                at += one->size;
                CHECK_NEAR(at, *want[special]++, 0);
            }
            CHECK(!llm_added_tokens_next(&a, exact, size, &at, false, special) && at == size);
            CHECK(!llm_added_tokens_next(&a, exact, size, &at, false, special) && at == size);
        }
        text += size;
    }
    llm_added_tokens_free(&a);
}

TEST(added_tokens, "by hand: leftmost, then longest; only the kind asked for") {
    llm_added_tokens a = added_none();
    CHECK(llm_added_tokens_count(&a) == 0 && llm_added_tokens_find(&a, "x", 1) == -1);
    CHECK(llm_added_tokens_put(&a, 7, "ab", 2, true, false));
    CHECK(llm_added_tokens_put(&a, 8, "abc", 3, false, false));
    CHECK(llm_added_tokens_put(&a, 9, "abcd", 4, false, true));
    CHECK(llm_added_tokens_put(&a, 5, "b\0c", 3, false, true));
    CHECK(llm_added_tokens_put(&a, 6, "abcd", 4, false, true)); /* the first one counts */
    CHECK(llm_added_tokens_count(&a) == 5);
    CHECK(llm_added_tokens_find(&a, "ab", 2) == 7 && llm_added_tokens_find(&a, "abcd", 4) == 9);
    CHECK(llm_added_tokens_find(&a, "b\0c", 3) == 5 && llm_added_tokens_find(&a, "b\0d", 3) == -1);
    CHECK(llm_added_tokens_find(&a, "a", 1) == -1 && llm_added_tokens_find(&a, "abcde", 5) == -1);

    CHECK(llm_added_tokens_match(&a, "abcd", 4, false)->id == 8);
    CHECK(llm_added_tokens_match(&a, "abcd", 4, true)->id == 9);
    CHECK(llm_added_tokens_match(&a, "abcd", 3, true) == NULL);
    CHECK(llm_added_tokens_match(&a, "abcd", 2, false)->id == 7);
    CHECK(llm_added_tokens_match(&a, "xab", 3, false) == NULL);

    const char *text;
    const llm_added_tokens_one *one = llm_added_tokens_get(&a, 3, &text);
    CHECK(one->size == 3 && memcmp(text, "b\0c", 3) == 0);
    CHECK(!one->special && one->normalized && llm_added_tokens_get(&a, 0, &text)->special);

    CHECK(!one->single_word && !one->lstrip && !one->rstrip); /* of the last one until set */
    for (int flag = 0; flag < 3; flag++) {
        llm_added_tokens_flags(&a, flag == 0, flag == 1, flag == 2);
        CHECK(llm_added_tokens_get(&a, 4, &text)->single_word == (flag == 0));
        CHECK(llm_added_tokens_get(&a, 4, &text)->lstrip == (flag == 1));
        CHECK(llm_added_tokens_get(&a, 4, &text)->rstrip == (flag == 2));
        CHECK(!llm_added_tokens_get(&a, 3, &text)->single_word);
    }
    llm_added_tokens none = added_none();
    CHECK_ASSERTS(llm_added_tokens_flags(&none, true, true, true));
    CHECK(llm_added_tokens_put(&none, 1, "\xFF", 1, true, false) && none.begins[255]);
    llm_added_tokens_flags(&none, true, false, true); /* of one token */
    one = llm_added_tokens_get(&none, 0, &text);
    CHECK(one->single_word && !one->lstrip && one->rstrip);
    llm_added_tokens_free(&none);
    size_t at = 1;
    CHECK(llm_added_tokens_next(&a, "ababc", 5, &at, false, true)->id == 8 && at == 2);
    at = 0;
    CHECK(llm_added_tokens_next(&a, "ababc", 5, &at, false, true)->id == 7 && at == 0);
    CHECK(llm_added_tokens_next(&a, "ababc", 5, &at, false, false)->id == 8 && at == 2);
    CHECK_ASSERTS(llm_added_tokens_get(&a, 5, &text));
    CHECK_ASSERTS(llm_added_tokens_put(&a, 1, "", 0, true, true));
    llm_added_tokens_free(&a);
    CHECK(llm_added_tokens_count(&a) == 0 && a.text.size == 0 && !a.begins['a']);
}

TEST(added_tokens, "when memory is out, nothing is added") {
    for (int calls = 0; calls < 30; calls++) {
        llm_added_tokens a = added_none();
        added_calls = calls;
        size_t put = 0;
        while (put < 50 && llm_added_tokens_put(&a, (int)put, "0123456789", 10, true, true)) put++;
        added_calls = 1 << 30;
        CHECK(llm_added_tokens_count(&a) == put && (put > 0 || calls < 2) &&
              (put == 50 || calls < 20));
        llm_added_tokens_free(&a);
    }
}
