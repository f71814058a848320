/* @open_weights */
#include "../test.h"

/* realloc that fails once, after a number of calls */
static int ow_calls = 1 << 30;
static void *ow_realloc(void *p, size_t size) { return ow_calls-- != 0 ? realloc(p, size) : NULL; }
#define realloc ow_realloc

#include "../../llm.h"

#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"   /* of "abc" */
#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" /* of "" */

static const char *ow_dir(const char *name) {
    static char dir[2][512];
    static int turn;
    turn = !turn;
    snprintf(dir[turn], sizeof dir[turn], "%s", test_path(name));
    mkdir(dir[turn], 0700);
    return dir[turn];
}

static void ow_tensor(llm_safetensors_tensor *t, const char *name, llm_safetensors_dtype dtype,
                      size_t rows, size_t columns, const void *data) {
    memset(t, 0, sizeof *t);
    t->name = name, t->dtype = dtype;
    t->rank = 2, t->shape[0] = rows, t->shape[1] = columns;
    t->data = (const unsigned char *)data;
}

TEST(open_weights, "a list of fingerprints, right and wrong") {
    static const struct {
        const char *list, *says;
    } all[] = {
        {ABC "  model\n" EMPTY "  config\n", NULL},
        {ABC " *model\n\n" EMPTY "  config", NULL},
        {ABC "  m", NULL},
        {"", NULL},
        {"\n\n", NULL},
        {EMPTY "  model\n", "model: found SHA-256 " ABC ", expected " EMPTY},
        {ABC "  model\n" ABC "  config\n", "config: found SHA-256 " EMPTY},
        {ABC "  missing\n", "missing: cannot be opened"},
        {"\n" ABC " model\n", "line 2: expected 64 digits"},
        {ABC "  ", "line 1: expected"},
        {ABC, "line 1: expected"},
        {ABC "  ../model", "line 1: expected"},
        {ABC "  .model", "line 1: expected"},
        {ABC "  /model", "line 1: expected"},
        {ABC "  a/model", "line 1: expected"},
        {ABC "  a\\model", "line 1: expected"},
        {ABC "  a:model", "line 1: expected"},
        {ABC "xx model", "line 1: expected"},
        {ABC "- model", "line 1: expected"},
        {ABC " -model", "line 1: expected"},
        {"Ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  model", "line 1"},
        {"BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  model", "line 1"},
        {"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ag  model", "line 1"}};
    llm_error e;
    CHECK(llm_file_write(test_path("model"), "abc", 3, &e));
    CHECK(llm_file_write(test_path("m"), "abc", 3, &e));
    CHECK(llm_file_write(test_path("config"), "", 0, &e));
    char dir[512];
    snprintf(dir, sizeof dir, "%s", test_path(""));
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const bool ok = llm_open_weights_verify(dir, all[i].list, strlen(all[i].list), &e);
        CHECK(ok == !all[i].says && (ok || strstr(e.message, all[i].says)));
    }
    char zero[] = ABC "  mo_el";
    zero[68] = 0;
    CHECK_FAILS(llm_open_weights_verify(dir, zero, sizeof zero - 1, &e), e, "line 1: expected");
    zero[68] = 'd', zero[3] = 0;
    CHECK_FAILS(llm_open_weights_verify(dir, zero, sizeof zero - 1, &e), e, "line 1: expected");
    char longest[400];
    memset(longest, 'x', sizeof longest);
    memcpy(longest, ABC "  ", 66);
    CHECK_FAILS(llm_open_weights_verify(dir, longest, 66 + 256, &e), e, "line 1");
    CHECK(!llm_open_weights_verify(dir, longest, 66 + 255, &e) && !strstr(e.message, "line 1"));
    ow_calls = 0;
    CHECK_FAILS(llm_open_weights_verify(dir, ABC "  model", 71, &e), e, "out of memory");
    ow_calls = 1 << 30;
}

TEST(open_weights, "a tensor against another: same, moved so far, reshaped") {
    enum { N = 700 }; /* several pieces of 256 */
    float a[N], b[N];
    uint16_t half[2] = {0x3c00, 0xc000}; /* 1, -2 */
    double apart = 0.0, length = 0.0;
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, a, N);
    for (size_t i = 0; i < N; i++) {
        b[i] = a[i] + 0.01f * llm_rng_normal(&rng);
        apart += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        length += (double)a[i] * (double)a[i];
    }
    llm_safetensors_tensor x, y;
    ow_tensor(&x, "x", LLM_SAFETENSORS_F32, 7, 100, a), x.size = sizeof a;
    ow_tensor(&y, "y", LLM_SAFETENSORS_F32, 7, 100, b), y.size = sizeof b;
    llm_open_weights_entry entry = llm_open_weights_compare(&x, &y);
    CHECK(entry.change == LLM_OPEN_WEIGHTS_MOVED && strcmp(entry.name, "x") == 0);
    CHECK_NEAR(entry.distance, sqrt(apart / length), 1e-12);
    memcpy(b, a, sizeof a);
    CHECK(llm_open_weights_compare(&x, &y).change == LLM_OPEN_WEIGHTS_SAME);
    b[N - 1] += 1.0f; /* the last one counts */
    entry = llm_open_weights_compare(&x, &y);
    CHECK(entry.change == LLM_OPEN_WEIGHTS_MOVED);
    CHECK_NEAR(entry.distance, fabs((double)b[N - 1] - (double)a[N - 1]) / sqrt(length), 1e-12);
    y.shape[0] = 100, y.shape[1] = 7;
    entry = llm_open_weights_compare(&x, &y);
    CHECK(entry.change == LLM_OPEN_WEIGHTS_RESHAPED && entry.distance == 0.0);
    y.shape[0] = 7, y.shape[1] = 100, y.shape[2] = 1, y.rank = 3;
    CHECK(llm_open_weights_compare(&x, &y).change == LLM_OPEN_WEIGHTS_RESHAPED);

    /* half precision beside single: equal numbers are a distance of 0; from zero it is infinite */
    float two[2] = {1.0f, -2.0f}, none[2] = {0, 0};
    ow_tensor(&x, "x", LLM_SAFETENSORS_F16, 1, 2, half), x.size = 4;
    ow_tensor(&y, "y", LLM_SAFETENSORS_F32, 1, 2, two), y.size = 8;
    entry = llm_open_weights_compare(&x, &y);
    CHECK(entry.change == LLM_OPEN_WEIGHTS_MOVED && entry.distance == 0.0);
    two[1] = -1.0f;
    CHECK_NEAR(llm_open_weights_compare(&x, &y).distance, 1.0 / sqrt(5.0), 1e-12);
    CHECK_NEAR(llm_open_weights_compare(&y, &x).distance, 1.0 / sqrt(2.0), 1e-12);
    y.data = (const unsigned char *)none;
    CHECK(llm_open_weights_compare(&x, &y).distance == 1.0);
    CHECK(llm_open_weights_compare(&y, &x).distance == (double)INFINITY);
    none[0] = NAN;
    CHECK(isnan(llm_open_weights_compare(&x, &y).distance));

    /* integers are the same or not; a tensor without entries is the same */
    const unsigned char one[4] = {1, 2, 3, 4}, other[4] = {1, 2, 3, 5};
    ow_tensor(&x, "x", LLM_SAFETENSORS_U8, 2, 2, one), x.size = 4;
    ow_tensor(&y, "y", LLM_SAFETENSORS_U8, 2, 2, other), y.size = 4;
    CHECK(llm_open_weights_compare(&x, &y).change == LLM_OPEN_WEIGHTS_RESHAPED);
    CHECK(llm_open_weights_compare(&x, &x).change == LLM_OPEN_WEIGHTS_SAME);
    ow_tensor(&y, "y", LLM_SAFETENSORS_I8, 2, 2, one), y.size = 4;
    CHECK(llm_open_weights_compare(&x, &y).change == LLM_OPEN_WEIGHTS_RESHAPED);
    ow_tensor(&x, "x", LLM_SAFETENSORS_F32, 0, 2, NULL);
    CHECK(llm_open_weights_compare(&x, &x).change == LLM_OPEN_WEIGHTS_SAME);
}

TEST(open_weights, "two releases side by side: kept, moved, gone, new") {
    const float one[4] = {1, 2, 3, 4}, two[4] = {1, 2, 3, 5};
    llm_safetensors_tensor a[4], b[4];
    llm_safetensors_shards x, y;
    llm_error e;
    char path[600];
    ow_tensor(&a[0], "kept", LLM_SAFETENSORS_F32, 2, 2, one);
    ow_tensor(&a[1], "moved", LLM_SAFETENSORS_F32, 2, 2, one);
    ow_tensor(&a[2], "gone", LLM_SAFETENSORS_F32, 2, 2, one);
    ow_tensor(&a[3], "turned", LLM_SAFETENSORS_F32, 1, 4, one);
    memcpy(b, a, sizeof a);
    b[1].data = (const unsigned char *)two;
    b[2].name = "new";
    b[3].shape[0] = 4, b[3].shape[1] = 1;
    const char *old = ow_dir("old"), *newer = ow_dir("newer");
    snprintf(path, sizeof path, "%s/model.safetensors", old);
    CHECK(llm_safetensors_write(path, a, 4, NULL, &e));
    snprintf(path, sizeof path, "%s/model.safetensors", newer);
    CHECK(llm_safetensors_write(path, b, 4, NULL, &e));
    CHECK(llm_safetensors_shards_open(&x, old, &e) && llm_safetensors_shards_open(&y, newer, &e));
    llm_buffer out = {NULL, 0, 0};
    CHECK(llm_open_weights_diff(&out, &x, &y));
    const llm_open_weights_entry *entry = (const llm_open_weights_entry *)(const void *)out.data;
    static const struct {
        const char *name;
        llm_open_weights_change change;
    } want[5] = {{"gone", LLM_OPEN_WEIGHTS_REMOVED},
                 {"kept", LLM_OPEN_WEIGHTS_SAME},
                 {"moved", LLM_OPEN_WEIGHTS_MOVED},
                 {"turned", LLM_OPEN_WEIGHTS_RESHAPED},
                 {"new", LLM_OPEN_WEIGHTS_ADDED}};
    CHECK(out.size == 5 * sizeof *entry);
    for (size_t i = 0; i < 5; i++) {
        CHECK(strcmp(entry[i].name, want[i].name) == 0 && entry[i].change == want[i].change);
        CHECK(entry[i].distance == (i == 2 ? sqrt(1.0 / 30.0) : 0.0));
    }
    llm_buffer_free(&out);
    ow_calls = 0;
    CHECK(!llm_open_weights_diff(&out, &x, &y));
    ow_calls = 1 << 30;
    llm_buffer_free(&out);
    llm_safetensors_shards_close(&x);
    llm_safetensors_shards_close(&y);
}
