/* @unigram_train */
#include "../test.h"

/* malloc and its like that fail once, after a number of calls */
static int utrain_calls = 1 << 30;
static void *utrain_calloc(size_t n, size_t size) {
    return utrain_calls-- != 0 ? calloc(n, size) : NULL;
}
static void *utrain_realloc(void *p, size_t size) {
    return utrain_calls-- != 0 ? realloc(p, size) : NULL;
}
static void *utrain_malloc(size_t size) { return utrain_calls-- != 0 ? malloc(size) : NULL; }
#define calloc utrain_calloc
#define realloc utrain_realloc
#define malloc utrain_malloc

#include "../../llm.h"
#include "../tiny_pieces.h"

static char *utrain_bytes(const float *x, size_t n) {
    char *text = (char *)test_memory(n, 1);
    for (size_t i = 0; i < n; i++) text[i] = (char)(unsigned char)x[i];
    return text;
}

/* The words and the pieces of unigram_train.py; piece k has id k + 1. */
static llm_bpe_train_words utrain_words(void) {
    size_t n;
    llm_bpe_train_words words = llm_bpe_train_words_empty();
    const float *bytes = golden("word/bytes"), *size = golden_n(&n, "word/size");
    const float *count = golden("word/count");
    for (size_t w = 0; w < n; w++) {
        const char *text = utrain_bytes(bytes, (size_t)size[w]);
        for (int k = 0; k < (int)count[w]; k++)
            CHECK(llm_unigram_seed_count(&words, text, (size_t)size[w]));
        bytes += (size_t)size[w];
    }
    return words;
}
static llm_pieces utrain_pieces(size_t *n) {
    llm_pieces p = llm_pieces_empty();
    const float *bytes = golden("piece/bytes"), *size = golden_n(n, "piece/size");
    const float *score = golden("piece/score");
    CHECK(llm_pieces_put(&p, "<unk>", 5, 0.0, LLM_PIECES_UNKNOWN, NULL));
    for (size_t k = 0; k < *n; k++) {
        CHECK(llm_pieces_put(&p, utrain_bytes(bytes, (size_t)size[k]), (size_t)size[k],
                             (double)score[k], LLM_PIECES_NORMAL, NULL));
        bytes += (size_t)size[k];
    }
    CHECK(llm_pieces_ready(&p, NULL));
    return p;
}

TEST(unigram_train, "a step is the one over all segmentations written out, with SciPy's digamma") {
    llm_bpe_train_words words = utrain_words();
    for (int digamma = 0; digamma < 2; digamma++) {
        size_t n, kept, size;
        double likelihood;
        llm_error error;
        llm_pieces p = utrain_pieces(&n), old = utrain_pieces(&n);
        const float *want = golden_n(&kept, digamma ? "piece/psi" : "piece/log");
        const float *from = digamma ? golden("piece/kept") : NULL;
        CHECK(llm_unigram_train_step(&p, &likelihood, &words, digamma, &error));
        CHECK_NEAR(likelihood, golden("piece/likelihood")[0], 1e-5);
        CHECK(p.text.count == kept + 1 && p.unknown == 0 && (digamma ? kept < n : kept == n));
        for (size_t k = 0; k < kept; k++) {
            const char *text = llm_vocab_table_bytes(&p.text, k + 1, &size);
            const int id = llm_vocab_table_find(&old.text, text, size);
            CHECK(id == 1 + (from ? (int)from[k] : (int)k));
            CHECK_NEAR(llm_pieces_get(&p, k + 1).score, want[k], 1e-5);
        }
        llm_pieces_free(&old);
        llm_pieces_free(&p);
    }
    llm_bpe_train_words_free(&words);
}

TEST(unigram_train, "without the prior the likelihood never falls, and probabilities sum to 1") {
    llm_bpe_train_words words = utrain_words();
    size_t n;
    double last = -INFINITY, first = 0.0, likelihood;
    llm_pieces p = utrain_pieces(&n);
    for (size_t step = 0; step < 60; step++) {
        double sum = 0.0;
        CHECK(llm_unigram_train_step(&p, &likelihood, &words, false, NULL));
        CHECK(likelihood >= last - 1e-9);
        if (step == 0) first = likelihood;
        for (size_t id = 1; id <= n; id++) sum += exp(llm_pieces_get(&p, id).score);
        CHECK_NEAR(sum, 1.0, 1e-9);
        if (step == 59) CHECK_NEAR(likelihood, last, 1e-4);
        last = likelihood;
    }
    CHECK(last > first + 40.0); /* -199.3 to -153 */
    llm_pieces_free(&p);
    llm_bpe_train_words_free(&words);
}

TEST(unigram_train,
     "the loss is the one with all segmentations written out; prune drops the least") {
    llm_bpe_train_words words = utrain_words();
    size_t n;
    llm_pieces p = utrain_pieces(&n);
    const float *want = golden("piece/loss");
    double loss[64], count[64], F[64];
    int ids[64];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, llm_unigram_lattice_scratch(&p, 8, 2)));
    for (size_t i = 0; i < 64; i++) loss[i] = count[i] = F[i] = (double)NAN;
    llm_unigram_train_loss(loss, &p, &words, count, F, ids, &arena);
    for (size_t k = 0; k < n; k++) CHECK_NEAR(loss[k + 1], want[k], 1e-5);
    CHECK(isnan(loss[n + 1]) && isnan(count[n + 1]) && isnan(F[n + 1])); /* behind the pieces */
    for (size_t most = n; most > 0; most--) { /* one, two, ... pieces fewer; 8 characters stay */
        llm_pieces q = utrain_pieces(&n);
        CHECK(llm_unigram_train_prune(&q, &words, most, NULL));
        CHECK(q.text.count == (most > 9 ? most : 9));
        double gone = 0.0, left = INFINITY;
        for (size_t k = 0, size; k < n; k++) {
            const char *text = llm_vocab_table_bytes(&p.text, k + 1, &size);
            const int id = llm_vocab_table_find(&q.text, text, size);
            if (id < 0) gone = (double)want[k] > gone ? (double)want[k] : gone;
            if (id >= 0 && (double)want[k] < left) left = (double)want[k];
            if (id >= 0)
                CHECK(llm_pieces_get(&q, (size_t)id).score == llm_pieces_get(&p, k + 1).score);
            CHECK(size > 1 || id > 0);
        }
        CHECK(gone <= left);
        llm_pieces_free(&q);
    }
    llm_arena_destroy(&arena);
    llm_pieces_free(&p);
    llm_bpe_train_words_free(&words);
}

/* Pieces of the best segmentations of all words, and in *nats minus their log likelihood. */
static double utrain_tokens(const llm_pieces *p, const llm_bpe_train_words *words, double *nats) {
    const uint64_t *count = (const uint64_t *)(const void *)words->count.data;
    double tokens = 0.0;
    *nats = 0.0;
    for (size_t w = 0, size; w < words->word.count; w++) {
        const char *text = llm_vocab_table_bytes(&words->word, w, &size);
        int ids[64];
        double score;
        llm_arena arena;
        CHECK(size <= 64 && llm_arena_create(&arena, llm_unigram_scratch(p, size)));
        tokens += (double)count[w] *
                  (double)llm_unigram_encode(ids, NULL, &score, p, text, size, false, &arena);
        *nats -= (double)count[w] * score;
        llm_arena_destroy(&arena);
    }
    return tokens;
}

TEST(unigram_train,
     "as few pieces and as likely as SentencePiece's model of the same text and size") {
    size_t n, shared = 0;
    const float *bytes = golden_n(&n, "trained/text");
    const char *text = utrain_bytes(bytes, n);
    llm_pieces theirs = tiny_pieces_golden("trained"), own;
    llm_bpe_train_words words = llm_bpe_train_words_empty();
    llm_buffer spelt = {NULL, 0, 0};
    llm_error error;
    CHECK(llm_pieces_spell(&spelt, text, n, false));
    CHECK(llm_unigram_seed_count(&words, spelt.data, spelt.size));
    const size_t vocab = theirs.text.count - 2; /* without <s> and </s> */
    CHECK(llm_unigram_train(&own, &words, vocab, 10000, &error));
    double nats[2], mass = 0.0; /* with psi the probabilities sum to less than 1 */
    for (size_t id = 1; id < own.text.count; id++) mass += exp(llm_pieces_get(&own, id).score);
    CHECK(mass > 0.5 && mass < 0.99);
    const double tokens[2] = {utrain_tokens(&own, &words, &nats[0]),
                              utrain_tokens(&theirs, &words, &nats[1])};
    for (size_t id = 1, size; id < own.text.count; id++) {
        const char *piece = llm_vocab_table_bytes(&own.text, id, &size);
        shared += llm_vocab_table_find(&theirs.text, piece, size) >= 0;
    }
    /* seen: all 144 pieces, 135 shared, 313 pieces each, 1439 nats against 1402 */
    CHECK(own.text.count <= vocab && own.text.count + 10 > vocab);
    CHECK(shared > 115 && tokens[0] < 1.05 * tokens[1] && nats[0] < 1.06 * nats[1]);
    llm_pieces_free(&own);
    llm_pieces_free(&theirs);
    llm_buffer_free(&spelt);
    llm_bpe_train_words_free(&words);
}

TEST(unigram_train, "no words, one letter, a text that spells <unk>: characters always stay") {
    llm_bpe_train_words words = llm_bpe_train_words_empty();
    llm_pieces p;
    llm_error error;
    CHECK(llm_unigram_train(&p, &words, 10, 10, &error) && p.text.count == 1 && p.trie.cells > 0);
    llm_pieces_free(&p);
    CHECK(llm_unigram_seed_count(&words, "a", 1));
    CHECK(llm_unigram_train(&p, &words, 1, 10, &error) && p.text.count == 2);
    CHECK(isfinite(llm_pieces_get(&p, 1).score));
    llm_pieces_free(&p);
    for (size_t i = 0; i < 9; i++) CHECK(llm_unigram_seed_count(&words, "<unk><unk>", 10));
    CHECK(llm_unigram_train(&p, &words, 1, 1000, &error) && p.text.count == 1 + 6);
    CHECK(p.unknown == 0 && llm_vocab_table_find(&p.text, "<unk>", 5) == 0);
    llm_pieces_free(&p);
    CHECK(llm_unigram_train(&p, &words, 8, 1000, &error) && p.text.count == 8);
    CHECK(llm_vocab_table_find(&p.text, "<unk><unk>", 10) > 0); /* the best single piece */
    llm_pieces_free(&p);
    llm_bpe_train_words_free(&words);
}

TEST(unigram_train, "single characters stay; pieces longer than any word; one long word") {
    llm_bpe_train_words words = llm_bpe_train_words_empty();
    llm_pieces p = llm_pieces_empty();
    llm_error error;
    char text[64];
    memset(text, 'a', sizeof text);
    CHECK(llm_unigram_seed_count(&words, "ab", 2) && llm_unigram_seed_count(&words, "xy", 2));
    CHECK(llm_pieces_put(&p, "<unk>", 5, 0.0, LLM_PIECES_UNKNOWN, NULL));
    CHECK(llm_pieces_put(&p, "a", 1, -1.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "b", 1, -1.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "xyxy", 4, -1.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "ab", 2, -1.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, text, 64, -1.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_ready(&p, NULL));
    CHECK(llm_unigram_train_prune(&p, &words, 0, &error));
    CHECK(llm_vocab_table_find(&p.text, "a", 1) > 0 && llm_vocab_table_find(&p.text, "b", 1) > 0);
    CHECK(llm_vocab_table_find(&p.text, "ab", 2) < 0);
    llm_pieces_free(&p);
    llm_bpe_train_words_free(&words);
    words = llm_bpe_train_words_empty();
    for (size_t i = 0; i < 64; i++) text[i] = (char)('a' + (int)(i * i % 7));
    CHECK(llm_unigram_seed_count(&words, text, 64) && llm_unigram_seed_count(&words, "a", 1));
    CHECK(llm_unigram_train(&p, &words, 9, 100, &error) && p.text.count <= 9);
    llm_pieces_free(&p);
    llm_bpe_train_words_free(&words);
}

TEST(unigram_train, "when memory is out it says so, and nothing leaks") {
    llm_bpe_train_words words = utrain_words();
    llm_pieces p;
    llm_error error;
    CHECK(llm_unigram_train(&p, &words, 12, 100, &error));
    const size_t want = p.text.count;
    llm_pieces_free(&p);
    int calls = 0;
    for (bool ok = false; !ok; calls++) {
        utrain_calls = calls;
        ok = llm_unigram_train(&p, &words, 12, 100, &error);
        CHECK(ok == (utrain_calls >= 0)); /* whatever fails is told */
        utrain_calls = 1 << 30;
        if (!ok) CHECK(strstr(error.message, "out of memory") && p.text.count == 0);
        if (ok) CHECK(p.text.count == want);
        llm_pieces_free(&p);
    }
    CHECK(calls > 50);
    llm_bpe_train_words_free(&words);
}
