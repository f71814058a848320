/* @gpt2_run */
#include "../test.h"

/* realloc that runs out after a number of calls, malloc that has no terabyte */
static int run_calls = 1 << 30;
static void *run_realloc(void *p, size_t size) { return run_calls-- > 0 ? realloc(p, size) : NULL; }
static void *run_malloc(size_t size) { return size >> 40 ? NULL : malloc(size); }
#define realloc run_realloc
#define malloc run_malloc

#include "../../llm.h"

static llm_gpt2_config tiny(void) {
    llm_gpt2_config c = llm_gpt2_defaults();
    c.vocab = 5, c.context = 4, c.layers = 1, c.heads = 2, c.width = 4, c.hidden = 6;
    return c;
}

static void put_ids(llm_buffer *b, const int *ids, size_t n) {
    CHECK(llm_buffer_put(b, ids, n * sizeof *ids));
}

TEST(gpt2_run, "losses and gradient norms of 40 steps follow a PyTorch training") {
    const llm_gpt2_config c = tiny();
    llm_gpt2_run r;
    llm_error e;
    float loss[40], norm[40];
    CHECK(llm_gpt2_run_create(&r, &c, 2, 40, 0.05, 1, &e));
    put_ids(&r.train, as_ints(golden("in/text"), 5), 5);
    memcpy(r.model.w, golden("in/weights"), r.model.count * sizeof(float));
    for (size_t t = 0; t < 40; t++) CHECK(llm_gpt2_run_step(&r, &loss[t], &norm[t], &e));
    /* rounding in float, carried through 40 steps of a rate of 0.05 */
    CHECK_GOLDEN(loss, 40, 2e-4f, "run/losses");
    CHECK_GOLDEN(norm, 40, 2e-3f, "run/norms");
    CHECK(r.loss.size == sizeof loss && memcmp(r.loss.data, loss, sizeof loss) == 0);
    llm_gpt2_run_free(&r);
}

TEST(gpt2_run, "the seed says where a training begins, and how it goes on") {
    const llm_gpt2_config c = tiny();
    float loss[3][8];
    for (size_t i = 0; i < 3; i++) {
        llm_gpt2_run r;
        llm_gpt2 g;
        llm_error e;
        llm_rng rng = llm_rng_seed(i / 2 + 6);
        const int text[9] = {0, 1, 2, 3, 4, 0, 2, 4, 1};
        CHECK(llm_gpt2_create(&g, &c, 0, 0, &e));
        CHECK(llm_gpt2_run_create(&r, &c, 1, 8, 0.05, i / 2 + 6, &e));
        llm_gpt2_init(&g, &rng);
        CHECK(memcmp(r.model.w, g.w, g.count * sizeof(float)) == 0);
        for (size_t n = 0; n < g.count; n++) r.model.w[n] = 0.1f * (float)(n % 7); /* the same */
        put_ids(&r.train, text, 9);
        for (size_t t = 0; t < 8; t++) CHECK(llm_gpt2_run_step(&r, &loss[i][t], NULL, &e));
        llm_gpt2_destroy(&g);
        llm_gpt2_run_free(&r);
    }
    CHECK(memcmp(loss[0], loss[1], sizeof loss[0]) == 0);
    CHECK(memcmp(loss[0], loss[2], sizeof loss[0]) != 0);
}

/* A training on 60 tokens, with a held-out text. */
static llm_gpt2_run long_run(void) {
    const llm_gpt2_config c = tiny();
    llm_gpt2_run r;
    llm_error e;
    llm_rng rng = llm_rng_seed(7);
    CHECK(llm_gpt2_run_create(&r, &c, 3, 12, 0.01, 5, &e));
    for (size_t i = 0; i < 60; i++) {
        const int id = (int)llm_rng_below(&rng, 5);
        put_ids(i < 50 ? &r.train : &r.held, &id, 1);
    }
    return r;
}

static void steps(llm_gpt2_run *r, size_t n) {
    float loss;
    llm_error e;
    for (size_t i = 0; i < n; i++) CHECK(llm_gpt2_run_step(r, &loss, NULL, &e));
}

TEST(gpt2_run,
     "stopped, saved, loaded and resumed equals an unbroken run bit for bit, at every step") {
    llm_gpt2_run whole = long_run();
    steps(&whole, 12);
    mkdir(test_path("dir"), 0700);
    for (size_t stop = 0; stop <= 12; stop++) {
        llm_gpt2_run first = long_run(), second;
        llm_error e;
        steps(&first, stop);
        CHECK(llm_gpt2_run_save(&first, test_path("dir"), &e));
        llm_gpt2_run_free(&first);
        CHECK(llm_gpt2_run_load(&second, test_path("dir"), &e));
        steps(&second, 12 - stop);
        const size_t bytes = whole.model.count * sizeof(float);
        CHECK(memcmp(second.model.w, whole.model.w, bytes) == 0);
        CHECK(memcmp(second.model.m, whole.model.m, bytes) == 0);
        CHECK(memcmp(second.model.v, whole.model.v, bytes) == 0);
        CHECK(second.loss.size == 48 && memcmp(second.loss.data, whole.loss.data, 48) == 0);
        CHECK(second.held.size == 40 && memcmp(second.held.data, whole.held.data, 40) == 0);
        CHECK(second.state.step == 12 && second.state.steps == 12 && second.state.lr == 0.01);
        llm_gpt2_run_free(&second);
    }
    llm_gpt2_run_free(&whole);
}

TEST(gpt2_run, "windows lie everywhere in the text, its last token included") {
    /* token i is i: a window is seen in the batch */
    llm_gpt2_config c = tiny();
    llm_gpt2_run r;
    llm_error e;
    int seen[9] = {0};
    float loss;
    c.vocab = 9;
    CHECK(llm_gpt2_run_create(&r, &c, 2, 100, 0.01, 5, &e));
    for (int i = 0; i < 9; i++) put_ids(&r.train, &i, 1);
    for (size_t s = 0; s < 100; s++) {
        CHECK(llm_gpt2_run_step(&r, &loss, NULL, &e));
        const int *x = (const int *)(const void *)r.batch.data, *y = x + 8;
        for (size_t i = 0; i < 8; i++)
            CHECK(y[i] == x[i] + 1 && x[i] == x[i / 4 * 4] + (int)(i % 4));
        seen[x[0]]++, seen[x[4]]++;
    }
    for (int i = 0; i < 5; i++) CHECK_NEAR(seen[i], 40, 26); /* of 200 draws, 4.5 deviations */
    for (int i = 5; i < 9; i++) CHECK(seen[i] == 0);
    llm_gpt2_run_free(&r);
}

TEST(gpt2_run, "a text that is too short, and a loss that is not finite, are said so") {
    const llm_gpt2_config c = tiny();
    llm_gpt2_run r;
    llm_error e;
    float loss;
    const int ids[5] = {0, 1, 2, 3, 4};
    CHECK(llm_gpt2_run_create(&r, &c, 2, 40, 0.05, 1, &e));
    CHECK_FAILS(llm_gpt2_run_step(&r, &loss, NULL, &e), e, "the text has 0 tokens, a context of 4");
    put_ids(&r.train, ids, 4);
    CHECK_FAILS(llm_gpt2_run_step(&r, &loss, NULL, &e), e, "the text has 4 tokens, a context of 4");
    put_ids(&r.train, ids, 1);
    CHECK(llm_gpt2_run_step(&r, &loss, NULL, &e));
    CHECK_NEAR(loss, logf(5.0f), 0.1f); /* at the start, all tokens alike */
    llm_gpt2_run other;
    CHECK(llm_gpt2_run_create(&other, &c, 2, 40, 0.05, 1, &e));
    put_ids(&other.train, ids, 5);
    for (int calls = 0; calls < 2; calls++) { /* neither for the batch nor for the loss */
        run_calls = calls;
        CHECK_FAILS(llm_gpt2_run_step(&other, &loss, NULL, &e), e, "step 0: out of memory");
        run_calls = 1 << 30;
        CHECK(other.state.step == 0 && other.loss.size == 0);
    }
    CHECK(llm_gpt2_run_step(&other, &loss, NULL, &e));
    llm_gpt2_run_free(&other);
    llm_gpt2_config vast = c;
    vast.vocab = (size_t)1 << 50;
    CHECK_FAILS(llm_gpt2_run_create(&other, &vast, 2, 40, 0.05, 1, &e), e, "no memory");
    r.model.w[0] = NAN;
    CHECK_FAILS(llm_gpt2_run_step(&r, &loss, NULL, &e), e, "step 1: the loss is no longer finite");
    CHECK(r.state.step == 1);
    llm_gpt2_run_free(&r);
}

/* Saves a run, writes its file again with one tensor changed or left out, and loads it. */
static bool load_changed(const char *name, llm_safetensors_dtype dtype, size_t count,
                         const void *data, llm_error *e) {
    llm_safetensors s;
    llm_safetensors_tensor out[8];
    llm_gpt2_run r = long_run(), again;
    size_t n = 0;
    llm_error ignored;
    mkdir(test_path("bad"), 0700);
    CHECK(llm_gpt2_run_save(&r, test_path("bad"), &ignored));
    llm_gpt2_run_free(&r);
    CHECK(llm_safetensors_open(&s, test_path("bad/run.safetensors"), &ignored));
    for (size_t i = 0; i < s.count; i++) {
        out[n] = s.tensor[i];
        if (strcmp(out[n].name, name) == 0) {
            if (!data) continue;
            out[n].dtype = dtype, out[n].shape[0] = count,
            out[n].data = (const unsigned char *)data;
        }
        n++;
    }
    CHECK(llm_safetensors_write(test_path("bad/run.safetensors"), out, n, NULL, &ignored));
    llm_safetensors_close(&s);
    const bool ok = llm_gpt2_run_load(&again, test_path("bad"), e);
    if (ok) llm_gpt2_run_free(&again);
    return ok;
}

TEST(gpt2_run, "a file that no run wrote is refused, and what is wrong with it is named") {
    llm_error e;
    llm_gpt2_run r;
    static float zero[1000];
    const char *const name[7] = {"state", "w", "m", "v", "train", "held", "loss"};
    CHECK(load_changed("none", LLM_SAFETENSORS_F32, 0, NULL, &e));
    for (size_t i = 1; i < 7; i++) {
        CHECK_FAILS(load_changed(name[i], LLM_SAFETENSORS_F32, 0, NULL, &e), e, name[i]);
        CHECK_FAILS(load_changed(name[i], LLM_SAFETENSORS_U8, 8, zero, &e), e, name[i]);
        if (i < 4) CHECK_FAILS(load_changed(name[i], LLM_SAFETENSORS_F32, 9, zero, &e), e, name[i]);
    }
    CHECK_FAILS(load_changed("state", LLM_SAFETENSORS_U64, 0, NULL, &e), e, "no state");
    CHECK_FAILS(load_changed("state", LLM_SAFETENSORS_U64, 2, zero, &e), e, "no state");
    llm_gpt2_run_state s;
    for (size_t i = 0; i < 5; i++) {
        memset(&s, 0, sizeof s);
        s.batch = i == 0 ? 0 : i == 1 ? ((uint64_t)1 << 20) + 1 : 3;
        s.steps = 12, s.step = i == 2 ? 13 : 0;
        s.rng.used = i == 3 ? 5 : i == 4 ? -1 : 0;
        CHECK_FAILS(load_changed("state", LLM_SAFETENSORS_U64, sizeof s / 8, &s, &e), e,
                    "no state");
    }
    memset(&s, 0, sizeof s);
    s.batch = 1;
    for (s.rng.used = 0; s.rng.used <= 4; s.rng.used += 4)
        CHECK(load_changed("state", LLM_SAFETENSORS_U64, sizeof s / 8, &s, &e));
    CHECK_FAILS(load_changed("loss", LLM_SAFETENSORS_F32, 1, zero, &e), e, "1 losses of 0 steps");
    const int int5[2] = {5, 4};
    CHECK_FAILS(load_changed("train", LLM_SAFETENSORS_I32, 2, int5, &e), e,
                "'train' has the token 5");
    CHECK_FAILS(load_changed("held", LLM_SAFETENSORS_I32, 2, int5, &e), e,
                "'held' has the token 5");
    CHECK_FAILS(llm_gpt2_run_load(&r, test_path("nowhere"), &e), e, "nowhere/run.safetensors");

    llm_gpt2_run long_one = long_run(), again = long_run(); /* nothing behind a text is read */
    llm_safetensors f;
    mkdir(test_path("exact"), 0700);
    CHECK(llm_gpt2_run_save(&long_one, test_path("exact"), &e));
    CHECK(llm_safetensors_open(&f, test_path("exact/run.safetensors"), &e));
    for (size_t i = 0; i < f.count; i++) {
        unsigned char *copy = (unsigned char *)test_memory(f.tensor[i].size, 1);
        memcpy(copy, f.tensor[i].data, f.tensor[i].size);
        f.tensor[i].data = copy;
    }
    CHECK(llm_gpt2_run_read(&again, &f, &e) && again.train.size == 2 * long_one.train.size);
    llm_safetensors_close(&f);
    llm_gpt2_run_free(&long_one), llm_gpt2_run_free(&again);
}
