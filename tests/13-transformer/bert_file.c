/* @bert_file */
#include "../test.h"

/* malloc that runs out after a number of calls */
static int bert_calls = 1 << 30;
static void *bert_malloc(size_t size) { return bert_calls-- > 0 ? malloc(size) : NULL; }
#define malloc bert_malloc

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_transformer.h"

enum { B = 2, S = 5, V = 7, C = 4, HEAD = C * C + 3 * C + V };
static const int source[B * S] = {2, 5, 3, 4, 6, 4, 2, 6, 0, 0};
static const int types[B * S] = {0, 0, 1, 1, 1, 0, 1, 1, 0, 0};
static const char *const names[5] = {
    "cls.predictions.transform.dense.weight", "cls.predictions.transform.dense.bias",
    "cls.predictions.transform.LayerNorm.weight", "cls.predictions.transform.LayerNorm.bias",
    "cls.predictions.bias"};

/* head: 0 none, 1 whole, 2 of another vocabulary. */
static const char *directory(const char *name, bool pooler, int head) {
    llm_transformer_config c = tiny_transformer_of(1);
    c.pooler = pooler;
    const size_t n = llm_transformer_count(&c);
    size_t size;
    uint32_t state = 1;
    float *flat = floats(n + HEAD), *text = golden_n(&size, "mlm/config");
    char *config = (char *)test_memory(size + 1, 1);
    for (size_t i = 0; i < size; i++) config[i] = (char)text[i];
    llm_arena arena = test_arena(1 << 14);
    llm_transformer_weights w;
    tiny_transformer_numbers(flat, n + HEAD, &state);
    llm_transformer_weights_bind(&w, flat, &c, &arena);
    tiny_transformer_gains(&w, &c);
    float *p = flat + n;
    for (size_t i = 0; i < C; i++) p[C * C + C + i] += 1.0f;
    llm_safetensors_tensor more[6] = {
        tiny_transformer_tensor(names[0], C, C, p),
        tiny_transformer_tensor(names[1], C, 0, p + C * C),
        tiny_transformer_tensor(names[2], C, 0, p + C * C + C),
        tiny_transformer_tensor(names[3], C, 0, p + C * C + 2 * C),
        tiny_transformer_tensor(names[4], head == 2 ? V - 1 : V, 0, p + C * C + 3 * C),
        tiny_transformer_tensor("cls.predictions.decoder.weight", V, C, flat)};
    return tiny_transformer_save(name, config, &c, flat, head ? "bert." : "", more, head ? 6 : 0);
}

TEST(bert_file,
     "from its files BERT gives transformers' logits, in @bert and in @transformer_model") {
    llm_bert_file m;
    llm_error e;
    llm_arena arena = test_arena(1 << 17);
    bool hidden[B * S];
    int all[B * S];
    CHECK(llm_bert_file_open(&m, directory("in", false, 1), &e));
    CHECK(m.has_head && !m.weights.pool_w && m.config.encoder.layers == 2);
    CHECK(m.config.vocab == V && m.config.places == m.shape.places && m.config.types == 2);
    llm_bert_weights w;
    llm_bert_config c;
    memset(&w, 0xff, sizeof w); /* in a model with norms behind sublayers there is no last one */
    llm_bert_file_view(&c, &w, &m.shape, &m.all, &arena);
    CHECK(!w.encoder.norm_w && !w.encoder.norm_b && w.encoder.mlp);
    for (size_t i = 0; i < B * S; i++) hidden[i] = source[i] == 0, all[i] = 0;
    for (size_t k = 0; k < 2; k++) {
        llm_bert_acts a;
        llm_mlm_acts head;
        llm_transformer_model_acts b;
        llm_transformer_model_text text = {B, S, 0, source, types, hidden, NULL};
        const float *h =
            k ? llm_transformer_model_forward(&b, &text, &m.all, &m.shape, &arena)
              : llm_bert_forward(&a, source, types, hidden, B, S, &m.weights, &m.config, &arena);
        llm_mlm_forward(&head, h, all, &m.head, m.weights.word, B * S, V, C, m.shape.eps, &arena);
        CHECK_GOLDEN(head.logits, B * S * V, 1e-5f, "mlm/logits");
    }
    llm_bert_file_close(&m);
}

TEST(bert_file, "where memory is out is said, and nothing is left") {
    const char *dir = directory("in", true, 1);
    bool ok = false;
    for (int n = 0; !ok; n++) {
        llm_bert_file m;
        llm_error e;
        bert_calls = n;
        ok = llm_bert_file_open(&m, dir, &e);
        bert_calls = 1 << 30;
        CHECK(ok || strstr(e.message, "memory"));
        CHECK(!ok || n > 2);
        if (ok) llm_bert_file_close(&m);
    }
}

TEST(bert_file, "without a head and with a pooler: BertModel's files") {
    llm_bert_file m;
    llm_error e;
    CHECK(llm_bert_file_open(&m, directory("in", true, 0), &e));
    CHECK(!m.has_head && !m.more && m.weights.pool_w == m.all.pool_w && m.weights.pool_b);
    CHECK(m.weights.word == m.flat &&
          m.weights.encoder.mlp[1].norm.out_w == m.all.stack[0].layer[1].norm.w);
    llm_bert_file_close(&m);
}

TEST(bert_file, "a head that does not fit, another family and files that are cut off are refused") {
    llm_bert_file m;
    llm_error e;
    CHECK_FAILS(llm_bert_file_open(&m, directory("in", false, 2), &e), e,
                "cls.predictions.bias is (6, 1) of rank 1, config.json says (7, 1)");
    const llm_transformer_config c = tiny_transformer_of(3);
    const char t5[] = "{\"model_type\": \"t5\", \"vocab_size\": 7, \"d_model\": 4, \"d_kv\": 3, "
                      "\"d_ff\": 6, \"num_layers\": 1, \"num_decoder_layers\": 2, "
                      "\"num_heads\": 2, \"relative_attention_num_buckets\": 8}";
    CHECK_FAILS(
        llm_bert_file_open(&m, tiny_transformer_save("t", t5, &c, zeros(999), "", NULL, 0), &e), e,
        "model_type is not \"bert\"");
    llm_file f;
    directory("in", true, 1);
    CHECK(llm_file_read(&f, test_path("in/model.safetensors"), &e));
    for (size_t n = 0; n < f.size; n += 101) {
        CHECK(llm_file_write(test_path("in/model.safetensors"), f.data, n, &e));
        CHECK_FAILS(llm_bert_file_open(&m, test_path("in"), &e), e, "");
    }
    llm_file_free(&f);
}
