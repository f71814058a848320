/* Litter on the stack: a field that the next call does not set is no zero. Behind test.h. */
#ifndef TINY_LITTER_H
#define TINY_LITTER_H

static void tiny_litter_leave(void) {
    volatile unsigned char litter[4096];
    for (size_t i = 0; i < sizeof litter; i++) litter[i] = 0xa5;
}

/* What check, a function with variables of its own, says of a dirty stack. */
TEST_UNUSED static bool tiny_litter(bool (*check)(void)) {
    void (*volatile leave)(void) = tiny_litter_leave; /* volatile: called, not inlined */
    bool (*volatile then)(void) = check;
    leave();
    return then();
}

#endif
