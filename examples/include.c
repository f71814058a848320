/* What including the header in a project looks like: cc -O2 examples/include.c -o include -lm */
#include "../llm.h"

int main(void) {
    llm_rng rng = llm_rng_seed(1);
    const float logits[3] = {2.0f, 1.0f, -1.0f};
    float p[3];
    llm_softmax_forward(p, logits, 1, 3, 1.0f);
    printf("p = %.3f %.3f %.3f, drew %d\n", (double)p[0], (double)p[1], (double)p[2],
           llm_sampling_draw(logits, 3, &rng));
    return 0;
}
