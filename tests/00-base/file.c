/* @file */
#include "../test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

/* malloc and realloc that run out after a number of calls */
static int file_calls = 1 << 30;
static void *file_realloc(void *p, size_t size) { /* of one block, and nothing new in it is 0 */
    static size_t before;
    if (file_calls-- <= 0) return NULL;
    char *q = (char *)realloc(p, size);
    if (!p) before = 0;
    if (size > before) memset(q + before, 'x', size - before);
    before = size;
    return q;
}
static int file_opens; /* by open, not fopen */
static int file_open(const char *path, int flags) {
    file_opens++;
    return open(path, flags);
}
#define open file_open
static void *file_malloc(size_t size) { return file_calls-- > 0 ? malloc(size) : NULL; }
static bool file_close_fails; /* as on a network drive, whose server is full */
static int file_fclose(FILE *stream) {
    const int result = fclose(stream);
    errno = file_close_fails ? EIO : errno;
    return file_close_fails ? EOF : result;
}
#define fclose file_fclose
#define realloc file_realloc
#define malloc file_malloc

#include "../../llm.h"

#include <dirent.h>

/* How many names there are in the test's directory. */
static size_t file_names(void) {
    DIR *dir = opendir(test_directory(getpid()));
    size_t count = 0;
    for (const struct dirent *d = readdir(dir); d; d = readdir(dir)) count += d->d_name[0] != '.';
    closedir(dir);
    return count;
}

static int file_descriptors(void) { /* how many are open: the next free one, if none was lost */
    const int next = open("/dev/null", O_RDONLY);
    close(next);
    return next;
}

static bool file_holds(const char *path, const void *data, size_t size) { /* by read(2) */
    unsigned char *got = (unsigned char *)test_memory(size + 1, 1);
    const int fd = open(path, O_RDONLY);
    size_t count = 0;
    ssize_t n = 1;
    while (fd >= 0 && n > 0 && count <= size) {
        n = read(fd, got + count, size + 1 - count);
        count += n > 0 ? (size_t)n : 0;
    }
    if (fd >= 0) close(fd);
    return fd >= 0 && count == size && memcmp(got, data, size) == 0;
}

TEST(file, "what is written is read back, of every size, also mapped; no other name is left") {
    const size_t size[9] = {0, 1, 4095, 4096, 65535, 65536, 65537, 70000, 1000003};
    const char *path = test_path("data.bin");
    unsigned char *data = (unsigned char *)test_memory(1000003, 1);
    llm_rng rng = llm_rng_seed(1);
    for (size_t i = 0; i < 1000003; i++) data[i] = (unsigned char)llm_rng_u32(&rng);
    for (size_t i = 0; i < 9; i++) {
        llm_error e;
        llm_file f, m;
        CHECK(llm_file_write(path, data, size[i], &e));
        CHECK(file_holds(path, data, size[i]) && file_names() == 1);
        CHECK(llm_file_read(&f, path, &e) && llm_file_map(&m, path, &e));
        CHECK(f.size == size[i] && m.size == size[i] && !f.mapped);
        CHECK(f.data[f.size] == 0 && m.mapped == (size[i] > 0));
        CHECK(size[i] == 0 || memcmp(f.data, data, f.size) == 0);
        CHECK(size[i] == 0 || memcmp(m.data, data, m.size) == 0);
        unsigned char *const pages = m.mapped ? m.data : NULL;
        llm_file_free(&f);
        llm_file_free(&m);
        if (pages) CHECK(msync(pages, 1, MS_ASYNC) == -1 && errno == ENOMEM); /* no longer mapped */
        CHECK(!f.data && f.size == 0 && !m.data && m.size == 0 && !m.mapped);
        llm_file_free(&f);
        llm_file_free(&m);
    }
}

TEST(file, "pieces make the same file, and it is not there before the commit") {
    const char *path = test_path("pieces");
    llm_file_writer w;
    llm_error e;
    CHECK(llm_file_begin(&w, path, &e));
    for (int i = 0; i < 5000; i++) {
        char text[16];
        const int n = snprintf(text, sizeof text, "%d,", i);
        CHECK(llm_file_put(&w, text, (size_t)n, &e) && llm_file_put(&w, NULL, 0, &e));
    }
    CHECK(access(path, F_OK) != 0);
    CHECK(llm_file_commit(&w, &e));
    llm_file_abort(&w); /* does nothing any more */
    CHECK(!llm_file_put(&w, "x", 1, &e) && !llm_file_commit(&w, &e));
    llm_file f;
    CHECK(llm_file_read(&f, path, &e) && f.size == 10 * 2 + 90 * 3 + 900 * 4 + 4000 * 5);
    CHECK(strncmp((const char *)f.data, "0,1,2,", 6) == 0);
    CHECK(strcmp((const char *)f.data + f.size - 10, "4998,4999,") == 0);
    llm_file_free(&f);
    CHECK(file_names() == 1);
}

TEST(file, "giving up leaves the old file, and no other") {
    const char *path = test_path("kept");
    llm_file_writer w;
    llm_error e;
    CHECK(llm_file_write(path, "old", 3, &e));
    CHECK(llm_file_begin(&w, path, &e) && llm_file_put(&w, "new", 3, &e));
    CHECK(file_names() == 2);
    llm_file_abort(&w);
    CHECK(file_holds(path, "old", 3) && file_names() == 1);
    llm_file_abort(&w);
}

TEST(file, "a full disk, at any moment, leaves the old file, and no other") {
    const char *path = test_path("kept");
    char *data = (char *)test_memory(300000, 1);
    llm_error e;
    CHECK(llm_file_write(path, "old", 3, &e));
    signal(SIGXFSZ, SIG_IGN); /* beyond the limit write then fails as on a full disk */
    const size_t limit[5] = {0, 1, 4096, 100000, 299999};
    for (size_t i = 0; i < 5; i++) {
        struct rlimit before, small;
        getrlimit(RLIMIT_FSIZE, &before);
        small = before;
        small.rlim_cur = limit[i];
        setrlimit(RLIMIT_FSIZE, &small);
        llm_file_writer w;
        CHECK_FAILS(llm_file_write(path, data, 300000, &e), e, "kept: cannot be written: File too");
        CHECK(llm_file_begin(&w, path, &e));
        if (i < 4) /* of the last one, the last bytes wait in the buffer */
            CHECK_FAILS(llm_file_put(&w, data, 300000, &e), e, "kept: cannot be written: File too");
        if (i == 4) llm_file_abort(&w);
        CHECK(file_names() == 1 && !llm_file_put(&w, "x", 1, &e) && !llm_file_commit(&w, &e));
        CHECK(llm_file_begin(&w, path, &e));
        bool ok = true;
        for (int k = 0; k < 3000; k++) ok = llm_file_put(&w, data, 100, &e) && ok;
        CHECK(!(llm_file_commit(&w, &e) && ok));
        setrlimit(RLIMIT_FSIZE, &before);
        CHECK(file_holds(path, "old", 3) && file_names() == 1);
    }
    CHECK(llm_file_write(path, data, 300000, &e) && file_holds(path, data, 300000));
}

TEST(file, "a disk that is full only when the last buffer is flushed") {
    const char *path = test_path("kept");
    llm_file_writer w;
    llm_error e;
    if (access("/dev/full", W_OK) != 0) return;
    CHECK(llm_file_write(path, "old", 3, &e));
    CHECK(llm_file_begin(&w, path, &e));
    w.stream = freopen("/dev/full", "wb", w.stream);
    CHECK(w.stream != NULL && llm_file_put(&w, "short", 5, &e)); /* it waits in the buffer */
    CHECK_FAILS(llm_file_commit(&w, &e), e, "kept: cannot be written: No space left on device");
    CHECK(file_holds(path, "old", 3) && file_names() == 1);
}

TEST(file, "what cannot be read or written says so, and stays what it was") {
    llm_file f;
    llm_error e;
    const char *directory = test_path("");
    CHECK_FAILS(llm_file_read(&f, test_path("absent"), &e), e, "absent: cannot be opened: No such");
    CHECK(!f.data && f.size == 0 && !f.mapped);
    CHECK_FAILS(llm_file_map(&f, test_path("absent"), &e), e, "absent: cannot be opened: No such");
    CHECK(!f.data && !f.mapped);
    CHECK_FAILS(llm_file_read(&f, directory, &e), e, "/: cannot be read: Is a directory");
    CHECK_FAILS(llm_file_map(&f, directory, &e), e, "/: cannot be read: Is a directory");
    CHECK_FAILS(llm_file_write(directory, "x", 1, &e), e, "not a plain file");
    CHECK_FAILS(llm_file_write(test_path("no/such"), "x", 1, &e), e,
                "such.tmp0: cannot be created");
    CHECK(!llm_file_read(&f, test_path("absent"), NULL) &&
          !llm_file_write(directory, "x", 1, NULL));

    const char *pipe_path = test_path("pipe");
    struct stat info;
    CHECK(mkfifo(pipe_path, 0600) == 0);
    CHECK_FAILS(llm_file_write(pipe_path, "x", 1, &e), e, "not a plain file");
    CHECK(stat(pipe_path, &info) == 0 && S_ISFIFO(info.st_mode) && file_names() == 1);
}

TEST(file, "an error of close counts too") {
    const char *path = test_path("kept");
    llm_error e;
    CHECK(llm_file_write(path, "old", 3, &e));
    file_close_fails = true;
    CHECK_FAILS(llm_file_write(path, "new", 3, &e), e,
                "kept: cannot be written: Input/output error");
    file_close_fails = false;
    CHECK(file_holds(path, "old", 3) && file_names() == 1);
}

TEST(file, "no descriptor is lost, whatever happens") {
    const char *path = test_path("some"), *empty = test_path("empty");
    const char *const all[4] = {path, empty, test_path(""), test_path("absent")};
    llm_error e;
    llm_file_writer w;
    const int before = file_descriptors();
    CHECK(llm_file_write(path, "text", 4, &e) && llm_file_write(empty, "", 0, &e));
    for (size_t i = 0; i < 4; i++) {
        llm_file f;
        CHECK(llm_file_read(&f, all[i], &e) == (i < 2));
        llm_file_free(&f);
        CHECK(file_descriptors() == before);
        CHECK(llm_file_map(&f, all[i], &e) == (i < 2) && f.mapped == (i == 0));
        CHECK(file_descriptors() == before); /* a mapping needs none */
        llm_file_free(&f);
        if (llm_file_begin(&w, all[i], &e)) llm_file_put(&w, "x", 1, &e);
        llm_file_abort(&w);
        CHECK(file_descriptors() == before);
        CHECK(llm_file_write(all[i], "y", 1, &e) == (i != 2) && file_descriptors() == before);
    }
    CHECK(close(0) == 0); /* then a file may get number 0, which is as good as any */
    llm_file f;
    CHECK(llm_file_map(&f, path, &e) && f.mapped && file_descriptors() == 0);
    llm_file_free(&f);
}

TEST(file, "a writer that could not begin refuses the rest without a word") {
    const char *const all[2] = {test_path(""), test_path("no/such")};
    for (size_t i = 0; i < 2; i++) {
        llm_file_writer w;
        llm_error e;
        memset(&w, 255, sizeof w);
        CHECK(!llm_file_begin(&w, all[i], &e));
        memset(&e, 0, sizeof e);
        CHECK(!llm_file_put(&w, "x", 1, &e) && !llm_file_commit(&w, &e) && !e.message[0]);
        llm_file_abort(&w);
    }
}

TEST(file, "a thousand temporary names are tried") {
    const char *path = test_path("model");
    llm_error e;
    for (int i = 0; i < 1000; i++) {
        char name[32];
        snprintf(name, sizeof name, "model.tmp%d", i);
        close(creat(test_path(name), 0600));
    }
    CHECK_FAILS(llm_file_write(path, "x", 1, &e), e,
                "model.tmp999: cannot be created: File exists");
    CHECK(remove(test_path("model.tmp999")) == 0 && llm_file_write(path, "x", 1, &e));
    CHECK(file_holds(path, "x", 1) && file_names() == 1000);
}

TEST(file, "the target became a directory meanwhile: rename fails, nothing is left") {
    const char *path = test_path("target");
    llm_file_writer w;
    llm_error e;
    CHECK(llm_file_begin(&w, path, &e) && llm_file_put(&w, "x", 1, &e));
    CHECK(mkdir(path, 0700) == 0);
    CHECK_FAILS(llm_file_commit(&w, &e), e, "target: cannot be written: Is a directory");
    CHECK(file_names() == 1);
}

TEST(file, "names taken by others' temporary files are passed over") {
    const char *path = test_path("model");
    llm_error e;
    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "model.tmp%d", i);
        FILE *other = fopen(test_path(name), "wb");
        fputs("theirs", other);
        fclose(other);
    }
    CHECK(llm_file_write(path, "mine", 4, &e) && file_holds(path, "mine", 4) && file_names() == 4);
    CHECK(file_holds(test_path("model.tmp0"), "theirs", 6));
    CHECK(file_holds(test_path("model.tmp2"), "theirs", 6));

    llm_file_writer w[2]; /* two at once: the last commit wins, whole */
    CHECK(llm_file_begin(&w[0], path, &e) && llm_file_begin(&w[1], path, &e));
    CHECK(llm_file_put(&w[0], "first", 5, &e) && llm_file_put(&w[1], "second", 6, &e));
    CHECK(llm_file_commit(&w[1], &e) && llm_file_commit(&w[0], &e));
    CHECK(file_holds(path, "first", 5) && file_names() == 4);
}

TEST(file, "a reader beside a writer sees one file or the other, never a part") {
    enum { SIZE = 200000 };
    const char *path = test_path("swapped");
    char *data = (char *)test_memory(SIZE, 1);
    llm_error e;
    memset(data, 'a', SIZE);
    CHECK(llm_file_write(path, data, SIZE, &e));
    const pid_t writer = fork();
    for (int i = 0; writer == 0; i++) {
        memset(data, 'a' + i % 26, SIZE);
        if (!llm_file_write(path, data, SIZE - (size_t)(i % 26), &e) || i == 100000) _exit(1);
    }
    size_t changes = 0;
    for (int i = 0, last = 'a'; i < 5000 && changes < 60; i++) {
        llm_file f;
        CHECK(llm_file_read(&f, path, &e) && f.size == (size_t)(SIZE - (f.data[0] - 'a')));
        for (size_t k = 1; k < f.size; k++) CHECK(f.data[k] == f.data[0]);
        changes += f.data[0] != last;
        last = f.data[0];
        llm_file_free(&f);
    }
    kill(writer, SIGKILL);
    waitpid(writer, NULL, 0);
    CHECK(changes > 5);
}

TEST(file, "reads a pipe, whose size nobody knows, once") {
    const char *path = test_path("pipe");
    llm_file f;
    llm_error e;
    CHECK(mkfifo(path, 0600) == 0);
    for (int mapped = 0; mapped < 2; mapped++) {
        const pid_t writer = fork();
        if (writer == 0) {
            FILE *p = fopen(path, "wb");
            for (int i = 0; i < 30000; i++) fprintf(p, "%06d\n", i);
            fclose(p);
            _exit(0);
        }
        file_opens = 0;
        CHECK(mapped ? llm_file_map(&f, path, &e) : llm_file_read(&f, path, &e));
        CHECK(f.size == 210000 && !f.mapped && file_opens == 0);
        CHECK(memcmp(f.data + 209993, "029999\n", 8) == 0);
        llm_file_free(&f);
        waitpid(writer, NULL, 0);
    }
}

TEST(file, "when memory is out, at any call, nothing leaks and the old file stays") {
    const char *path = test_path("kept"), *data = "new and longer";
    llm_error e;
    CHECK(llm_file_write(path, "old", 3, &e));
    int calls = 0;
    for (;; calls++) {
        file_calls = calls;
        memset(&e, 0, sizeof e);
        const bool ok = llm_file_write(path, data, 14, &e);
        file_calls = 1 << 30;
        if (ok) break;
        CHECK(strstr(e.message, "kept: cannot be written: Cannot allocate memory"));
        CHECK(file_holds(path, "old", 3) && file_names() == 1);
    }
    CHECK(calls == 2 && file_holds(path, data, 14));
    char *large = (char *)test_memory(200000, 1);
    CHECK(llm_file_write(path, large, 200000, &e));
    for (calls = 0;; calls++) {
        llm_file f;
        file_calls = calls;
        const bool ok = llm_file_read(&f, path, &e);
        file_calls = 1 << 30;
        CHECK(ok == (f.data != NULL) && (ok || f.size == 0));
        if (ok) CHECK(f.size == 200000);
        llm_file_free(&f);
        if (ok) break;
        CHECK(strstr(e.message, "kept: cannot be read: Cannot allocate memory"));
    }
    CHECK(calls > 2 && calls < 8); /* it grows by half: 65 KB to 200 KB */
}
