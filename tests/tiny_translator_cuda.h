/* A model of @encoder_decoder and a batch for it on the device. Behind test.h and llm_cuda.cuh,
 * once in each suite: nvcc compiles a chapter as one file, a namespace a suite, so there is no
 * guard. */

/* Rows (B,T) packed on the host; labels where shift. */
static llm_cuda_encoder_decoder_texts tiny_pack(int *label, const int *rows, size_t B, size_t T,
                                                bool shift, size_t V, int pad, int start) {
    llm_cuda_encoder_decoder_texts t;
    memset(&t, 0, sizeof t);
    t.ids = (int *)test_memory(B * T, sizeof(int)),
    t.place = (int *)test_memory(B * T, sizeof(int));
    t.order = (int *)test_memory(B * T, sizeof(int));
    t.segment = (int *)test_memory(B * T + 1, sizeof(int));
    t.start = (size_t *)test_memory(B + 1, sizeof(size_t));
    int *scratch = (int *)test_memory(V + 1, sizeof(int));
    llm_cuda_encoder_decoder_pack(&t, label, rows, B, T, shift, V, pad, start, scratch);
    return t;
}
static llm_cuda_encoder_decoder_texts tiny_on_device(const llm_cuda_encoder_decoder_texts &t) {
    llm_cuda_encoder_decoder_texts d = t;
    d.ids = to_device(t.ids, t.N), d.place = to_device(t.place, t.N);
    d.order = to_device(t.order, t.N), d.segment = to_device(t.segment, t.segments + 1);
    d.start = to_device(t.start, t.B + 1);
    return d;
}

template <typename T> struct tiny_translator {
    llm_cuda_encoder_decoder<T> m;
    llm_cuda_encoder_decoder_acts<T> a;
    llm_cuda_encoder_decoder_texts source, target;
    int *label;
    float gain; /* 1 / (labels) */
    llm_cuda_sublayer_part<T> p[2][8];
    llm_cuda_sublayer_part<float> g[2][8];
    llm_cuda_sublayer_acts<T> acts[2][8];
};
/* flat (count) is rounded to T. */
template <typename T>
static void tiny_translator_make(tiny_translator<T> &k, const llm_encoder_decoder_config &c,
                                 float *flat, size_t count, const int *source, const int *target,
                                 size_t B, size_t S, size_t length) {
    const size_t C = c.encoder.width;
    double frequency[16];
    int *label = (int *)test_memory(B * length, sizeof(int));
    for (size_t i = 0; i < C / 2; i++) frequency[i] = llm_sinusoidal_frequency(i, C, 0);
    k.m.config = c;
    k.m.w = to_device_as<T>(flat, count), k.m.g = to_device(zeros(count), count);
    k.m.frequency = to_device(frequency, C / 2);
    k.m.enc = k.p[0], k.m.dec = k.p[1], k.m.denc = k.g[0], k.m.ddec = k.g[1];
    llm_cuda_encoder_decoder_bind(k.m);
    k.source = tiny_on_device(tiny_pack(NULL, source, B, S, false, c.source_vocab, c.pad, c.start));
    k.target =
        tiny_on_device(tiny_pack(label, target, B, length, true, c.target_vocab, c.pad, c.start));
    k.label = to_device(label, k.target.N);
    k.gain = k.target.N ? 1.0f / (float)k.target.N : 0.0f;
    k.a.enc = k.acts[0], k.a.dec = k.acts[1];
    const size_t size = llm_cuda_encoder_decoder_take(k.a, NULL, k.m, k.source, k.target);
    unsigned char *memory = to_device<unsigned char>(NULL, size);
    CHECK(llm_cuda_encoder_decoder_take(k.a, memory, k.m, k.source, k.target) == size);
}
/* The mean of the losses. */
template <typename T> static float tiny_translator_loss(const tiny_translator<T> &k) {
    float *loss = floats(k.target.N);
    double sum = 0.0;
    from_device(loss, k.a.loss, k.target.N);
    for (size_t n = 0; n < k.target.N; n++) sum += (double)loss[n];
    return (float)(sum / (double)k.target.N);
}

/* Texts ids (B,room) as they should be written, and a step's own numbers after the last: the same,
 * and done where `end` stands. Returns how many texts ended. */
TEST_UNUSED static size_t tiny_written(const int *d_ids, const bool *d_done, const int *want,
                                       size_t B, size_t room, int end) {
    int *ids = (int *)test_memory(B * room, sizeof(int));
    bool *done = bools(B);
    size_t ended = 0;
    from_device(ids, d_ids, B * room);
    from_device(done, d_done, B);
    for (size_t i = 0; i < B * room; i++) CHECK(ids[i] == want[i]);
    for (size_t b = 0; b < B; b++) {
        bool over = false;
        for (size_t t = 0; t < room; t++) over = over || want[b * room + t] == end;
        CHECK(done[b] == over);
        ended += over;
    }
    return ended;
}
