/* @safetensors_shards */
#include "../test.h"

/* realloc that fails once, after a number of calls */
static int ss_calls = 1 << 30;
static void *ss_realloc(void *p, size_t size) { return ss_calls-- != 0 ? realloc(p, size) : NULL; }
#define realloc ss_realloc

#include "../../llm.h"

static void ss_write(const char *name, const char *format, size_t i) {
    char key[32];
    size_t size;
    llm_error e;
    snprintf(key, sizeof key, format, i);
    const float *x = golden_n(&size, "%s", key);
    char *data = (char *)test_memory(size, 1);
    for (size_t k = 0; k < size; k++) data[k] = (char)(unsigned char)x[k];
    CHECK(llm_file_write(test_path(name), data, size, &e));
}

/* The directory that transformers saved, written again. */
static size_t ss_model(char (*name)[64]) {
    const size_t files = (size_t)golden("count/files")[0];
    for (size_t i = 0; i < files; i++) {
        size_t length;
        const float *x = golden_n(&length, "file%zu/name", i);
        for (size_t k = 0; k < length; k++) name[i][k] = (char)x[k];
        name[i][length] = 0;
        ss_write(name[i], "file%zu/data", i);
    }
    ss_write("model.safetensors.index.json", "index/text", 0);
    return files;
}

static const char *ss_dir(void) {
    static char dir[512];
    snprintf(dir, sizeof dir, "%s", test_path("x"));
    dir[strlen(dir) - 2] = 0;
    return dir;
}

TEST(safetensors_shards, "a model that transformers cut in pieces: every tensor is found") {
    char name[16][64];
    llm_safetensors_shards s;
    llm_error e;
    const size_t files = ss_model(name);
    CHECK(files > 2 && files < 16);
    CHECK(llm_safetensors_shards_open(&s, ss_dir(), &e) && s.count == files);
    size_t tensors = 0;
    for (size_t i = 0; i < s.count; i++) tensors += llm_safetensors_shards_at(&s, i)->tensors.count;
    CHECK(tensors == (size_t)golden("count/tensors")[0]);
    static const char *const some[3] = {"lm_head.weight", "model.norm.weight",
                                        "model.layers.0.mlp.down_proj.weight"};
    for (size_t i = 0; i < 3; i++) {
        float x[64];
        size_t n;
        const float *want = golden_n(&n, "value/%s", some[i]);
        const llm_safetensors_tensor *t = llm_safetensors_shards_find(&s, some[i]);
        CHECK(t && llm_safetensors_floats(x, t, n, &e));
        CHECK_ALL_NEAR(x, want, n, 0.0f);
    }
    CHECK(!llm_safetensors_shards_find(&s, "lm_head"));
    llm_safetensors_shards_close(&s);
    CHECK(s.count == 0 && !s.shard.data && !s.index.node);

    char path[600]; /* a piece that is missing */
    snprintf(path, sizeof path, "%s/%s", ss_dir(), name[1]);
    CHECK(remove(path) == 0);
    CHECK_FAILS(llm_safetensors_shards_open(&s, ss_dir(), &e), e, name[1]);
    for (int calls = 0; calls < 20; calls++) { /* memory that runs out leaves nothing behind */
        ss_calls = calls;
        CHECK(!llm_safetensors_shards_open(&s, ss_dir(), &e));
        ss_calls = 1 << 30;
    }
}

TEST(safetensors_shards, "one file without an index is the model; without either there is none") {
    llm_safetensors_shards s;
    llm_error e;
    const float x[2] = {1.5f, -2.0f};
    llm_safetensors_tensor t;
    memset(&t, 0, sizeof t);
    t.name = "w", t.dtype = LLM_SAFETENSORS_F32, t.rank = 1, t.shape[0] = 2;
    t.data = (const unsigned char *)x;
    CHECK_FAILS(llm_safetensors_shards_open(&s, ss_dir(), &e), e, "model.safetensors: cannot be");
    CHECK(llm_safetensors_write(test_path("model.safetensors"), &t, 1, NULL, &e));
    CHECK(llm_safetensors_shards_open(&s, ss_dir(), &e) && s.count == 1);
    float y[2];
    CHECK(llm_safetensors_floats(y, llm_safetensors_shards_find(&s, "w"), 2, &e));
    CHECK(y[0] == 1.5f && y[1] == -2.0f);
    llm_safetensors_shards_close(&s);
}

TEST(safetensors_shards, "an index that is wrong about its files is refused in a sentence") {
    static const struct {
        const char *index, *says; /* files a (tensors u, v) and b (w) lie there */
    } all[] = {
        {"{\"weight_map\":{\"u\":\"a\",\"v\":\"a\",\"w\":\"b\"}}", NULL},
        {"{\"weight_map\":{\"w\":\"b\",\"v\":\"a\",\"u\":\"a\"},\"metadata\":{}}", NULL},
        {"{\"weight_map\":{\"u\":\"a\",\"v\":\"a\"}}", NULL}, /* b is not named: not opened */
        {"{\"weight_map\":{\"u\":\"a\",\"w\":\"b\"}}", "the files hold 3 tensors, the index 2"},
        {"{\"weight_map\":{\"u\":\"a\",\"v\":\"b\",\"w\":\"b\"}}", "b holds no tensor v"},
        {"{\"weight_map\":{\"u\":\"a\",\"v\":\"a\",\"x\":\"b\"}}", "b holds no tensor x"},
        {"{\"weight_map\":{\"u\":\"../a\"}}", "no plain name"},
        {"{\"weight_map\":{\"u\":\"/etc/hostname\"}}", "no plain name"},
        {"{\"weight_map\":{\"u\":\"d/a\"}}", "no plain name"},
        {"{\"weight_map\":{\"u\":\"d\\\\a\"}}", "no plain name"},
        {"{\"weight_map\":{\"u\":\"c:a\"}}", "no plain name"},
        {"{\"weight_map\":{\"u\":\".a\"}}", "no plain name"},
        {"{\"weight_map\":{\"u\":\"\"}}", "no plain name"},
        {"{\"weight_map\":{\"u\":\"a\\u0000b\"}}", "no plain name"},
        {"{\"weight_map\":{\"u\":1}}", "no plain name"},
        {"{\"weight_map\":{}}", "no weight_map"},
        {"{\"weight_map\":[]}", "no weight_map"},
        {"{\"weight_map\":[\"a\"]}", "no weight_map"},
        {"{}", "no weight_map"},
        {"{", "JSON"},
        {"{\"weight_map\":{\"u\":\"c\"}}", "/c: cannot be opened"}};
    const float x = 1.0f;
    llm_safetensors_tensor t[3];
    llm_safetensors_shards s;
    llm_error e;
    memset(t, 0, sizeof t);
    for (size_t i = 0; i < 3; i++) {
        t[i].name = i == 0 ? "u" : i == 1 ? "v" : "w";
        t[i].dtype = LLM_SAFETENSORS_F32;
        t[i].data = (const unsigned char *)&x;
    }
    CHECK(llm_safetensors_write(test_path("a"), t, 2, NULL, &e));
    CHECK(llm_safetensors_write(test_path("b"), t + 2, 1, NULL, &e));
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        CHECK(llm_file_write(test_path("model.safetensors.index.json"), all[i].index,
                             strlen(all[i].index), &e));
        if (all[i].says) {
            CHECK_FAILS(llm_safetensors_shards_open(&s, ss_dir(), &e), e, all[i].says);
            CHECK(s.count == 0 && !s.shard.data);
        } else {
            CHECK(llm_safetensors_shards_open(&s, ss_dir(), &e) && s.count == (i == 2 ? 1 : 2));
            CHECK(llm_safetensors_shards_find(&s, "v"));
            llm_safetensors_shards_close(&s);
        }
    }
}
