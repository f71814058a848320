/* @decoding_step */
#include "../test.h"

#include "../../llm_cuda.cuh"

enum { VOCAB = 13, CAPACITY = 12, LAYERS = TEST_SLOW ? 1 : 2 };

/* A model that sees whole texts again at every turn. */
typedef struct {
    llm_decoder_only cpu;
    llm_sampling_step chain[8];
    size_t steps;
    int ids[8][CAPACITY];
    size_t seen[8];
    llm_arena arena;
} oracle;

static void oracle_step(void *context, float *logits, const int *ids, const size_t *count,
                        const size_t *row, size_t rows, size_t n) {
    oracle *o = (oracle *)context;
    for (size_t i = 0; i < rows; i++) {
        const size_t b = row[i];
        memcpy(o->ids[b] + o->seen[b], ids + i * n, count[i] * sizeof(int));
        o->seen[b] += count[i];
        llm_decoder_only_forward(&o->cpu, o->ids[b], NULL, 1, o->seen[b]);
        memcpy(logits + i * VOCAB, o->cpu.logits + (o->seen[b] - 1) * VOCAB, VOCAB * sizeof(float));
    }
}
static int oracle_pick(void *context, float *logits, size_t V, const int *, size_t, llm_rng *rng) {
    oracle *o = (oracle *)context;
    llm_sampling_chain(logits, V, o->chain, o->steps, &o->arena);
    return llm_sampling_draw(logits, V, rng);
}

/* Weights (n) as a matrix on the device: of T, or in blocks of Q8_0, which they are changed to. */
static llm_stored_matrix matrix(llm_gguf_blocks_type type, float *w, size_t rows, size_t C) {
    llm_stored_matrix m = {NULL, type, rows, C};
    const size_t bytes = rows * llm_stored_matrix_stride(&m);
    unsigned char *data = (unsigned char *)test_memory(bytes, 1);
    if (type == LLM_GGUF_BLOCKS_F32) {
        memcpy(data, w, bytes);
    } else if (type == LLM_GGUF_BLOCKS_BF16) {
        for (size_t i = 0; i < rows * C; i++) {
            const uint16_t bits = test_bf16_bits(w[i]);
            memcpy(data + 2 * i, &bits, 2);
        }
    } else { /* a scale of 1/64, and weights that are multiples of it */
        for (size_t i = 0; i < rows * C; i += 32) {
            unsigned char *block = data + i / 32 * 34;
            block[0] = 0, block[1] = 0x24; /* 2^-6 */
            for (size_t k = 0; k < 32; k++) {
                const float q = fmaxf(-127.0f, fminf(127.0f, nearbyintf(64.0f * w[i + k])));
                block[2 + k] = (unsigned char)(int)q;
            }
        }
    }
    m.data = data;
    for (size_t r = 0; r < rows; r++) llm_stored_matrix_row(w + r * C, &m, r);
    m.data = to_device(data, bytes);
    return m;
}

/* B rows with prompts of different lengths through the reference's loop and through the launches of
 * the device, which make some turns more than are needed. */
template <typename T>
static void check_run(llm_gguf_blocks_type type, const size_t *prompt, size_t B, size_t Hkv,
                      llm_rope_pairing pairing, bool hot) {
    const size_t C = 32, H = 4, D = 8, F = 32, L = LAYERS, V = VOCAB, n = CAPACITY * D / 2;
    const size_t O = (H + 2 * Hkv) * D;
    static oracle o;
    llm_error e;
    llm_rng rng = llm_rng_seed(7);
    llm_decoder_only_config c;
    c.vocab = V, c.context = CAPACITY, c.layers = L, c.tied = false, c.theta = 100.0f;
    c.block.width = C, c.block.heads = H, c.block.kv_heads = Hkv, c.block.head_size = D;
    c.block.hidden = F, c.block.eps = 1e-5f, c.block.pairing = pairing;
    memset(&o, 0, sizeof o);
    CHECK(llm_decoder_only_create(&o.cpu, &c, 1, CAPACITY, &e));
    llm_rng_normal_fill(&rng, o.cpu.w, o.cpu.count);
    for (size_t i = 0; i < o.cpu.matrices; i++) o.cpu.w[i] *= 0.3f;
    o.arena.memory = (unsigned char *)test_memory(1 << 16, 1), o.arena.size = 1 << 16;

    llm_cuda_decoding_step_layer layer[2];
    llm_cuda_decoding_step<T> s;
    memset(&s, 0, sizeof s);
    for (size_t l = 0; l < L; l++) {
        const llm_llama_block_weights &w = o.cpu.weights.block[l];
        layer[l].qkv = matrix(type, w.qkv, O, C), layer[l].out = matrix(type, w.out, C, H * D);
        layer[l].gate = matrix(type, w.ffn.gate, F, C), layer[l].up = matrix(type, w.ffn.up, F, C);
        layer[l].down = matrix(type, w.ffn.down, C, F);
        layer[l].norm1 = to_device(w.norm1, C), layer[l].norm2 = to_device(w.norm2, C);
        layer[l].bias = l == 0 ? NULL : to_device(zeros(O), O);
    }
    float inv_freq[4], *cosine = floats(n), *sine = floats(n);
    llm_rope_inv_freq(inv_freq, D, c.theta);
    llm_rope_table(cosine, sine, NULL, inv_freq, CAPACITY, D);
    s.width = C, s.heads = H, s.head_size = D, s.hidden = F, s.layers = L, s.eps = c.block.eps;
    s.pairing = pairing, s.cosine = to_device(cosine, n), s.sine = to_device(sine, n);
    s.layer = layer, s.norm = to_device(o.cpu.weights.norm, C);
    s.embed = matrix(type, o.cpu.weights.embed, V, C);
    s.head = matrix(type, o.cpu.weights.head, V, C);

    const int stop[1] = {5};
    int ids[8 * CAPACITY], got[8 * CAPACITY], end[8], open = -1;
    size_t length[8], zero[8] = {}, in_cache[8], longest = 0;
    for (size_t i = 0; i < B * CAPACITY; i++) ids[i] = (int)llm_rng_below(&rng, V);
    s.cache.memory = to_device<T>(NULL, 2 * L * B * Hkv * CAPACITY * D);
    s.cache.length = to_device(zero, B);
    s.cache.L = L, s.cache.B = B, s.cache.H = Hkv, s.cache.room = CAPACITY, s.cache.D = D;
    llm_cuda_decoding_rows &r = s.rows;
    r.ids = to_device(ids, B * CAPACITY), r.end = to_device<int>(NULL, B);
    r.next = to_device<int>(NULL, B), r.open = to_device<int>(NULL, 1);
    r.length = to_device(prompt, B), r.prompt = to_device(prompt, B);
    r.count = to_device<size_t>(NULL, B), r.seed = to_device<uint64_t>(NULL, B);
    r.stop = to_device(stop, 1), r.stops = 1, r.B = B, r.capacity = CAPACITY, r.max_new = 5;
    r.min_new = 2, r.key = 11;
    o.chain[0].kind = LLM_SAMPLING_TEMPERATURE, o.chain[0].value = hot ? 1.5f : 0.0f;
    o.chain[1].kind = LLM_SAMPLING_TOP_K, o.chain[1].value = 6.0f;
    o.steps = hot ? 2 : 1;
    s.sampling = llm_cuda_sampling_defaults(o.chain, o.steps);
    const size_t size = llm_cuda_decoding_step_bind(s, NULL);
    CHECK(llm_cuda_decoding_step_bind(s, to_device<unsigned char>(NULL, size)) == size);

    llm_decoding_row rows[8];
    for (size_t b = 0; b < B; b++) {
        rows[b] = llm_decoding_begin(ids + b * CAPACITY, prompt[b], b);
        longest = prompt[b] > longest ? prompt[b] : longest;
    }
    const llm_decoding_model model = {V, CAPACITY, &o, oracle_step};
    const llm_decoding_picker picker = {&o, oracle_pick};
    llm_decoding_config d = llm_decoding_defaults(r.max_new);
    d.stop = stop, d.stops = 1, d.seed = r.key, d.min_new = r.min_new;
    llm_decoding_run(rows, B, &model, &picker, &d, &o.arena);

    cudaStream_t stream;
    CHECK_CUDA(cudaStreamCreate(&stream));
    CHECK_CUDA(llm_cuda_decoding_begin(&r, stream));
    for (size_t t = 0; t + 1 < longest; t++) CHECK_CUDA(llm_cuda_decoding_step_prompt(s, stream));
    CHECK_CUDA(cudaStreamSynchronize(stream));
    from_device(in_cache, s.cache.length, B);
    for (size_t b = 0; b < B; b++) CHECK(in_cache[b] == (prompt[b] ? prompt[b] - 1 : 0));
#ifdef __CUDACC__ /* captured once, replayed for every token */
    cudaGraph_t graph;
    cudaGraphExec_t token;
    CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    CHECK_CUDA(llm_cuda_decoding_step_token(s, stream));
    CHECK_CUDA(cudaStreamEndCapture(stream, &graph));
    CHECK_CUDA(cudaGraphInstantiateWithFlags(&token, graph, 0));
    for (size_t t = 0; t < r.max_new + 1; t++) CHECK_CUDA(cudaGraphLaunch(token, stream));
#else
    for (size_t t = 0; t < r.max_new + 1; t++) CHECK_CUDA(llm_cuda_decoding_step_token(s, stream));
#endif
    CHECK_CUDA(cudaStreamSynchronize(stream));
    from_device(got, r.ids, B * CAPACITY);
    from_device(end, r.end, B);
    from_device(length, r.length, B);
    from_device(in_cache, s.cache.length, B);
    from_device(&open, r.open, 1);
    CHECK(open == 0);
    for (size_t b = 0; b < B; b++) {
        CHECK(end[b] == (int)rows[b].end && length[b] == rows[b].length);
        for (size_t t = 0; t < length[b]; t++) CHECK(got[b * CAPACITY + t] == rows[b].ids[t]);
        CHECK(in_cache[b] + (length[b] > 0) == length[b]);
    }

    /* every row's last token again: the logits are those of its whole text */
    float logits[8 * VOCAB];
    const float *none = NULL;
    CHECK_CUDA(llm_cuda_decoding_step_layers(s, stream));
    CHECK_CUDA(llm_cuda_stored_matrix_product(s.logits, s.x, s.head, none, s.norm, s.eps, B, false,
                                              stream));
    CHECK_CUDA(cudaStreamSynchronize(stream));
    from_device(logits, s.logits, B * V);
    for (size_t b = 0; b < B; b++) {
        if (length[b] == 0) continue;
        llm_decoder_only_forward(&o.cpu, rows[b].ids, NULL, 1, length[b]);
        /* keys, values and what attention mixed are rounded where T is bfloat16 */
        CHECK_ALL_NEAR(logits + b * V, o.cpu.logits + (length[b] - 1) * V, V,
                       sizeof(T) == 4 ? 2e-4f : 0.2f);
    }
    CHECK_CUDA(cudaStreamDestroy(stream));
    llm_decoder_only_destroy(&o.cpu);
}

TEST(decoding_step, "rows with prompts of different lengths write the texts of llm_decoding_run") {
    const size_t prompt[4] = {1, CAPACITY - 3, 4, 0};
    check_run<float>(LLM_GGUF_BLOCKS_F32, prompt, TEST_SLOW ? 1 : 4, 2, LLM_ROPE_HALVES, false);
}
TEST(decoding_step, "drawn tokens, weights in blocks of 8 bits, neighbours turned together") {
    const size_t prompt[2] = {2, 3};
    if (!TEST_SLOW) check_run<float>(LLM_GGUF_BLOCKS_Q8_0, prompt, 2, 4, LLM_ROPE_NEIGHBOURS, true);
}
TEST(decoding_step, "bfloat16 weights and cache stay within their rounding") {
    const size_t prompt[1] = {3};
    if (!TEST_SLOW) check_run<llm_bf16>(LLM_GGUF_BLOCKS_BF16, prompt, 1, 1, LLM_ROPE_HALVES, false);
}

TEST(decoding_step,
     "a pair of QKV rows gets its bias, is turned by its position, and finds its place") {
    const size_t H = 2, D = 4, C = 8, B = 2, room = 5, half = 2, O = 4 * D, l = 1;
    for (int turn = 0; turn < 2; turn++) {
        llm_rng rng = llm_rng_seed(3);
        float *w = floats(O * C), *x = floats(B * C), *bias = floats(O), *y = floats(B * O);
        float *cosine = floats(room * half), *sine = floats(room * half), q[16], memory[160];
        size_t length[2] = {3, 5}; /* the second row's cache is full */
        llm_rng_normal_fill(&rng, w, O * C), llm_rng_normal_fill(&rng, x, B * C);
        llm_rng_normal_fill(&rng, bias, O);
        for (size_t i = 0; i < room * half; i++) {
            const double angle = 0.3 * (double)(i + 1);
            cosine[i] = (float)cos(angle), sine[i] = (float)sin(angle);
        }
        const llm_stored_matrix qkv = matrix(LLM_GGUF_BLOCKS_F32, w, O, C);
        llm_matmul_forward(y, x, w, bias, B, C, O);
        llm_cuda_decoding_step_end<float> end;
        end.q = to_device(zeros(B * H * D), B * H * D);
        end.cache.memory = to_device(zeros(160), 160), end.cache.length = to_device(length, B);
        end.cache.L = 2, end.cache.B = B, end.cache.H = 1, end.cache.room = room, end.cache.D = D;
        end.cosine = to_device(cosine, room * half), end.sine = to_device(sine, room * half);
        end.bias = to_device(bias, O), end.l = l, end.heads = H, end.half = half;
        end.neighbours = turn == 1;
        CHECK_CUDA(llm_cuda_stored_matrix_product_run(end, qkv, qkv, O / 2, to_device(x, B * C),
                                                      (const float *)NULL, 0.0f, B, 0));
        from_device(q, end.q, B * H * D);
        from_device(memory, end.cache.memory, 160);
        size_t written = 0;
        for (size_t i = 0; i < 160; i++) written += memory[i] != 0.0f;
        CHECK(written == 2 * D); /* a key and a value of the first row */
        for (size_t h = 0; h < 4; h++) {
            const float *from = y + h * D;
            const float *to = h < H ? q + h * D : memory + ((2 * l + h - H) * B * room + 3) * D;
            for (size_t d = 0; d < half; d++) {
                const size_t a = turn ? 2 * d : d, b = turn ? 2 * d + 1 : d + half;
                const float c = h == 3 ? 1.0f : cosine[3 * half + d];
                const float s = h == 3 ? 0.0f : sine[3 * half + d];
                CHECK_NEAR(to[a], from[a] * c - from[b] * s, 1e-5f);
                CHECK_NEAR(to[b], from[a] * s + from[b] * c, 1e-5f);
            }
        }
    }
}

TEST(decoding_step, "heads of an odd size, a cache too small and rows too many are refused") {
    llm_cuda_decoding_step<float> s;
    memset(&s, 0, sizeof s);
    s.embed = matrix(LLM_GGUF_BLOCKS_F32, zeros(16), 2, 8), s.width = 8, s.head_size = 4;
    s.rows.B = s.cache.B = 1, s.rows.capacity = s.cache.room = 3;
    s.x = to_device<float>(NULL, 8), s.rows.ids = to_device<int>(NULL, 3);
    size_t none[1] = {0};
    s.cache.length = to_device(none, 1);
    CHECK_CUDA(llm_cuda_decoding_step_layers(s, 0));
    s.cache.room = 2;
    CHECK(llm_cuda_decoding_step_layers(s, 0) != cudaSuccess);
    s.cache.room = 3, s.head_size = 3;
    CHECK(llm_cuda_decoding_step_layers(s, 0) != cudaSuccess);
    s.head_size = 4, s.rows.B = 9;
    CHECK(llm_cuda_decoding_step_layers(s, 0) != cudaSuccess);
}
