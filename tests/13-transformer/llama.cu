/* @llama */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_llama.h"
#include "../tiny_llama_cuda.h"

static const struct {
    const char *name;
    size_t head;
} families[6] = {{"llama", 4}, {"llama3", 4}, {"mistral", 4},
                 {"qwen2", 4}, {"qwen3", 8},  {"gemma2", 8}};

/* The model of a family, opened from its files with transformers' settings. */
template <typename T> static void open_family(model<T> &g, size_t family, size_t context) {
    size_t n;
    static char text[2000];
    const float *config = golden_n(&n, "%s/config", families[family].name);
    for (size_t i = 0; i < n; i++) text[i] = (char)config[i];
    text[n] = 0;
    open_model(g, families[family].name, families[family].head, text, context);
}

/* Transformers' logits behind tokens 5 and 11 of each family, the second in a chunk of its own,
 * while another text of the same tokens is one chunk behind. */
template <typename T> static void check_family(size_t family, bool chunks, float tol) {
    model<T> g;
    open_family(g, family, 12);
    const float *golden_ids = golden("%s/ids", families[family].name);
    const float *want = golden("%s/logits", families[family].name);
    int ids[12];
    float got[TEXTS * V];
    for (size_t i = 0; i < 12; i++) ids[i] = (int)golden_ids[i];
    const int *const both[TEXTS] = {ids, ids, NULL};
    const size_t from[2][TEXTS] = {{0, 0, 0}, {6, 1, 0}}, count[2][TEXTS] = {{6, 1, 0}, {6, 5, 0}};
    feed(got, g, both, from[0], count[0]);
    CHECK_ALL_NEAR(got, want + V, V, tol);
    CHECK_ALL_NEAR(got + V, want, V, tol); /* behind token 0 */
    if (chunks) {
        feed(got, g, both, from[1], count[1]);
        CHECK_ALL_NEAR(got, want + 2 * V, V, tol);
        CHECK_ALL_NEAR(got + V, want + V, V, tol);
    }
    llm_llama_close(&g.cpu);
}
TEST(llama, "prompts of two texts in chunks and pages: transformers' logits of six families") {
    for (size_t f = TEST_SLOW ? 5 : 0; f < 6; f++)
        check_family<float>(f, !TEST_SLOW && (f == 2 || f == 5), 1e-4f); /* those with windows */
}
TEST(llama, "bfloat16 on tensor cores follows in its rounding") {
    if (!TEST_SLOW) check_family<llm_bf16>(4, true, 0.2f);
}
TEST(llama, "a text of two pages, with a window, equals llm_llama; the other one says nothing") {
    if (TEST_SLOW) return;
    model<float> g;
    open_family(g, 2, 70);
    int ids[70];
    float got[TEXTS * V];
    llm_rng rng = llm_rng_seed(1);
    for (size_t i = 0; i < 70; i++) ids[i] = (int)llm_rng_below(&rng, V);
    const int *const both[TEXTS] = {ids, ids, NULL};
    const size_t from[TEXTS] = {0, 0, 0}, more[TEXTS] = {66, 0, 0};
    const size_t count[2][TEXTS] = {{66, 0, 0}, {4, 0, 0}};
    feed(got, g, both, from, count[0]);
    llm_llama_forward(&g.cpu, ids, 66);
    CHECK_ALL_NEAR(got, g.cpu.logits, V, 1e-4f);
    feed(got, g, both, more, count[1]);
    llm_llama_forward(&g.cpu, ids + 66, 4);
    CHECK_ALL_NEAR(got, g.cpu.logits, V, 1e-4f);
    for (size_t i = 0; i < V; i++) CHECK(got[V + i] == 0.0f); /* last: -1 */

    llm_cuda_llama<float> bad[4] = {g.m, g.m, g.m, g.m};
    llm_cuda_llama_batch none;
    memset(&none, 0, sizeof none);
    bad[0].config.head = 3, bad[1].config.head = 258, bad[2].page = 32, bad[3].page = 0;
    for (size_t i = 0; i < 4; i++)
        CHECK(llm_cuda_llama_prefill(got, bad[i], none, g.s, 0) ==
              (cudaError_t)cudaErrorInvalidValue);
    CHECK_CUDA(llm_cuda_llama_prefill(got, g.m, none, g.s, 0));
    llm_llama_close(&g.cpu);
}
