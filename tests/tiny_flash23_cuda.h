/* Random inputs, and a configuration's lists on the device, for the kernels of @flash23. Behind
 * test.h and llm_cuda.cuh, once in each suite: nvcc compiles a chapter as one file, a namespace a
 * suite, so there is no guard. */

static float *tiny_flash23_normal(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    return x;
}

/* c with start_q, start_k and slope on the device; Tq, Tk: the longest text. */
static llm_flash23_config tiny_flash23_device(size_t *Tq, size_t *Tk, const llm_flash23_config *c) {
    llm_flash23_config device = *c;
    *Tq = *Tk = 0;
    for (size_t b = 0; b < c->B; b++) {
        const size_t q_b = c->start_q[b + 1] - c->start_q[b];
        const size_t k_b = c->start_k[b + 1] - c->start_k[b];
        *Tq = q_b > *Tq ? q_b : *Tq, *Tk = k_b > *Tk ? k_b : *Tk;
    }
    device.start_q = to_device(c->start_q, c->B + 1);
    device.start_k = to_device(c->start_k, c->B + 1);
    if (c->slope) device.slope = to_device(c->slope, c->H);
    return device;
}
