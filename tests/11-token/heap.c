/* @heap */
#include "../test.h"

#include "../../llm.h"

TEST(heap, "entries come out in the order of key and tie, whatever goes in between") {
    enum { MOST = 200 };
    llm_rng rng = llm_rng_seed(1);
    for (size_t turn = 0; turn < 300; turn++) {
        const size_t limit = 1 + llm_rng_below(&rng, MOST), keys = 1 + llm_rng_below(&rng, 9);
        llm_heap_entry *heap = (llm_heap_entry *)malloc(limit * sizeof *heap), list[MOST];
        size_t count = 0, n = 0;
        for (size_t step = 0; step < 4 * limit; step++) {
            const bool push = n < limit && llm_rng_below(&rng, step < 2 * limit ? 3 : 2) > 0;
            if (push) { /* the list: sorted by insertion */
                const llm_heap_entry e = {llm_rng_below(&rng, keys) -
                                              (turn % 2), /* wraps to 2^64 */
                                          llm_rng_below(&rng, 4)};
                llm_heap_push(heap, &count, e.key, e.tie);
                size_t at = n++;
                for (; at > 0 && (list[at - 1].key > e.key ||
                                  (list[at - 1].key == e.key && list[at - 1].tie > e.tie));
                     at--)
                    list[at] = list[at - 1];
                list[at] = e;
            } else if (n > 0) {
                const llm_heap_entry e = llm_heap_pop(heap, &count);
                CHECK(e.key == list[0].key && e.tie == list[0].tie);
                memmove(list, list + 1, --n * sizeof *list);
            }
            CHECK(count == n);
            for (size_t i = 1; i < n; i++) { /* the formula of the banner */
                const llm_heap_entry up = heap[(i - 1) / 2];
                CHECK(up.key < heap[i].key || (up.key == heap[i].key && up.tie <= heap[i].tie));
            }
        }
        free(heap);
    }
}

TEST(heap, "before is a strict order") {
    const llm_heap_entry e[4] = {{1, 5}, {1, 6}, {2, 0}, {UINT64_MAX, 0}};
    for (size_t a = 0; a < 4; a++)
        for (size_t b = 0; b < 4; b++) CHECK(llm_heap_before(e[a], e[b]) == (a < b));
}

TEST(heap, "a million entries are sorted in n log n steps") {
    const size_t n = 1000000;
    llm_heap_entry *heap = (llm_heap_entry *)malloc(n * sizeof *heap);
    size_t count = 0;
    for (size_t i = 0; i < n; i++) llm_heap_push(heap, &count, n - i, 0);
    for (size_t i = 0; i < n; i++) CHECK(llm_heap_pop(heap, &count).key == i + 1);
    CHECK(count == 0);
    free(heap);
}
