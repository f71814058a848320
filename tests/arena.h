/* Scratch for the suites. Behind test.h and llm.h. */
#ifndef TEST_ARENA_H
#define TEST_ARENA_H

/* An arena of so many bytes that is freed with the process. It begins at a multiple of 64 and holds
 * NaN, so that what is read before it is written is seen; peak is at the end, so that under
 * AddressSanitizer the first take poisons all the rest. */
TEST_UNUSED static llm_arena test_arena(size_t bytes) {
    llm_arena arena;
    arena.memory = (unsigned char *)test_memory(bytes + 64, 1);
    arena.memory += 64 - (uintptr_t)arena.memory % 64;
    arena.size = arena.peak = bytes;
    arena.used = 0;
    memset(arena.memory, 0xff, bytes);
    return arena;
}

/* The bytes that n floats take: each piece of an arena begins at a multiple of 64. */
TEST_UNUSED static size_t arena_room(size_t n) { return (n * sizeof(float) + 63) / 64 * 64; }

#endif
