/* @token_shard */
#include "../test.h"

/* fwrite that fails after a number of calls */
static int shard_writes = 1 << 30;
static size_t shard_fwrite(const void *data, size_t size, size_t n, FILE *stream) {
    return shard_writes-- > 0 ? fwrite(data, size, n, stream) : 0;
}
#define fwrite shard_fwrite

#include "../../llm.h"

static void shard_file(const char *path, const unsigned char *bytes, size_t size) {
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(bytes, 1, size, f) == size && fclose(f) == 0);
}

TEST(token_shard, "files are those that NumPy writes, in both widths, and are read back") {
    for (int wide = 0; wide < 2; wide++) {
        size_t n, size;
        const char *name = wide ? "wide" : "narrow", *path = test_path("x.bin");
        const int *ids = as_ints(golden_n(&n, "%s/ids", name), wide ? 5 : 7);
        const float *want = golden_n(&size, "%s/bytes", name);
        llm_error e;
        llm_file f;
        llm_token_shard s;
        CHECK(llm_token_shard_write(path, ids, n, wide, &e) && llm_file_read(&f, path, &e));
        CHECK(f.size == size && size == 1024 + (wide ? 4 : 2) * n);
        for (size_t i = 0; i < size; i++) CHECK(f.data[i] == want[i]);
        llm_file_free(&f);
        CHECK(llm_token_shard_open(&s, path, 0, &e) && s.count == n);
        for (size_t i = 0; i < n; i++) CHECK(llm_token_shard_id(&s, i) == ids[i]);
        CHECK_ASSERTS(llm_token_shard_id(&s, n));
        llm_token_shard_close(&s);
        CHECK(s.count == 0 && !s.file.data);
        size_t V = 0; /* the smallest vocabulary that they fit */
        for (size_t i = 0; i < n; i++) V = (size_t)ids[i] >= V ? (size_t)ids[i] + 1 : V;
        CHECK(llm_token_shard_open(&s, path, V, &e));
        llm_token_shard_close(&s);
        CHECK_FAILS(llm_token_shard_open(&s, path, V - 1, &e), e, "the vocabulary has");
    }
}

TEST(token_shard, "long files are whole, empty ones too, and ids must fit") {
    const char *path = test_path("x.bin");
    llm_error e;
    llm_token_shard s;
    for (size_t n = 0; n < 5000; n = 3 * n + 1) /* 1093 and 3280 are more than one part */
        for (int wide = 0; wide < 2; wide++) {
            int *ids = (int *)test_memory(n, sizeof *ids);
            for (size_t i = 0; i < n; i++) ids[i] = (int)(i * 7919 % (wide ? 1000003 : 65536));
            CHECK(llm_token_shard_write(path, ids, n, wide, &e));
            CHECK(llm_token_shard_open(&s, path, 1000003, &e) && s.count == n);
            for (size_t i = 0; i < n; i++) CHECK(llm_token_shard_id(&s, i) == ids[i]);
            llm_token_shard_close(&s);
        }
    const int bad[3] = {-1, 65536, 65535};
    CHECK_FAILS(llm_token_shard_write(path, bad, 1, false, &e), e, "id -1 does not fit");
    CHECK_FAILS(llm_token_shard_write(path, bad, 1, true, &e), e, "31 bits");
    CHECK_FAILS(llm_token_shard_write(path, bad + 1, 2, false, &e), e, "16 bits");
    CHECK(llm_token_shard_write(path, bad + 1, 2, true, &e));
    CHECK_FAILS(llm_token_shard_write("/no/such/folder/x", bad + 1, 2, true, &e), e, "/no/such");
    const size_t most = INT32_MAX; /* neither is read to its end */
    CHECK_FAILS(llm_token_shard_write(path, bad, most, true, &e), e, "id -1 does not fit");
    CHECK_FAILS(llm_token_shard_write(path, bad, most + 1, true, &e), e, "fewer than 2^31");
}

TEST(token_shard, "when the disk is full there is no file") {
    const char *path = test_path("x.bin");
    int *ids = (int *)calloc(5000, sizeof *ids);
    bool ok = false;
    for (int writes = 0; !ok; writes++) {
        llm_error e;
        shard_writes = writes;
        ok = llm_token_shard_write(path, ids, 5000, true, &e);
        CHECK(ok == (writes == 6)); /* the header, and five parts */
        shard_writes = 1 << 30;
        FILE *f = fopen(path, "rb");
        CHECK((f != NULL) == ok);
        if (f) fclose(f);
    }
    free(ids);
}

TEST(token_shard, "every id is checked, the first and the last too, and none behind") {
    const char *path = test_path("x.bin");
    static int ids[1536]; /* with the header 4096 bytes: behind them stands no 0 */
    llm_error e;
    llm_token_shard s;
    for (size_t n = 1; n <= 1536; n += 1535) {
        CHECK(llm_token_shard_write(path, ids, n, false, &e));
        CHECK(llm_token_shard_open(&s, path, 1, &e) && s.count == n);
        llm_token_shard_close(&s);
        for (size_t i = 0; i<n; i += n> 1 ? n - 1 : 1) {
            ids[i] = 1;
            CHECK(llm_token_shard_write(path, ids, n, false, &e));
            CHECK_FAILS(llm_token_shard_open(&s, path, 1, &e), e, "the vocabulary has 1");
            ids[i] = 0;
        }
    }
}

TEST(token_shard, "wrong files are refused with a sentence") {
    const char *path = test_path("x.bin");
    const int ids[4] = {1, 2, 3, 4};
    llm_error e;
    llm_file f;
    llm_token_shard s;
    CHECK(llm_token_shard_write(path, ids, 4, false, &e) && llm_file_read(&f, path, &e));
    for (size_t size = 0; size < f.size; size += size < 1020 ? 60 : 1) { /* cut */
        shard_file(path, f.data, size);
        CHECK_FAILS(llm_token_shard_open(&s, path, 10, &e), e, size < 1024 ? "header" : "expected");
        CHECK(s.count == 0 && !s.file.data);
    }
    static const struct {
        size_t at;
        unsigned char byte;
        const char *text;
    } wrong[6] = {
        {0, 0x11, "magic number"},  {3, 0x02, "magic number"}, {4, 2, "version 2, expected 1"},
        {7, 1, "version 16777217"}, {8, 3, "of 3 ids"},        {11, 0x80, "2147483652 ids"}};
    for (size_t i = 0; i < 6; i++) {
        const unsigned char kept = f.data[wrong[i].at];
        f.data[wrong[i].at] = wrong[i].byte;
        shard_file(path, f.data, f.size);
        f.data[wrong[i].at] = kept;
        CHECK_FAILS(llm_token_shard_open(&s, path, 10, &e), e, wrong[i].text);
    }
    shard_file(path, f.data, f.size); /* as it was */
    CHECK(llm_token_shard_open(&s, path, 5, &e));
    llm_token_shard_close(&s);
    f.data[f.size] = 0; /* the 0 behind the data: one byte too many */
    shard_file(path, f.data, f.size + 1);
    CHECK_FAILS(llm_token_shard_open(&s, path, 5, &e), e, "expected 1024 and 2 for each");
    s.count = s.bytes = 3;
    CHECK_FAILS(llm_token_shard_open(&s, test_path("none"), 5, &e), e, "cannot be opened");
    CHECK(s.count == 0 && s.bytes == 0);
    llm_file_free(&f);
    CHECK(llm_token_shard_write(path, ids, 4, true, &e) && llm_file_read(&f, path, &e));
    f.data[4] = 1;
    shard_file(path, f.data, f.size);
    CHECK_FAILS(llm_token_shard_open(&s, path, 5, &e), e, "version 1, expected 7");
    llm_file_free(&f);
}

TEST(token_shard, "an epoch covers every row once, in order or at random, over several shards") {
    enum { SHARDS = 5 };
    static const size_t count[SHARDS] = {17, 0, 1, 9, 30};
    const size_t T = 4, want_rows = 4 + 0 + 0 + 2 + 7;
    llm_token_shard s[SHARDS];
    llm_error e;
    int ids[64];
    for (size_t k = 0; k < SHARDS; k++) {
        for (size_t i = 0; i < count[k]; i++) ids[i] = (int)(100 * k + i);
        CHECK(llm_token_shard_write(test_path("x.bin"), ids, count[k], k % 2, &e));
        CHECK(llm_token_shard_open(&s[k], test_path("x.bin"), 1000, &e));
    }
    CHECK(llm_token_shard_rows(s, SHARDS, T) == want_rows);
    CHECK(llm_token_shard_rows(s, SHARDS, 16) == 2 && llm_token_shard_rows(s, SHARDS, 30) == 0);
    CHECK(llm_token_shard_rows(s, 0, T) == 0 && llm_token_shard_rows(s, SHARDS, 1) == 53);
    llm_token_shard_batch(ids, s, SHARDS, 1, 29, 8, true, 1); /* one row, which is every epoch */
    for (size_t i = 0; i < 30; i++) CHECK(ids[i] == (int)(400 + i));
    CHECK_ASSERTS(llm_token_shard_row(ids, s, SHARDS, T, want_rows));
    CHECK_ASSERTS(llm_token_shard_rows(s, SHARDS, 0));
    CHECK_ASSERTS(llm_token_shard_batch(ids, s, SHARDS, 1, 30, 0, false, 1));
    static int order[2][4 * 13];
    for (int random = 0; random < 2; random++)
        for (uint64_t seed = 1; seed < 4; seed++)
            for (size_t B = 1; B < 4; B++) {
                int seen[SHARDS * 100] = {0}, batch[3 * 5];
                for (size_t at = 0; at < 4 * want_rows; at++) { /* four epochs */
                    llm_token_shard_batch(batch, s, SHARDS, B, T, at / B, random, seed);
                    const int *row = batch + at % B * (T + 1);
                    for (size_t i = 1; i <= T; i++) CHECK(row[i] == row[0] + (int)i);
                    CHECK(row[0] % 100 % (int)T == 0); /* rows begin at multiples of T */
                    seen[row[0]]++;
                    if (!random && at > 0 && at % want_rows > 0) CHECK(row[0] > order[0][at - 1]);
                    if (B > 1) CHECK(row[0] == order[0][at]); /* whatever the batch */
                    order[0][at] = row[0];
                    if (at % want_rows == want_rows - 1) /* an epoch has ended */
                        for (size_t k = 0; k < SHARDS; k++)
                            for (size_t r = 0; r * T + T < count[k]; r++)
                                CHECK(seen[100 * k + r * T] == (int)(at / want_rows + 1));
                }
                if (!random || B > 1) continue;
                /* another order in each epoch, and for each seed */
                CHECK(memcmp(order[0], order[0] + want_rows, want_rows * sizeof(int)) != 0);
                if (seed > 1) CHECK(memcmp(order[0], order[1], want_rows * sizeof(int)) != 0);
                memcpy(order[1], order[0], sizeof order[0]);
            }
    for (size_t k = 0; k < SHARDS; k++) llm_token_shard_close(&s[k]);
}
