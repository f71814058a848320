/* @output_layer */
#include "../test.h"

#include "../../llm.h"

/* The cases of a golden shape: name, head, name of the targets. */
typedef struct {
    const char *name, *target;
    int head;
} ol_case;
static const ol_case ol_cases[6] = {{"mse", "value", LLM_OUTPUT_LAYER_MSE},
                                    {"bce", "share", LLM_OUTPUT_LAYER_BCE},
                                    {"class", "label", LLM_OUTPUT_LAYER_SOFTMAX},
                                    {"soft", "soft", LLM_OUTPUT_LAYER_SOFTMAX},
                                    {"poisson", "count", LLM_OUTPUT_LAYER_POISSON},
                                    {"positive", "positive", LLM_OUTPUT_LAYER_POSITIVE}};

TEST(output_layer, "predictions, losses and gradients of every head equal torch's") {
    const size_t shapes[4][2] = {{1, 1}, {2, 3}, {5, 7}, {3, 11}}; /* (N, K) */
    for (size_t s = 0; s < 4; s++)
        for (size_t c = 0; c < 6; c++) {
            const size_t N = shapes[s][0], K = shapes[s][1];
            const ol_case *o = &ol_cases[c];
            const float *z = golden("%zux%zu/z", N, K);
            const float *t = golden("%zux%zu/%s", N, K, o->target);
            const int *label = c == 2 ? as_ints(t, N) : NULL;
            float *yhat = floats(N * K), *dz = floats(N * K), loss[1], alone[1];
            llm_output_layer_predict(yhat, z, N, K, o->head);
            CHECK_GOLDEN(yhat, N * K, 2e-7f, "%zux%zu/%s_yhat", N, K, o->name);
            loss[0] = (float)llm_output_layer_loss(dz, z, label, label ? NULL : t, N, K, o->head);
            CHECK_GOLDEN(loss, 1, 5e-7f, "%zux%zu/%s_loss", N, K, o->name);
            CHECK_GOLDEN(dz, N * K, 5e-7f, "%zux%zu/%s_dz", N, K, o->name);
            alone[0] =
                (float)llm_output_layer_loss(NULL, z, label, label ? NULL : t, N, K, o->head);
            CHECK(alone[0] == loss[0]);

            /* canonical: prediction minus target */
            float *want = floats(N * K), *place = floats(N * K);
            for (size_t i = 0; i < N * K; i++) {
                const float ti = label ? (float)(label[i / K] == (int)(i % K)) : t[i];
                want[i] = (yhat[i] - ti) / (float)N;
                place[i] = z[i];
            }
            if (o->head != LLM_OUTPUT_LAYER_POSITIVE) CHECK_ALL_NEAR(dz, want, N * K, 1e-6f);
            llm_output_layer_loss(place, place, label, label ? NULL : t, N, K, o->head);
            CHECK_ALL_NEAR(place, dz, N * K, 0.0f);
            llm_output_layer_predict(place, z, N, K, o->head);
            CHECK_ALL_NEAR(place, yhat, N * K, 0.0f);
        }
}

TEST(output_layer, "a gradient is the slope of the loss") {
    enum { N = 3, K = 4 };
    llm_rng rng = llm_rng_seed(1);
    float z[N * K], t[N * K], dz[N * K];
    for (int head = 0; head < LLM_OUTPUT_LAYER_COUNT; head++) {
        llm_rng_normal_fill(&rng, z, N * K);
        for (size_t i = 0; i < N * K; i++) t[i] = llm_rng_uniform(&rng);
        for (size_t n = 0; n < N && head == LLM_OUTPUT_LAYER_SOFTMAX; n++) {
            float sum = 0.0f;
            for (size_t k = 0; k < K; k++) sum += t[n * K + k];
            for (size_t k = 0; k < K; k++) t[n * K + k] /= sum;
        }
        llm_output_layer_loss(dz, z, NULL, t, N, K, head);
        CHECK_GRAD(dz, z, N * K, 1e-2f, 2e-5f, llm_output_layer_loss(NULL, z, NULL, t, N, K, head));
    }
}

TEST(output_layer, "huge logits cost what they should; an impossible class may be -inf") {
    const float z[2] = {800.0f, -800.0f}, t[2] = {0.0f, 1.0f};
    const int label[1] = {1};
    float dz[2], yhat[2];
    CHECK_NEAR(llm_output_layer_loss(dz, z, NULL, t, 1, 2, LLM_OUTPUT_LAYER_BCE), 1600.0, 1e-9);
    CHECK(dz[0] == 1.0f && dz[1] == -1.0f);
    CHECK_NEAR(llm_output_layer_loss(dz, z, label, NULL, 1, 2, LLM_OUTPUT_LAYER_SOFTMAX), 1600.0,
               1e-9);
    CHECK(dz[0] == 1.0f && dz[1] == -1.0f);
    llm_output_layer_predict(yhat, z, 1, 2, LLM_OUTPUT_LAYER_POSITIVE);
    CHECK(yhat[0] == 800.0f && yhat[1] == 0.0f);

    const float out[3] = {0.0f, -INFINITY, 0.0f};
    const int first[1] = {0};
    float d3[3];
    CHECK_NEAR(llm_output_layer_loss(d3, out, first, NULL, 1, 3, LLM_OUTPUT_LAYER_SOFTMAX),
               log(2.0), 1e-12);
    CHECK(d3[0] == -0.5f && d3[1] == 0.0f && d3[2] == 0.5f);
    CHECK(isnan(
        llm_output_layer_loss(NULL, (const float[1]){NAN}, NULL, t, 1, 1, LLM_OUTPUT_LAYER_MSE)));
}

TEST(output_layer, "softmax does not see a common shift") {
    const float z[3] = {1.0f, -2.0f, 0.5f}, moved[3] = {101.0f, 98.0f, 100.5f};
    const int label[1] = {2};
    CHECK_NEAR(llm_output_layer_loss(NULL, z, label, NULL, 1, 3, LLM_OUTPUT_LAYER_SOFTMAX),
               llm_output_layer_loss(NULL, moved, label, NULL, 1, 3, LLM_OUTPUT_LAYER_SOFTMAX),
               1e-6);
}

TEST(output_layer, "with the base-rate bias the first prediction is the mean target, and the first "
                   "loss the entropy of the labels") {
    enum { N = 10, K = 3 };
    const int label[N] = {0, 0, 0, 0, 0, 1, 1, 1, 2, 2};
    float b[K], z[N * K];
    llm_output_layer_bias(b, label, NULL, N, K, LLM_OUTPUT_LAYER_SOFTMAX);
    for (size_t i = 0; i < N * K; i++) z[i] = b[i % K];
    const double entropy = -(0.5 * log(0.5) + 0.3 * log(0.3) + 0.2 * log(0.2));
    CHECK_NEAR(llm_output_layer_loss(NULL, z, label, NULL, N, K, LLM_OUTPUT_LAYER_SOFTMAX), entropy,
               1e-6);

    const float t[4] = {1.0f, 0.0f, 0.0f, 0.5f}; /* mean 0.375 */
    for (int head = 0; head < LLM_OUTPUT_LAYER_COUNT; head++) {
        if (head == LLM_OUTPUT_LAYER_SOFTMAX) continue;
        float bias[1], yhat[1];
        llm_output_layer_bias(bias, NULL, t, 4, 1, head);
        llm_output_layer_predict(yhat, bias, 1, 1, head);
        CHECK_NEAR(yhat[0], 0.375f, 1e-6);
    }
}

TEST(output_layer,
     "a class that never occurs, and one that always does, count as half an example") {
    const int label[5] = {1, 1, 1, 1, 1};
    const float ones[5] = {1.0f, 1.0f, 1.0f, 1.0f, 1.0f}, none[5] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    float b[2];
    llm_output_layer_bias(b, label, NULL, 5, 2, LLM_OUTPUT_LAYER_SOFTMAX);
    CHECK_NEAR(b[0], logf(0.1f), 1e-6);
    CHECK(b[1] == 0.0f);
    llm_output_layer_bias(b, NULL, ones, 5, 1, LLM_OUTPUT_LAYER_BCE);
    CHECK_NEAR(b[0], logf(10.0f), 1e-6);
    llm_output_layer_bias(b, NULL, none, 5, 1, LLM_OUTPUT_LAYER_BCE);
    CHECK_NEAR(b[0], -logf(10.0f), 1e-6);
    llm_output_layer_bias(b, NULL, none, 5, 1, LLM_OUTPUT_LAYER_POISSON);
    CHECK_NEAR(b[0], -logf(10.0f), 1e-6);
    llm_output_layer_bias(b, NULL, none, 5, 1, LLM_OUTPUT_LAYER_MSE);
    CHECK(b[0] == 0.0f);
}

TEST(output_layer, "accuracy counts rows; no rows; what a caller may not ask for") {
    const float z[6] = {1.0f, 0.0f, 0.0f, 1.0f, 2.0f, 2.0f};
    const int label[3] = {0, 0, 0}, high[1] = {2}, low[1] = {-1};
    float dz[2];
    CHECK_NEAR(llm_output_layer_accuracy(z, label, 3, 2), 2.0 / 3.0, 1e-12); /* ties: the first */
    CHECK(llm_output_layer_accuracy(z, label, 0, 2) == 0.0);
    CHECK(llm_output_layer_accuracy(z, label, 1, 2) == 1.0);
    CHECK(llm_output_layer_loss(NULL, NULL, NULL, NULL, 0, 2, LLM_OUTPUT_LAYER_MSE) == 0.0);
    const int softmax = LLM_OUTPUT_LAYER_SOFTMAX;
    CHECK_ASSERTS(llm_output_layer_loss(dz, z, label, z, 1, 2, softmax));
    CHECK_ASSERTS(llm_output_layer_loss(dz, z, NULL, NULL, 1, 2, softmax));
    CHECK_ASSERTS(llm_output_layer_loss(dz, z, label, NULL, 1, 2, LLM_OUTPUT_LAYER_MSE));
    CHECK_ASSERTS(llm_output_layer_loss(dz, z, high, NULL, 1, 2, softmax));
    CHECK_ASSERTS(llm_output_layer_loss(dz, z, low, NULL, 1, 2, softmax));
    CHECK_ASSERTS(llm_output_layer_predict(dz, z, 1, 2, LLM_OUTPUT_LAYER_COUNT));
    CHECK_ASSERTS(llm_output_layer_bias(dz, label, NULL, 0, 2, softmax));
}

TEST(output_layer, "the base rate of one example is that example") {
    const float target[1] = {0.5f};
    float b[1] = {NAN};
    llm_output_layer_bias(b, NULL, target, 1, 1, LLM_OUTPUT_LAYER_MSE);
    CHECK(b[0] == 0.5f);
}
