/* @bpe_train */
#include "../test.h"

/* malloc and its like that fail once, after a number of calls */
static int bpe_train_calls = 1 << 30;
static void *bpe_train_calloc(size_t n, size_t size) {
    return n > 0 && bpe_train_calls-- != 0 ? calloc(n, size) : NULL; /* of nothing: it may be */
}
static void *bpe_train_realloc(void *p, size_t size) {
    return bpe_train_calls-- != 0 ? realloc(p, size) : NULL;
}
#define calloc bpe_train_calloc
#define realloc bpe_train_realloc

#include "../../llm.h"

static char *bpe_train_text(size_t *size, const char *name) {
    const float *values = golden_n(size, "text/%s", name);
    char *text = (char *)test_memory(*size, 1);
    for (size_t i = 0; i < *size; i++) text[i] = (char)(unsigned char)values[i];
    return text;
}

static void bpe_train_check(const llm_bpe *bpe, const char *name) {
    size_t n;
    const float *left = golden_n(&n, "%s/left", name), *right = golden("%s/right", name);
    CHECK(bpe->merges == n && bpe->token.count == 256 + n);
    for (size_t r = 0; r < n; r++)
        if (bpe->merge[r].left != (int)left[r] || bpe->merge[r].right != (int)right[r] ||
            bpe->merge[r].result != 256 + (int)r)
            test_fail(__FILE__, __LINE__, "%s, merge %zu is %d %d -> %d, want %g %g", name, r,
                      bpe->merge[r].left, bpe->merge[r].right, bpe->merge[r].result,
                      (double)left[r], (double)right[r]);
}

TEST(bpe_train, "merges are those of Hugging Face's BpeTrainer, in its order") {
    size_t prose_size, letters_size;
    const char *prose = bpe_train_text(&prose_size, "prose");
    const char *letters = bpe_train_text(&letters_size, "letters");
    llm_error error;
    llm_bpe bpe;
    CHECK(llm_bpe_train(&bpe, prose, prose_size, LLM_PRE_TOKENIZE_GPT2, 2000, &error));
    bpe_train_check(&bpe, "prose");
    llm_bpe_free(&bpe);
    CHECK(llm_bpe_train(&bpe, letters, letters_size, LLM_PRE_TOKENIZE_GPT2, 480, &error));
    bpe_train_check(&bpe, "letters");
    llm_bpe_free(&bpe);

    llm_bpe_train_words words = llm_bpe_train_words_empty();
    for (size_t part = 0; part < 2; part++)
        CHECK(llm_bpe_train_count(&words, prose, prose_size, LLM_PRE_TOKENIZE_GPT2));
    CHECK(llm_bpe_train_run(&bpe, &words, 400, 2, &error));
    bpe_train_check(&bpe, "twice");
    llm_bpe_free(&bpe);
    llm_bpe_train_words_free(&words);
}

TEST(bpe_train, "the example of Sennrich et al.: low lower newest widest") {
    static const char *const word[4] = {"low", "lower", "newest", "widest"};
    static const int times[4] = {5, 2, 6, 3};
    /* es 9, est 9, lo 7, low 7; then ew, n-ew and new-est 6, in the order of the letters' ids */
    static const char *const want[7] = {"es", "est", "lo", "low", "ew", "new", "newest"};
    llm_bpe_train_words words = llm_bpe_train_words_empty();
    for (size_t w = 0; w < 4; w++)
        for (int i = 0; i < times[w]; i++)
            CHECK(llm_bpe_train_count(&words, word[w], strlen(word[w]), LLM_PRE_TOKENIZE_GPT2));
    CHECK(words.word.count == 4);
    llm_bpe bpe;
    CHECK(llm_bpe_train_run(&bpe, &words, 263, 6, NULL));
    CHECK(bpe.merges == 7);
    for (size_t r = 0; r < 7; r++) {
        size_t size;
        const char *s = llm_vocab_table_bytes(&bpe.token, (size_t)bpe.merge[r].result, &size);
        CHECK(size == strlen(want[r]) && memcmp(s, want[r], size) == 0);
    }
    llm_bpe_free(&bpe);
    /* nothing occurs 10 times; a vocabulary of the bytes alone, or of fewer, needs no merge */
    for (size_t vocab = 0; vocab < 600; vocab += 256) {
        CHECK(llm_bpe_train_run(&bpe, &words, vocab, vocab < 300 ? 1 : 10, NULL));
        CHECK(bpe.merges == 0 && bpe.token.count == 256);
        llm_bpe_free(&bpe);
    }
    llm_bpe_train_words_free(&words);
    CHECK(words.word.count == 0 && words.count.size == 0);
}

/* The definition: counts every pair anew for every merge. Returns how many it made. */
static size_t bpe_train_naive(llm_bpe_merge *merge, size_t most, int **word, size_t *length,
                              const uint64_t *times, size_t words, uint64_t least) {
    size_t made = 0;
    for (; made < most; made++) {
        llm_bpe_merge best = {-1, -1, 256 + (int)made};
        uint64_t best_count = 0;
        for (size_t w = 0; w < words; w++)
            for (size_t i = 0; i + 1 < length[w]; i++) {
                const int a = word[w][i], b = word[w][i + 1];
                uint64_t count = 0;
                for (size_t v = 0; v < words; v++)
                    for (size_t k = 0; k + 1 < length[v]; k++)
                        if (word[v][k] == a && word[v][k + 1] == b) count += times[v];
                const bool smaller = a < best.left || (a == best.left && b < best.right);
                if (count > best_count || (count == best_count && smaller)) {
                    best_count = count;
                    best.left = a;
                    best.right = b;
                }
            }
        if (best_count < least || best_count == 0) break;
        merge[made] = best;
        for (size_t w = 0; w < words; w++) {
            size_t kept = 0;
            for (size_t i = 0; i < length[w]; i++, kept++) {
                const bool here =
                    i + 1 < length[w] && word[w][i] == best.left && word[w][i + 1] == best.right;
                word[w][kept] = here ? best.result : word[w][i];
                i += here;
            }
            length[w] = kept;
        }
    }
    return made;
}

TEST(bpe_train, "merges are those of counting all pairs anew for each merge") {
    llm_rng rng = llm_rng_seed(1);
    for (size_t turn = 0; turn < 150; turn++) {
        const size_t words = 1 + llm_rng_below(&rng, 12), letters = 1 + llm_rng_below(&rng, 4);
        const uint64_t least = llm_rng_below(&rng, 4);
        llm_bpe_train_words counted = llm_bpe_train_words_empty();
        llm_bpe bpe, bytes;
        CHECK(llm_bpe_create(&bytes));
        for (size_t w = 0; w < words; w++) {
            char text[24];
            const size_t size = 1 + llm_rng_below(&rng, 24);
            for (size_t i = 0; i < size; i++)
                text[i] = (char)('a' + (int)llm_rng_below(&rng, letters));
            for (size_t n = 1 + llm_rng_below(&rng, 3); n-- > 0;)
                CHECK(llm_bpe_train_count(&counted, text, size, LLM_PRE_TOKENIZE_GPT2));
        }
        int *word[12];
        size_t length[12];
        const size_t distinct = counted.word.count;
        for (size_t w = 0; w < distinct; w++) {
            const char *s = llm_vocab_table_bytes(&counted.word, w, &length[w]);
            word[w] = (int *)test_memory(length[w], sizeof(int));
            for (size_t i = 0; i < length[w]; i++) word[w][i] = bytes.byte_id[(unsigned char)s[i]];
        }
        llm_bpe_merge want[40];
        const size_t most = llm_rng_below(&rng, 41);
        const uint64_t *times = (const uint64_t *)(void *)counted.count.data;
        const size_t n = bpe_train_naive(want, most, word, length, times, distinct, least);
        CHECK(llm_bpe_train_run(&bpe, &counted, 256 + most, least, NULL));
        CHECK(bpe.merges == n);
        for (size_t r = 0; r < n; r++)
            CHECK(bpe.merge[r].left == want[r].left && bpe.merge[r].right == want[r].right &&
                  bpe.merge[r].result == want[r].result);
        llm_bpe_free(&bpe);
        llm_bpe_free(&bytes);
        llm_bpe_train_words_free(&counted);
    }
}

TEST(bpe_train, "counts are those of the pre-tokens, by the rule that is asked for") {
    const char *text = "a1b a1b\n12 12 ";
    static const char *const gpt2[7] = {"a", "1", "b", " a", "\n", "12", " 12"};
    static const uint64_t gpt2_times[8] = {1, 2, 2, 1, 1, 1, 1, 1};
    static const char *const qwen2[7] = {"a", "1", "b", " a", "\n", "2", " "};
    static const uint64_t qwen2_times[7] = {1, 4, 2, 1, 1, 2, 2};
    for (size_t k = 0; k < 2; k++) {
        llm_bpe_train_words words = llm_bpe_train_words_empty();
        CHECK(llm_bpe_train_count(&words, text, strlen(text),
                                  k == 0 ? LLM_PRE_TOKENIZE_GPT2 : LLM_PRE_TOKENIZE_QWEN2));
        CHECK(words.word.count == (k == 0 ? 8u : 7u));
        for (size_t w = 0; w < words.word.count; w++) {
            size_t size;
            const char *s = llm_vocab_table_bytes(&words.word, w, &size);
            const char *want = w == 7 ? " " : k == 0 ? gpt2[w] : qwen2[w];
            CHECK(size == strlen(want) && memcmp(s, want, size) == 0);
            CHECK(((uint64_t *)(void *)words.count.data)[w] ==
                  (k == 0 ? gpt2_times[w] : qwen2_times[w]));
        }
        llm_bpe_train_words_free(&words);
    }
}

TEST(bpe_train, "no text trains no merge; one long line trains in time") {
    llm_bpe bpe;
    CHECK(llm_bpe_train(&bpe, "", 0, LLM_PRE_TOKENIZE_GPT2, 300, NULL) && bpe.merges == 0);
    llm_bpe_free(&bpe);
    char *text = (char *)test_memory(1000000, 1);
    memset(text, 'a', 1000000);
    CHECK(llm_bpe_train(&bpe, text, 1000000, LLM_PRE_TOKENIZE_GPT2, 300, NULL));
    /* each merge doubles the letters, up to 3 of 2^18, whose pair occurs twice: then none does */
    CHECK(bpe.merges == 19);
    for (size_t r = 0; r < 19; r++) {
        size_t size;
        llm_vocab_table_bytes(&bpe.token, 256 + r, &size);
        CHECK(size == (size_t)2 << r);
    }
    llm_bpe_free(&bpe);
}

TEST(bpe_train, "when memory is out, it says so and nothing leaks") {
    size_t size, failed = 0;
    const char *text = bpe_train_text(&size, "letters");
    for (int calls = 0; calls < 200; calls++) {
        llm_bpe bpe;
        llm_error error;
        bpe_train_calls = calls;
        const bool ok = llm_bpe_train(&bpe, text, size, LLM_PRE_TOKENIZE_GPT2, 480, &error);
        bpe_train_calls = 1 << 30;
        if (ok) bpe_train_check(&bpe, "letters");
        if (ok) llm_bpe_free(&bpe);
        if (ok) continue;
        failed++;
        CHECK(strcmp(error.message, "BPE training: out of memory") == 0);
    }
    CHECK(failed > 60 && failed < 200);
}
