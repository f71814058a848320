/* @unigram_lattice */
#include "../test.h"

#include "../../llm.h"
#include "../tiny_pieces.h"

enum { MOST = 12, ALL = 1 << (MOST - 1) };

static llm_arena lattice_arena(size_t bytes) {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, bytes));
    return arena;
}

TEST(unigram_lattice, "the ten best are SentencePiece's; expected counts are those of NumPy") {
    llm_pieces p = tiny_pieces_golden("piece");
    for (size_t k = 0; k < 6; k++) {
        size_t size, n, which;
        const float *bytes = golden_n(&size, "text%zu/bytes", k), *want = golden("text%zu/ids", k);
        const float *want_count = golden_n(&n, "text%zu/count", k);
        char *text = (char *)test_memory(size, 1);
        for (size_t i = 0; i < size; i++) text[i] = (char)(unsigned char)bytes[i];

        double score[10], *counts = (double *)test_memory(p.text.count, sizeof *counts);
        size_t count[10];
        int *ids = (int *)test_memory(10 * size, sizeof *ids);
        llm_arena arena = lattice_arena(llm_unigram_lattice_scratch(&p, size, 10));
        CHECK(llm_unigram_lattice_best(ids, count, score, 10, &p, text, size, &arena) == n);
        CHECK(arena.used == 0 && n <= 10);
        llm_arena_destroy(&arena);
        const float *want_score = golden("text%zu/score", k);
        for (size_t b = 0; b < n; b++) {
            CHECK_NEAR(score[b], want_score[b], 1e-6 * (1.0 - score[b]));
            CHECK(b == 0 || score[b] <= score[b - 1]);
        }
        /* of equal scores any order will do, and the last may be another one as good */
        for (size_t b = 0; b < n; b++) {
            bool found = fabs(score[b] - score[n - 1]) < 1e-5 && n == 10;
            size_t at = 0;
            for (size_t w = 0; w < n; at += (size_t)want_count[w++]) {
                bool same = (size_t)want_count[w] == count[b];
                for (size_t i = 0; i < count[b] && same; i++)
                    same = ids[b * size + i] == (int)want[at + i];
                found = found || same;
            }
            CHECK(found);
        }

        arena = lattice_arena(llm_unigram_scratch(&p, size));
        const double total = llm_unigram_lattice_expect(counts, &p, text, size, 1.0, &arena);
        CHECK_NEAR(total, golden("text%zu/total", k)[0], 1e-6 * (1.0 - total));
        CHECK(total >= score[0] && arena.used == 0);
        const float *index = golden_n(&which, "text%zu/which", k);
        const float *expected = golden("text%zu/expected", k);
        double rest = 0.0;
        for (size_t i = 0; i < which; i++) {
            CHECK_NEAR(counts[(size_t)index[i]], expected[i], 1e-6);
            counts[(size_t)index[i]] = 0.0;
        }
        for (size_t id = 0; id < p.text.count; id++) rest += counts[id];
        CHECK(rest == 0.0);
        llm_arena_destroy(&arena);
    }
    llm_pieces_free(&p);
}

/* All segmentations of text by recursion: scores, lengths and ids, in no order. An unknown letter
 * is -1 until the list is complete. */
typedef struct {
    double score[ALL];
    int ids[ALL][MOST];
    size_t count[ALL], n;
} lattice_list;
static void lattice_enumerate(lattice_list *l, const llm_pieces *p, const char *text, size_t size,
                              size_t at, int *ids, size_t count, double score) {
    if (at == size) {
        l->score[l->n] = score;
        l->count[l->n] = count;
        memcpy(l->ids[l->n++], ids, count * sizeof *ids);
        return;
    }
    bool single = false;
    for (size_t end = at + 1; end <= size; end++) {
        const int id = llm_vocab_table_find(&p->text, text + at, end - at);
        if (id < 0) continue;
        ids[count] = id;
        single = single || end == at + 1;
        lattice_enumerate(l, p, text, size, end, ids, count + 1,
                          score + llm_pieces_get(p, (size_t)id).score);
    }
    ids[count] = -1;
    if (!single) lattice_enumerate(l, p, text, size, at + 1, ids, count + 1, score + p->low - 10.0);
}

/* Pieces of a, b and c with random scores, no two sums of which are equal. */
static llm_pieces lattice_pieces(llm_rng *rng, size_t pieces, double spread) {
    llm_pieces p = llm_pieces_empty();
    CHECK(llm_pieces_put(&p, "<u>", 3, 0.0, LLM_PIECES_UNKNOWN, NULL));
    while (p.text.count < pieces) {
        char text[4];
        const size_t size = 1 + llm_rng_below(rng, 4);
        for (size_t i = 0; i < size; i++) text[i] = (char)('a' + (int)llm_rng_below(rng, 3));
        if (llm_vocab_table_find(&p.text, text, size) >= 0) continue;
        CHECK(llm_pieces_put(&p, text, size, -spread * (double)llm_rng_uniform(rng),
                             LLM_PIECES_NORMAL, NULL));
    }
    CHECK(llm_pieces_ready(&p, NULL));
    return p;
}

TEST(unigram_lattice, "marginals and the n best are those of all segmentations, up to 12 letters") {
    llm_rng rng = llm_rng_seed(1);
    lattice_list *l = (lattice_list *)test_memory(1, sizeof *l);
    for (size_t turn = 0; turn < 150; turn++) {
        llm_pieces p = lattice_pieces(&rng, 2 + llm_rng_below(&rng, 30), 8.0);
        const size_t size = llm_rng_below(&rng, MOST + 1), n = 1 + llm_rng_below(&rng, 12);
        char text[MOST];
        int now[MOST], *ids = (int *)test_memory(n * size, sizeof *ids);
        double *want = (double *)test_memory(p.text.count, sizeof *want), total = 0.0;
        double *got = (double *)test_memory(p.text.count, sizeof *got);
        double score[12];
        size_t count[12], order[ALL];
        for (size_t i = 0; i < size; i++) text[i] = (char)('a' + (int)llm_rng_below(&rng, 3));
        l->n = 0;
        lattice_enumerate(l, &p, text, size, 0, now, 0, 0.0);
        for (size_t k = 0; k < l->n; k++) total += exp(l->score[k]);
        for (size_t k = 0; k < l->n; k++)
            for (size_t i = 0; i < l->count[k]; i++)
                if (l->ids[k][i] >= 0) want[l->ids[k][i]] += 0.7 * exp(l->score[k]) / total;
        llm_arena arena = lattice_arena(llm_unigram_scratch(&p, size));
        const double sum = llm_unigram_lattice_expect(got, &p, text, size, 0.7, &arena);
        CHECK_NEAR(sum, log(total), 1e-11 * (1.0 + fabs(sum)));
        for (size_t id = 0; id < p.text.count; id++) CHECK_NEAR(got[id], want[id], 1e-11);
        llm_arena_destroy(&arena);

        for (size_t k = 0; k < l->n; k++) { /* sorted by insertion */
            size_t at = k;
            for (; at > 0 && l->score[order[at - 1]] < l->score[k]; at--) order[at] = order[at - 1];
            order[at] = k;
        }
        arena = lattice_arena(llm_unigram_lattice_scratch(&p, size, n));
        const size_t found = llm_unigram_lattice_best(ids, count, score, n, &p, text, size, &arena);
        CHECK(found == (l->n < n ? l->n : n));
        bool *used = bools(ALL);
        for (size_t k = 0; k < found; k++) { /* one with this score that was not there yet */
            bool same = false;
            CHECK_NEAR(score[k], l->score[order[k]], 1e-12 * (1.0 - score[k]));
            for (size_t w = 0; w < l->n && !same; w++) {
                size_t kept = 0;
                same = !used[w] && fabs(l->score[w] - score[k]) < 1e-11;
                for (size_t i = 0; i < l->count[w] && same; i++) {
                    const int id = l->ids[w][i] < 0 ? 0 : l->ids[w][i];
                    if (i > 0 && id == 0 && l->ids[w][i - 1] < 0) continue; /* one unknown piece */
                    same = kept < count[k] && ids[k * size + kept++] == id;
                }
                same = same && kept == count[k];
                used[w] = used[w] || same;
            }
            CHECK(same);
        }
        llm_arena_destroy(&arena);
        llm_pieces_free(&p);
    }
}

TEST(unigram_lattice, "samples follow P^alpha: chi-square over all segmentations") {
    llm_rng rng = llm_rng_seed(2);
    lattice_list *l = (lattice_list *)test_memory(1, sizeof *l);
    const double alphas[4] = {0.0, 0.2, 1.0, 3.0};
    for (size_t turn = 0; turn < 12; turn++) {
        enum { DRAWS = 20000 };
        llm_pieces p = lattice_pieces(&rng, 25, 4.0);
        const double alpha = alphas[turn % 4];
        const char *text = turn % 2 ? "abcab" : "aabca";
        int now[MOST], ids[5];
        double total = 0.0, chi = 0.0, *seen = (double *)test_memory(ALL, sizeof *seen);
        size_t cells = 0;
        l->n = 0;
        lattice_enumerate(l, &p, text, 5, 0, now, 0, 0.0);
        for (size_t k = 0; k < l->n; k++) {
            for (size_t i = 0; i < l->count[k]; i++) /* several unknown letters are one piece */
                if (l->ids[k][i] < 0) l->ids[k][i] = 0;
            total += exp(alpha * l->score[k]);
        }
        llm_arena arena = lattice_arena(llm_unigram_scratch(&p, 5));
        for (size_t d = 0; d < DRAWS; d++) {
            const size_t n = llm_unigram_lattice_sample(ids, &p, text, 5, alpha, &rng, &arena);
            CHECK(arena.used == 0);
            size_t k = 0;
            for (bool same = false; k < l->n && !same; k += !same) {
                size_t i = 0, j = 0;
                for (; j < l->count[k]; j++) {
                    if (j > 0 && l->ids[k][j] == 0 && l->ids[k][j - 1] == 0) continue;
                    if (i == n || ids[i] != l->ids[k][j]) break;
                    i++;
                }
                same = j == l->count[k] && i == n;
                if (same) seen[k] += 1.0;
            }
            CHECK(k < l->n);
        }
        double rare = 0.0, rare_seen = 0.0;
        for (size_t k = 0; k < l->n; k++) {
            const double want = DRAWS * exp(alpha * l->score[k]) / total;
            if (want < 5.0) {
                rare += want, rare_seen += seen[k];
                continue;
            }
            chi += (seen[k] - want) * (seen[k] - want) / want;
            cells++;
        }
        if (rare > 5.0) chi += (rare_seen - rare) * (rare_seen - rare) / rare, cells++;
        /* mean cells - 1, variance twice that: five standard deviations and the skew of few
         * cells */
        CHECK(cells > 1 || l->n < 3 || alpha > 1.0);
        CHECK(chi < (double)cells + 5.0 * sqrt(2.0 * (double)cells) + 10.0);
        llm_arena_destroy(&arena);
        llm_pieces_free(&p);
    }
}

TEST(unigram_lattice, "uniform at alpha 0: 2^(n-1) segmentations where all pieces exist") {
    llm_pieces p = llm_pieces_empty();
    llm_rng rng = llm_rng_seed(3);
    char text[21];
    memset(text, 'a', sizeof text);
    CHECK(llm_pieces_put(&p, "<u>", 3, 0.0, LLM_PIECES_UNKNOWN, NULL));
    for (size_t size = 1; size <= 21; size++)
        CHECK(llm_pieces_put(&p, text, size, -1.5 * (double)size, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_ready(&p, NULL));
    double b[22], count[22] = {0}, mean = 0.0;
    llm_unigram_edge edge[22];
    CHECK_NEAR(llm_unigram_lattice_backward(b, edge, &p, text, 21, 0.0), 20.0 * log(2.0), 1e-12);
    CHECK_NEAR(llm_unigram_lattice_backward(b, edge, &p, text, 21, 2.0), 20.0 * log(2.0) - 63.0,
               1e-12);
    /* every cut is there with probability 1/2: 11 pieces on average, variance 5 */
    llm_arena arena = lattice_arena(llm_unigram_scratch(&p, 21));
    int ids[21];
    for (size_t d = 0; d < 20000; d++)
        mean += (double)llm_unigram_lattice_sample(ids, &p, text, 21, 0.0, &rng, &arena) / 20000.0;
    CHECK_NEAR(mean, 11.0, 5.0 * sqrt(5.0 / 20000.0));
    llm_unigram_lattice_expect(count, &p, text, 21, 1.0, &arena);
    mean = 0.0;
    for (size_t id = 1; id < 22; id++) mean += count[id];
    CHECK_NEAR(mean, 11.0, 1e-12);
    CHECK_NEAR(count[21], exp2(-20.0), 1e-15);
    llm_arena_destroy(&arena);
    llm_pieces_free(&p);
}

TEST(unigram_lattice,
     "the first id is a piece like any other, and the unknown one may be the last") {
    llm_pieces p = llm_pieces_empty();
    llm_rng rng = llm_rng_seed(5);
    CHECK(llm_pieces_put(&p, "a", 1, -1.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "b", 1, -2.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, "<u>", 3, 0.0, LLM_PIECES_UNKNOWN, NULL));
    CHECK(llm_pieces_ready(&p, NULL));
    llm_arena arena = lattice_arena(llm_unigram_lattice_scratch(&p, 4, 2));
    int ids[8];
    size_t count[2];
    double score[2], counts[3] = {0};
    CHECK(llm_unigram_lattice_best(ids, count, score, 2, &p, "axba", 4, &arena) == 1);
    CHECK(count[0] == 4 && ids[0] == 0 && ids[1] == 2 && ids[2] == 1 && ids[3] == 0);
    CHECK(llm_unigram_lattice_sample(ids, &p, "axba", 4, 1.0, &rng, &arena) == 4);
    CHECK(ids[0] == 0 && ids[1] == 2 && ids[2] == 1 && ids[3] == 0);
    CHECK_NEAR(llm_unigram_lattice_expect(counts, &p, "axba", 4, 1.0, &arena), -16.0, 1e-12);
    CHECK_NEAR(counts[0], 2.0, 1e-12);
    CHECK_NEAR(counts[1], 1.0, 1e-12);
    CHECK(counts[2] == 0.0);
    llm_arena_destroy(&arena);
    llm_pieces_free(&p);
}

TEST(unigram_lattice, "with byte fallback uncovered characters become bytes; no text, none asked") {
    llm_pieces p = llm_pieces_empty();
    llm_rng rng = llm_rng_seed(4);
    for (int byte = 0; byte < 256; byte++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)byte);
        CHECK(llm_pieces_put(&p, text, 6, 0.0, LLM_PIECES_BYTE, NULL));
    }
    CHECK(llm_pieces_put(&p, "a", 1, -2.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_ready(&p, NULL));
    llm_arena arena = lattice_arena(llm_unigram_lattice_scratch(&p, 4, 3));
    int ids[12];
    size_t count[3];
    double score[3], counts[257] = {0};
    const char *text = "a\xC3\xA9z";
    CHECK(llm_unigram_lattice_best(ids, count, score, 3, &p, text, 4, &arena) == 1);
    CHECK(count[0] == 4 && ids[0] == 256 && ids[1] == 0xC3 && ids[2] == 0xA9 && ids[3] == 'z');
    CHECK(score[0] == -2.0 - 12.0 - 12.0);
    memset(ids, 0, sizeof ids);
    CHECK(llm_unigram_lattice_sample(ids, &p, text, 4, 1.0, &rng, &arena) == 4);
    CHECK(ids[0] == 256 && ids[1] == 0xC3 && ids[2] == 0xA9 && ids[3] == 'z');
    CHECK_NEAR(llm_unigram_lattice_expect(counts, &p, text, 4, 1.0, &arena), -26.0, 1e-12);
    CHECK(counts[256] == 1.0 && counts[0xC3] == 0.0);
    double *before = llm_arena_doubles(&arena, 8); /* none asked for: what is in use stays */
    for (size_t i = 0; i < 8; i++) before[i] = -(double)INFINITY;
    CHECK(llm_unigram_lattice_best(ids, count, score, 0, &p, text, 4, &arena) == 0);
    for (size_t i = 0; i < 8; i++) CHECK(before[i] == -(double)INFINITY);
    arena.used = 0;
    CHECK(llm_unigram_lattice_best(ids, count, score, 3, &p, text, 0, &arena) == 1);
    CHECK(count[0] == 0 && score[0] == 0.0);
    CHECK(llm_unigram_lattice_sample(ids, &p, text, 0, 1.0, &rng, &arena) == 0);
    CHECK(llm_unigram_lattice_expect(counts, &p, text, 0, 1.0, &arena) == 0.0);
    llm_arena_destroy(&arena);
    llm_pieces_free(&p);
}
