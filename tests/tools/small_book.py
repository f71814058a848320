"""A small book with everything a scanner can trip over, and a copy of the tools around it, for test_tools.py."""
import os
import shutil
import subprocess
from pathlib import Path

import book

BOOK = r'''/* A small book. */
#ifndef LLM_H
#define LLM_H
#include <assert.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define LLM_API static inline __attribute__((unused))
#define LLM_ASSERT(cond) assert(cond)

/* CONTENTS (make toc) */

/* @00-base ================================================== COMMON GROUND */

/* @odd ------------------------------------------------------ Everything a scanner can trip over
 *
 * A brace { in a comment, and a "quote.
 *
 * source  -
 * needs   -
 * topics  -
 */
#define LLM_ODD_SWAP(a, b)                                                                         \
    do {                                                                                           \
        const int c = a;                                                                           \
        a = b, b = c;                                                                              \
    } while (0)

typedef struct {
    int count; /* } */
    float value[3];
} llm_odd_pair;
typedef enum { LLM_ODD_FIRST, LLM_ODD_SECOND } llm_odd_kind;
static const int llm_odd_table[2][2] = {{1, 2}, {3, 4}};
static const char *const llm_odd_words[] = {"{", "}", ";\"{", "/*"};

/* A helper. */
static inline int llm_odd_twice(int a) { return 2 * a; /* } */ }

/* Its declaration comes first. */
LLM_API bool llm_odd_later(const char *text);

/* A pair, and a signature of three lines. */
LLM_API llm_odd_pair llm_odd_make(int count, const float value[3],
                                  bool (*less)(int, int),
                                  const char *name) {
    llm_odd_pair p;
    p.count = less(1, 2) ? llm_odd_table[0][1] * count : (int)strlen(name);
    for (int i = 0; i < 3; i++) p.value[i] = value[i] + (float)'{';
    return p;
}
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
/* Variadic, behind an attribute. */
LLM_API int
llm_odd_print(char out[32], const char *format, ...) {
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(out, 32, format, args);
    va_end(args);
    return n;
}
/* The second kind. */
LLM_API llm_odd_kind llm_odd_other(void) { return LLM_ODD_SECOND; }
/* A word with a brace. */
LLM_API const char *llm_odd_word(size_t i) { return llm_odd_words[i]; }
LLM_API bool llm_odd_later(const char *text) {
    if (text[0] == '}') return true;
    return false;
}

/* @sum ------------------------------------------------------ Sum
 *
 * source  -
 * needs   odd
 * topics  -
 */

/* The sum of x (n), which is not empty, and its doubled count in *twice. */
LLM_API int llm_sum(int *twice, const int *x, size_t n) {
    LLM_ASSERT(n > 0);
    int sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    *twice = llm_odd_twice((int)n);
    return sum;
}

#endif
'''
SUITE = r'''#include "../test.h"

#include "../../llm.h"
TEST(sum, "of three") {
    const int x[3] = {1, 20, 300};
    int twice = 0;
    CHECK(llm_sum(&twice, x, 3) == 321);
    CHECK(twice == 6);
}
'''
NOTE = """# Sum

`@sum` in llm.h

## Hints

1. Idea: add.
2. Formula: s = x_1 + ...
   + x_n.
3. Pseudo-code: for each: add.

## Further

```c run
int twice, x[2] = {1, 2};
printf("%d\\n", llm_sum(&twice, x, 2));
```
```out
3
```

```c
    int sum = 0;
```
"""
SOLVED = "\n".join(["    int s = 0;", "    for (size_t i = 0; i < n; i++) s += x[i];", "    *twice = 2 * (int)n;",
                    "    return s;"])


class Repository:
    """A copy of the tools around the small book."""

    def __init__(self, folder):
        self.root = Path(folder)
        for name in ("tests/tools", "tests/00-base", "notes/00-base"):
            (self.root / name).mkdir(parents=True)
        for f in (book.ROOT / "tests" / "tools").glob("*.py"):
            shutil.copy(f, self.root / "tests" / "tools")
        shutil.copy(book.ROOT / "tests" / "test.h", self.root / "tests")
        shutil.copy(book.ROOT / "Makefile", self.root)
        self.write("llm.h", BOOK)
        self.write("llm_cuda.cuh", "/* none */\n#endif\n")
        self.write("tests/00-base/sum.c", SUITE)
        self.write("tests/mutants.txt", "")
        self.write("notes/00-base/sum.md", NOTE)
        self.write("notes/topics.tsv", "topic\tchapter\tslug\n")

    def write(self, name, text):
        (self.root / name).write_text(text)

    def read(self, name):
        return (self.root / name).read_text()

    def make(self, *arguments):
        """Everything `make` prints; the status as a last line."""
        r = subprocess.run(["make", "NVCC=", *arguments], cwd=self.root, capture_output=True, text=True,
                           env={**os.environ, "MAKEFLAGS": "", "MAKELEVEL": "0"})
        return f"{r.stdout}{r.stderr}\nstatus {r.returncode}"
