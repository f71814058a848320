"""The tools on a small book of their own: what they must find, and what they must leave alone."""
import os
import shutil
import subprocess
import sys
import tempfile

import book
import mutate
from small_book import BOOK, NOTE, SOLVED, Repository


def scanner(_):
    """Functions, and nothing else, are found; their parts are right."""
    odd, total = book.sections(BOOK)
    found = {f.name: f for f in book.functions(odd.text)}
    assert list(found) == ["llm_odd_twice", "llm_odd_make", "llm_odd_print", "llm_odd_other", "llm_odd_word",
                           "llm_odd_later"], list(found)
    assert found["llm_odd_make"].parameters == ["count", "value", "less", "name"]
    assert found["llm_odd_make"].returns == "llm_odd_pair" and found["llm_odd_word"].returns == "const char *"
    assert found["llm_odd_print"].variadic and found["llm_odd_print"].returns == "int"
    assert total.slug == "sum" and total.chapter == "00-base" and total.field("needs") == "odd"
    assert total.text.startswith("/* @sum") and total.text.rstrip().endswith("}")
    for part in ("size_t", "unsigned long", "const float *", "const T &"):
        try:
            book.parse_head(f"int f(int n, {part})")
            raise AssertionError(part)
        except SystemExit as e:
            assert str(e) == f"f has a parameter without a name: {part}", e


def stubs(repository):
    """Stubs compile without a warning as C99 and C++17, and keep everything but the bodies."""
    text = BOOK
    for s in reversed(book.sections(BOOK)):
        text = text[:s.start] + book.stubbed(s.text) + text[s.end:]
    for kept in ("LLM_ODD_SWAP", "llm_odd_table[2][2] = {{1, 2}", "float value[3];", "bool (*less)(int, int)"):
        assert kept in text, kept
    assert "strlen(name)" not in text and text.count("TODO") == 7
    repository.write("stub.h", text)
    for compiler in (["cc", "-std=c99", "-x", "c"], ["c++", "-std=c++17", "-x", "c++"]):
        if shutil.which(compiler[0]):
            r = subprocess.run([*compiler, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", repository.root / "stub.h"],
                               capture_output=True, text=True)
            assert r.returncode == 0, r.stderr


def learner(repository):
    """The way of a learner: exercise, red, hints, a crash, a solution, progress, reset."""
    assert "status 0" in repository.make("exercise", "TOPIC=sum")
    stub = repository.read("exercises/sum.h")
    assert "return 0;" in stub and stub.startswith("/* @sum") and "sum += x[i]" not in stub
    assert "is there already" in repository.make("exercise", "TOPIC=sum")
    red = repository.make("check", "TOPIC=sum")
    assert "not true: llm_sum(&twice, x, 3) == 321" in red and ">    7 " in red and "0 passed, 1 failed" in red, red
    assert "red" in repository.make("progress")
    assert "2. Formula" not in repository.make("hint", "TOPIC=sum")
    assert "x_1 + ... + x_n." in repository.make("hint", "TOPIC=sum")
    assert "3. Pseudo-code: for each: add." in repository.make("hint", "TOPIC=sum")
    body = stub[stub.index("{\n"):]
    wrong = stub.replace(body, "{\n" + SOLVED.replace("i < n", "i <= n") + "\n}\n")
    repository.write("exercises/sum.h", wrong)
    crash = repository.make("check", "TOPIC=sum")
    assert "exercises/sum.h:11:" in crash and ("runtime error" in crash or "overflow" in crash), crash
    repository.write("exercises/sum.h", stub.replace(body, "{\n" + SOLVED.replace("int s", "in s") + "\n}\n"))
    broken = repository.make("check", "TOPIC=sum")
    assert "exercises/sum.h:10:5: error" in broken and "it does not compile" in broken, broken
    repository.write("exercises/sum.h", stub.replace(body, "{\n" + SOLVED + "\n}\n"))
    assert "1 passed, 0 failed" in repository.make("check", "TOPIC=sum")
    assert "1 of 2 sections written" in repository.make("progress")
    assert "+    LLM_ASSERT(n > 0);" in repository.make("solution", "TOPIC=sum")
    assert "exercises/sum.h.1" in repository.make("reset", "TOPIC=sum")
    assert repository.read("exercises/sum.h") == stub and "s += x[i]" in repository.read("exercises/sum.h.1")
    assert "no section @nobody" in repository.make("exercise", "TOPIC=nobody")


def mutation(repository):
    """Each kind of edit is made, outside comments and strings; survivors are named; a reason is accepted."""
    odd, total = book.sections(BOOK)
    what = [m.what for m in mutate.edits(total.text)]
    for edit in ("`>` -> `>=`", "`0` -> `1`", "`<` -> `<=`", "`+=` -> `-=`", "`[i]` -> one further", "stub of llm_sum",
                 "`LLM_ASSERT(n > 0);` -> deleted", "`sum += x[i];` -> deleted"):
        assert edit in what, (edit, what)
    for m in mutate.edits(odd.text):
        assert "brace" not in m.line and "llm_odd_words[]" not in m.line, m.line
    parallel = "void f(float *x, size_t n) {\n    LLM_PARALLEL_MANY(n * 2, sizeof(float))\n    x[n] = 3;\n}\n"
    assert not [m.what for m in mutate.edits(parallel) if "LLM_PARALLEL" in m.line]
    assert "`3` -> `4`" in [m.what for m in mutate.edits(parallel)]
    output = repository.make("lint-tests", "TOPIC=sum")
    assert "survived: `LLM_ASSERT(n > 0);` -> deleted" in output and "0 passed, 1 failed" in output, output
    assert "`+=` -> `-=`" not in output and "stub of" not in output, output
    listed = repository.read("build/mutants.txt")
    repository.write("tests/mutants.txt", listed.replace("\t?", "\tequivalent: for this test of the tool"))
    output = repository.make("lint-tests", "TOPIC=sum")
    assert "1 passed, 0 failed" in output, output
    bare = BOOK.replace("/* @sum -", "/* @bare ----- Bare\n */\n#define LLM_BARE 1\n\n/* @sum -")
    other = "#ifdef LLM_ELSEWHERE\nenum { LLM_SUM_STEP = 7 };\n#endif\n"
    repository.write("llm.h", bare.replace("/* The sum of", other + "/* The sum of"))
    repository.write("tests/00-base/bare.c", '#include "../test.h"\nTEST(bare, "is bare") { CHECK(true); }\n')
    output = repository.make("lint-tests", "TOPIC=bare")
    assert "nothing to replace" in output and "1 passed, 0 failed" in output, output
    output = repository.make("lint-tests", "TOPIC=sum")  # nor is what this compiler does not see
    assert "1 passed, 0 failed" in output, output
    repository.write("llm.h", BOOK)
    os.remove(repository.root / "tests/00-base/bare.c")


def runner(repository):
    """A suite that does not compile or crashes is one failure beside the others; the sum is the last line."""
    repository.write("tests/00-base/odd.c", "nonsense\n")
    assert "1 passed, 1 failed" in repository.make("test", "CHAPTER=00")
    repository.write("tests/00-base/odd.c", '#include "../test.h"\nTEST(odd, "crash") { abort(); }\n')
    output = repository.make("test", "CHAPTER=00")
    assert "[Aborted]" in output and "1 passed, 1 failed" in output and "status 2" in output, output
    output = repository.make("test", "TOPIC=sum")
    assert "ok   @sum: of three" in output and "1 passed, 0 failed" in output and "status 0" in output, output
    assert "no tests match" in repository.make("test", "TOPIC=nobody")
    os.remove(repository.root / "tests/00-base/odd.c")


def house_rules(repository):
    """Lint names what is wrong with a banner, a name, a note."""
    subprocess.run(["git", "init", "-q"], cwd=repository.root, check=True)
    repository.make("toc")
    assert " *   sum                      Sum\n" in repository.read("llm.h")
    good = repository.read("llm.h")
    bad = good.replace("needs   odd", "needs   nobody").replace("llm_odd_twice((int)n)", "llm_odd_twice((int)n) ")
    bad = bad.replace("--- Sum", "-- Sum").replace("/* The second kind. */\n", "\n")
    repository.write("llm.h", bad)
    output = repository.make("lint", "CHAPTER=00")
    for complaint in ("title starts in column 63", "@sum needs @nobody", "@sum calls @odd",
                      "llm_odd_other has no comment", "@odd has no TEST", "@odd has no note", "@sum has no note"):
        assert (complaint in output) != (complaint == "@sum has no note"), (complaint, output)
    repository.write("llm.h", good)
    wrong = NOTE.replace("\n3\n", "\n4\n").replace("int sum = 0;\n```", "int sun;\n```")
    repository.write("notes/00-base/sum.md", wrong)
    output = repository.make("lint", "CHAPTER=00")
    for complaint in ("prints something else", "does not stand in llm.h", "has no ## Pitfalls"):
        assert complaint in output, (complaint, output)


def main():
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        repository = Repository(folder)
        for claim in (scanner, stubs, learner, mutation, runner, house_rules):
            try:
                claim(repository)
                passed += 1
            except AssertionError as e:
                failed += 1
                print(f"FAIL {claim.__name__}: {claim.__doc__}\n    line {e.__traceback__.tb_next.tb_lineno}: {e}")
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
