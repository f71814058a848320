/* @gpt2_file */
#include "../test.h"

#include <stdint.h>

/* memory that runs out after a number of calls */
static size_t calls = SIZE_MAX;
static void *file_malloc(size_t n) { return calls-- > 0 ? malloc(n) : NULL; }
static void *file_calloc(size_t n, size_t size) { return calls-- > 0 ? calloc(n, size) : NULL; }
static void *file_realloc(void *p, size_t n) { return calls-- > 0 ? realloc(p, n) : NULL; }
#define malloc file_malloc
#define calloc file_calloc
#define realloc file_realloc
#include "../../llm.h"
#undef malloc
#undef calloc
#undef realloc

enum { V = 5, T = 4 };

static unsigned char *golden_bytes(size_t *n, const char *name) {
    const float *x = golden_n(n, "file/%s", name);
    unsigned char *bytes = (unsigned char *)test_memory(*n + 1, 1);
    for (size_t i = 0; i < *n; i++) bytes[i] = (unsigned char)x[i];
    return bytes;
}

/* A directory with the golden config.json, `from` replaced by `to`, and the first size bytes of the
 * golden weights. */
static const char *directory(const char *name, const char *from, const char *to, size_t size) {
    size_t n;
    llm_error e;
    const char *dir = test_path(name);
    mkdir(dir, 0700);
    char path[600], text[4096];
    const char *config = (const char *)golden_bytes(&n, "config.json"), *at = strstr(config, from);
    CHECK(at != NULL);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - config), config, to, at + strlen(from));
    snprintf(path, sizeof path, "%s/config.json", dir);
    CHECK(llm_file_write(path, text, strlen(text), &e));
    const unsigned char *weights = golden_bytes(&n, "model.safetensors");
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    CHECK(llm_file_write(path, weights, size < n ? size : n, &e));
    return dir;
}

TEST(gpt2_file, "a directory written by transformers loads with its logits, loss and gradients") {
    llm_gpt2 g;
    llm_error e;
    CHECK(llm_gpt2_load(&g, directory("in", "", "", SIZE_MAX), 2, T, &e));
    const int *ids = as_ints(golden("tiny/ids"), 2 * T);
    const int *targets = as_ints(golden("tiny/targets"), 2 * T);
    const float loss = llm_gpt2_forward(&g, ids, targets, 2, T);
    CHECK_GOLDEN(g.logits, 2 * T * V, 2e-6f, "tiny/logits");
    CHECK_GOLDEN(&loss, 1, 1e-6f, "tiny/loss");
    llm_gpt2_backward(&g);
    CHECK_GOLDEN(g.grads.wte, V * 4, 2e-6f, "tiny/dwte");
    CHECK_GOLDEN(g.grads.block[1].ffn.up, 6 * 4, 2e-6f, "tiny/dup");
    llm_gpt2_destroy(&g);
}

TEST(gpt2_file, "what is saved is the file that transformers writes, byte for byte") {
    llm_gpt2 g;
    llm_error e;
    size_t n;
    CHECK(llm_gpt2_load(&g, directory("in", "", "", SIZE_MAX), 0, 0, &e));
    mkdir(test_path("out"), 0700);
    CHECK(llm_gpt2_save(&g, test_path("out"), &e));
    const unsigned char *want = golden_bytes(&n, "model.safetensors");
    llm_file got;
    CHECK(llm_file_read(&got, test_path("out/model.safetensors"), &e));
    CHECK(got.size == n && memcmp(got.data, want, n) == 0);
    llm_file_free(&got);

    llm_gpt2 again;
    CHECK(llm_gpt2_load(&again, test_path("out"), 0, 0, &e));
    CHECK(again.count == g.count && memcmp(again.w, g.w, g.count * sizeof(float)) == 0);
    CHECK(again.config.eps == g.config.eps && again.config.heads == 2 && again.config.hidden == 6);
    llm_gpt2_destroy(&again);
    llm_gpt2_destroy(&g);
}

/* Writes the golden tensors again, changed: without the prefix, with one more tensor. */
static const char *rewritten(const char *name, bool prefix, llm_safetensors_tensor *more) {
    static llm_safetensors_tensor out[64];
    llm_safetensors s;
    llm_error e;
    char path[600];
    const char *dir = directory(name, "", "", SIZE_MAX);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    CHECK(llm_safetensors_open(&s, path, &e));
    for (size_t i = 0; i < s.count; i++) {
        out[i] = s.tensor[i];
        if (!prefix) out[i].name += strlen("transformer.");
    }
    size_t count = s.count;
    if (more) out[count++] = *more;
    if (more && !more->data)
        out[count - 1].data = llm_safetensors_find(&s, "transformer.wte.weight")->data;
    CHECK(llm_safetensors_write(path, out, count, NULL, &e));
    llm_safetensors_close(&s);
    return dir;
}

static llm_safetensors_tensor tensor(const char *name, size_t rows, size_t columns,
                                     const float *data) {
    llm_safetensors_tensor t;
    memset(&t, 0, sizeof t);
    t.name = name;
    t.dtype = LLM_SAFETENSORS_F32;
    t.rank = 2;
    t.shape[0] = rows, t.shape[1] = columns;
    t.data = (const unsigned char *)data;
    return t;
}

TEST(gpt2_file,
     "the first release's names, its masks and a second copy of the embedding are read") {
    llm_gpt2 g, h;
    llm_error e;
    const float mask[16] = {0};
    llm_safetensors_tensor m = tensor("h.0.attn.bias", T, T, mask);
    llm_safetensors_tensor head = tensor("lm_head.weight", V, 4, NULL);
    CHECK(llm_gpt2_load(&g, directory("in", "", "", SIZE_MAX), 0, 0, &e));
    CHECK(llm_gpt2_load(&h, rewritten("first", false, &m), 0, 0, &e));
    CHECK(memcmp(h.w, g.w, g.count * sizeof(float)) == 0);
    llm_gpt2_destroy(&h);
    CHECK(llm_gpt2_load(&h, rewritten("head", true, &head), 0, 0, &e));
    CHECK(memcmp(h.w, g.w, g.count * sizeof(float)) == 0);
    llm_gpt2_destroy(&h);
    llm_gpt2_destroy(&g);
}

TEST(gpt2_file, "weights that do not belong to config.json are refused, and the tensor is named") {
    llm_gpt2 g;
    llm_error e;
    size_t n;
    golden_bytes(&n, "model.safetensors");
    CHECK_FAILS(llm_gpt2_load(&g, test_path("nowhere"), 0, 0, &e), e, "nowhere/config.json");
    const char *dir = directory("a", "", "", SIZE_MAX);
    CHECK(remove(test_path("a/model.safetensors")) == 0);
    CHECK_FAILS(llm_gpt2_load(&g, dir, 0, 0, &e), e, "model.safetensors");
    for (size_t size = 0; size < n; size += size < 16 ? 1 : 97)
        CHECK_FAILS(llm_gpt2_load(&g, directory("b", "", "", size), 0, 0, &e), e, "");
    CHECK_FAILS(llm_gpt2_load(&g, directory("c", "\"n_layer\": 2", "\"n_layer\": 3", n), 0, 0, &e),
                e, "no tensor transformer.h.2.ln_1.weight");
    CHECK_FAILS(llm_gpt2_load(&g, directory("c", "\"n_layer\": 2", "\"n_layer\": 1", n), 0, 0, &e),
                e, "12 tensors more than config.json's 1 layers");
    CHECK_FAILS(
        llm_gpt2_load(&g, directory("c", "\"vocab_size\": 5", "\"vocab_size\": 6", n), 0, 0, &e), e,
        "transformer.wte.weight is (5, 4), config.json says (6, 4)");
    CHECK_FAILS(
        llm_gpt2_load(&g, directory("c", "\"n_positions\": 4", "\"n_positions\": 8", n), 0, 0, &e),
        e, "transformer.wpe.weight is (4, 4), config.json says (8, 4)");
    CHECK_FAILS(
        llm_gpt2_load(&g, directory("c", "\"n_inner\": 6", "\"n_inner\": null", n), 0, 0, &e), e,
        "mlp.c_fc.weight is (4, 6), config.json says (4, 16)");

    float other[V * 4] = {0};
    llm_safetensors_tensor t = tensor("lm_head.weight", V, 4, other);
    CHECK_FAILS(llm_gpt2_load(&g, rewritten("d", true, &t), 0, 0, &e), e,
                "lm_head.weight is not the embedding");
    t = tensor("wpe.weight", T, 4, other); /* without a prefix, but not the one that decides */
    CHECK_FAILS(llm_gpt2_load(&g, rewritten("d", true, &t), 0, 0, &e), e, "1 tensors more");
    t = tensor("transformer.h.0.adapter", V, 4, other);
    CHECK_FAILS(llm_gpt2_load(&g, rewritten("d", true, &t), 0, 0, &e), e, "1 tensors more");
}

TEST(gpt2_file,
     "a tensor of integers, one number or three axes are refused; half precision is read") {
    llm_gpt2 g, h;
    llm_error e;
    llm_safetensors s;
    static llm_safetensors_tensor out[64];
    unsigned char half[2 * 20];
    const char *dir = directory("in", "", "", SIZE_MAX);
    CHECK(llm_gpt2_load(&g, dir, 0, 0, &e));
    CHECK(llm_safetensors_open(&s, test_path("in/model.safetensors"), &e));
    const char *const refused[5] = {
        "transformer.wte.weight", NULL, "is (0, 0), config.json says (5, 4)",
        "is (20, 0), config.json says (5, 4)", "transformer.wte.weight is"};
    for (size_t kind = 0; kind < 5; kind++) {
        size_t wte = 0;
        for (size_t i = 0; i < s.count; i++) {
            out[i] = s.tensor[i];
            if (strcmp(out[i].name, "transformer.wte.weight") == 0) wte = i;
        }
        for (size_t i = 0; i < 20; i++) memcpy(half + 2 * i, out[wte].data + 4 * i + 2, 2);
        if (kind == 1) out[wte].data = half; /* the upper halves: bf16 */
        if (kind < 2) out[wte].dtype = kind == 1 ? LLM_SAFETENSORS_BF16 : LLM_SAFETENSORS_I32;
        if (kind > 1) out[wte].rank = kind == 4 ? 3 : kind - 2;
        if (kind == 3) out[wte].shape[0] = 20;
        if (kind == 4) out[wte].shape[2] = 1;
        directory("kind", "", "", 0);
        CHECK(llm_safetensors_write(test_path("kind/model.safetensors"), out, s.count, NULL, &e));
        if (refused[kind]) {
            CHECK_FAILS(llm_gpt2_load(&h, test_path("kind"), 0, 0, &e), e, refused[kind]);
        } else {
            CHECK(llm_gpt2_load(&h, test_path("kind"), 0, 0, &e));
            CHECK_ALL_CLOSE(h.w, g.w, g.count, 1.0f / 128); /* 8 bits of mantissa */
            llm_gpt2_destroy(&h);
        }
    }
    llm_safetensors_close(&s);
    llm_gpt2_destroy(&g);
}

TEST(gpt2_file, "a directory that cannot be written is said so, and nothing is left behind") {
    llm_gpt2 g;
    llm_error e;
    CHECK(llm_gpt2_load(&g, directory("in", "", "", SIZE_MAX), 0, 0, &e));
    CHECK_FAILS(llm_gpt2_save(&g, test_path("absent"), &e), e, "absent/model.safetensors");
    llm_gpt2_destroy(&g);
}

TEST(gpt2_file, "memory that runs out at any call is said so, and nothing leaks") {
    llm_gpt2 g;
    llm_error e;
    const char *dir = directory("in", "", "", SIZE_MAX);
    for (size_t save = 0; save < 2; save++) {
        size_t limit = 0;
        for (bool ok = false; !ok; limit++) {
            memset(&e, 0, sizeof e);
            calls = limit;
            ok = save ? llm_gpt2_save(&g, dir, &e) : llm_gpt2_load(&g, dir, 2, T, &e);
            calls = SIZE_MAX;
            if (!ok && !strstr(e.message, "memory"))
                test_fail(__FILE__, __LINE__, "call %zu: %s", limit, e.message);
        }
        CHECK(limit > 5); /* the tensors, the weights, one matrix, ... */
    }
    llm_gpt2_destroy(&g);
}

TEST(gpt2_file, "matrices of the MLP may be larger than those of attention, by a little or much") {
    for (size_t hidden = 11; hidden <= 17; hidden++) {
        llm_gpt2_config c = llm_gpt2_defaults();
        llm_gpt2 g, h;
        llm_error e;
        llm_rng rng = llm_rng_seed(hidden);
        c.vocab = V, c.context = T, c.layers = 1, c.heads = 2, c.width = 4, c.hidden = hidden;
        CHECK(llm_gpt2_create(&g, &c, 0, 0, &e));
        llm_rng_normal_fill(&rng, g.w, g.count);
        mkdir(test_path("wide"), 0700);
        CHECK(llm_gpt2_save(&g, test_path("wide"), &e));
        CHECK(llm_gpt2_load(&h, test_path("wide"), 0, 0, &e) && h.config.hidden == hidden);
        CHECK(h.count == g.count && memcmp(h.w, g.w, g.count * sizeof(float)) == 0);
        llm_gpt2_destroy(&g);
        llm_gpt2_destroy(&h);
    }
}

TEST(gpt2_file, "a path may be relative") {
    llm_gpt2 g, h;
    llm_error e;
    directory("in", "", "", SIZE_MAX);
    mkdir(test_path("out"), 0700);
    CHECK(chdir(test_path("")) == 0);
    CHECK(llm_gpt2_load(&g, "in", 0, 0, &e));
    CHECK(llm_gpt2_save(&g, "out", &e));
    CHECK(llm_gpt2_load(&h, "out", 0, 0, &e));
    CHECK(memcmp(h.w, g.w, g.count * sizeof(float)) == 0);
    llm_gpt2_destroy(&h);
    llm_gpt2_destroy(&g);
}

TEST(gpt2_file, "the tensors of a configuration have a shape without a model, and no weights") {
    llm_gpt2_config c = llm_gpt2_defaults();
    size_t sum = 0;
    for (size_t i = 0; i < 4 + 12 * c.layers; i++) {
        llm_gpt2_file_tensor t;
        memset(&t, 255, sizeof t);
        llm_gpt2_file_entry(&t, &c, NULL, i);
        CHECK(t.weights == NULL && t.rows > 0 && t.conv1d == (i >= 4 && t.columns > 0));
        sum += t.rows * (t.columns ? t.columns : 1);
    }
    CHECK(sum == 124439808); /* the published size */
    c.layers = 4096;         /* the most that config.json may say: every name fits */
    for (size_t i = 0; i < 4 + 12 * c.layers; i++) {
        llm_gpt2_file_tensor t;
        llm_gpt2_file_entry(&t, &c, NULL, i);
        CHECK(strcmp(t.name + strlen(t.name) - 4, "bias") == 0 ||
              strcmp(t.name + strlen(t.name) - 6, "weight") == 0);
    }
}
