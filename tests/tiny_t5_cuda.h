/* A T5 and a batch for it on the device. Behind test.h, llm_cuda.cuh and tiny_translator_cuda.h,
 * once in each suite: nvcc compiles a chapter as one file, a namespace a suite, so there is no
 * guard. */

template <typename T> struct tiny_t5 {
    llm_cuda_t5<T> m;
    llm_cuda_t5_acts<T> a;
    llm_cuda_encoder_decoder_texts source, target;
    int *label;
    float gain; /* 1 / (labels) */
    llm_cuda_sublayer_part<T> p[2][8];
    llm_cuda_sublayer_part<float> g[2][8];
    llm_cuda_sublayer_acts<T> acts[2][8];
};
/* Buckets of distances below `most`, and room for what is made of them. */
template <typename T>
static void tiny_t5_stack(llm_cuda_t5_stack<T> &s, const llm_t5_stack_config &c, size_t most) {
    const size_t n = 2 * most - 1, H = c.attn.heads;
    const llm_relative_position_t5_config distances = llm_t5_stack_distances(&c, most);
    size_t *bucket = (size_t *)test_memory(n, sizeof(size_t));
    int *narrow = (int *)test_memory(n, sizeof(int));
    llm_relative_position_t5_diagonals(bucket, &distances);
    for (size_t i = 0; i < n; i++) narrow[i] = (int)bucket[i];
    s.bucket = to_device(narrow, n);
    s.bias = to_device<float>(NULL, H * n), s.dbias = to_device<double>(NULL, H * n);
}
/* flat (count) is rounded to T; source (B,S), target (B,length) are filled up with 0. */
template <typename T>
static void tiny_t5_make(tiny_t5<T> &k, const llm_t5_config &c, float *flat, const int *source,
                         const int *target, size_t B, size_t S, size_t length, size_t most) {
    size_t matrices;
    const size_t count = llm_t5_count(&matrices, &c);
    int *label = (int *)test_memory(B * length, sizeof(int));
    k.m.config = c, k.m.most = most;
    k.m.w = to_device_as<T>(flat, count), k.m.g = to_device(zeros(count), count);
    tiny_t5_stack(k.m.encoder, c.encoder, most), tiny_t5_stack(k.m.decoder, c.decoder, most);
    k.m.encoder.p = k.p[0], k.m.decoder.p = k.p[1];
    k.m.encoder.g = k.g[0], k.m.decoder.g = k.g[1];
    llm_cuda_t5_bind(k.m);
    CHECK(k.m.decoder.p[k.m.decoder.n].norm_w + c.decoder.attn.width == k.m.w + count);
    k.source = tiny_on_device(tiny_pack(NULL, source, B, S, false, c.vocab, 0, 0));
    k.target = tiny_on_device(tiny_pack(label, target, B, length, true, c.vocab, 0, 0));
    k.label = to_device(label, k.target.N);
    k.gain = k.target.N ? 1.0f / (float)k.target.N : 0.0f;
    k.a.enc = k.acts[0], k.a.dec = k.acts[1];
    const size_t size = llm_cuda_t5_take(k.a, NULL, k.m, k.source, k.target);
    unsigned char *memory = to_device<unsigned char>(NULL, size);
    CHECK(llm_cuda_t5_take(k.a, memory, k.m, k.source, k.target) == size);
}
