/* @error */
#include "../test.h"

#include "../../llm.h"

TEST(error, "llm_fail returns false, writes the sentence, and does without an error") {
    llm_error e;
    CHECK(!llm_fail(&e, "tensor '%s' has %d dimensions, expected %d", "wte", 3, 2));
    CHECK(strcmp(e.message, "tensor 'wte' has 3 dimensions, expected 2") == 0);
    CHECK(!llm_fail(NULL, "nobody reads %s", "this"));
}

TEST(error, "a long sentence is cut off at 255 bytes") {
    char text[600];
    llm_error e;
    for (size_t n = 250; n < 600; n += n < 260 ? 1 : 169) { /* 250 .. 260, 429, 598 */
        memset(text, 'a', n);
        text[n] = 0;
        memset(&e, 'x', sizeof e);
        CHECK(!llm_fail(&e, "%s", text));
        CHECK(memchr(e.message, 0, sizeof e.message) != NULL);
        CHECK(strlen(e.message) == (n < 255 ? n : 255));
        CHECK(strncmp(e.message, text, strlen(e.message)) == 0);
    }
}

TEST(error, "control characters do not reach the terminal, UTF-8 does") {
    llm_error e;
    llm_fail(&e,
             "a\x1b[2Jb\x7f"
             "c\td\n %s ~",
             "\x01\x1f\xc3\xa9");
    CHECK(strcmp(e.message, "a?[2Jb?c?d? ??\xc3\xa9 ~") == 0);
}
