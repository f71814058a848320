"""Write a section of llm.h again: `make exercise`, `check`, `hint`, `solution`, `progress`, `watch`, `reset`.

exercises/SLUG.h is the section with the bodies of its functions taken out. `check` puts that file into a copy of llm.h
in the section's place, builds the section's tests with ASan and UBSan, and stops at the first failure."""
import argparse
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

import book

FOLDER = book.ROOT / "exercises"
CC = os.environ.get("CC", "cc").split()
CXX = os.environ.get("CXX", "c++").split()
FLAGS = ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
C = ["-std=c99", "-Wall", "-Wextra", "-Wno-misleading-indentation"]
CUDA = ["-std=c++17", "-w", "-x", "c++"]


class Exercise:
    def __init__(self, slug, cuda):
        if not slug:
            raise SystemExit("which one? TOPIC=rmsnorm, for example")
        self.slug, self.cuda = slug, cuda
        self.header = "llm_cuda.cuh" if cuda else "llm.h"
        self.text = (book.ROOT / self.header).read_text()
        self.section = book.section(slug, self.text, self.header)
        self.file = FOLDER / (slug + (".cuh" if cuda else ".h"))
        self.tests = self.section.test(".cu" if cuda else ".c")
        self.call = f"TOPIC={slug}" + (" CUDA=1" if cuda else "")

    def write(self):
        """Never overwrites."""
        if self.file.exists():
            print(f"{self.file.relative_to(book.ROOT)} is there already; make reset {self.call} starts again")
            return
        todo = [f.name for f in book.functions(self.section.text)]
        if not todo:
            raise SystemExit(f"@{self.slug} has no function to write")
        FOLDER.mkdir(exist_ok=True)
        self.file.write_text(book.stubbed(self.section.text).rstrip() + "\n")
        print(f"exercises/{self.file.name}: {', '.join(todo)}\nThen: make check {self.call}")

    def spliced(self):
        """The header with the learner's file in the section's place; messages name the learner's lines."""
        s, own = self.section, self.file.read_text()
        after = self.text.count("\n", 0, s.end) + 1
        return (f'{self.text[:s.start]}#line 1 "exercises/{self.file.name}"\n{own}\n'
                f'#line {after} "{self.header}"\n{self.text[s.end:]}')

    def run(self, header, **environment):
        """Builds and runs the tests on a header: (compiled, what was printed, what compiler and sanitizers said)."""
        with tempfile.TemporaryDirectory() as folder:
            tree = book.shadow_tree(folder, header, self.section.chapter, self.header)
            test, program = tree / "tests" / self.section.chapter / self.tests.name, tree / "suite"
            if self.cuda:
                shared = [] if "clang" in CXX[0] else ["-fsanitize-sections=emulate_shared"]
                command = CXX + CUDA + FLAGS + shared + [str(test), "-o", str(program)]
            else:
                command = CC + C + FLAGS + [str(test), "-o", str(program), "-lm"]
            r = subprocess.run(command, capture_output=True, text=True)
            if r.returncode:
                return False, "", r.stderr.replace(folder + "/", "")
            env = {**os.environ, "TEST_SECONDS": "30", "TEST_TRAFFIC": "1", **environment}
            t = subprocess.run([program], cwd=book.ROOT, env=env, capture_output=True, text=True, errors="replace")
            return True, t.stdout.replace(folder + "/", ""), (r.stderr + t.stderr).replace(folder + "/", "")

    def check(self):
        """Runs the tests on the learner's file; True when all of them pass."""
        if not self.file.exists():
            print(f"nothing written yet: make exercise {self.call}")
            return False
        if not self.tests.exists():
            raise SystemExit(f"{self.tests.relative_to(book.ROOT)} does not exist: nothing to check against")
        compiled, output, messages = self.run(self.spliced(), TEST_FIRST="1")
        if not compiled:
            print("\n".join(messages.splitlines()[:40]) + "\nit does not compile")
            return self.record("0 passed, 1 failed")
        for line in messages.splitlines():
            if line.startswith("exercises/") and "warning" in line:
                print(line)
        lines = output.splitlines() or ["0 passed, 1 failed"]
        for line in lines[:-1]:
            if line.startswith("traffic\t"):
                continue
            print(line)
            where = re.match(r"    (tests/[\w/-]+\.cu?):(\d+): ", line)
            if where and int(where[2]):
                self.show(int(where[2]))
        self.sanitizer(messages)
        good = self.record(lines[-1])
        if good and self.cuda:
            self.traffic(lines)
        print(lines[-1])
        return good

    def traffic(self, lines):
        """Bytes that llm_load and llm_store moved, beside those of the book's kernel."""
        count = lambda text: {p[1]: (int(p[2]), int(p[3])) for p in (x.split("\t") for x in text)
                              if p[0] == "traffic"}
        own, book_ = count(lines), count(self.run(self.text)[1].splitlines())
        for claim, (read, written) in own.items():
            r, w = book_.get(claim, (0, 0))
            print(f"{claim}:\n    reads {read} bytes (the book: {r}), writes {written} (the book: {w})")

    def show(self, number):
        """The lines of the TEST that lead to the failing check: what was put in."""
        lines = self.tests.read_text().splitlines()
        first = max(i for i in range(number) if lines[i].startswith("TEST(") or i == 0)
        for i in range(max(first, number - 14), number):
            print(f"    {'>' if i == number - 1 else ' '} {i + 1:4} {lines[i]}")

    def sanitizer(self, report):
        """What ASan and UBSan say, without the addresses."""
        keep = [line for line in report.splitlines() if "runtime error:" in line or "ERROR: Addr" in line or
                re.match(r"\s+#\d+ .* in llm_", line) or re.search(r"Assertion .* failed", line)]
        for line in keep[:8]:
            print("    " + re.sub(r"==\d+==|0x[0-9a-f]+ ", "", line).strip())

    def record(self, summary):
        """Remembers the last result for `make progress`."""
        passed = int(summary.split()[0]) if summary[:1].isdigit() else 0
        good = passed > 0 and summary.endswith(" 0 failed")
        results = {**recorded(), self.file.name: "done" if good else f"{passed} passed, then red"}
        (FOLDER / ".results").write_text("".join(f"{k}\t{v}\n" for k, v in sorted(results.items())))
        return good

    def hint(self):
        """The next of the note's hints: idea, formula, pseudo-code."""
        note = self.section.note()
        hints = note.read_text().split("\n## Hints\n")[1].split("\n## ")[0] if note.exists() else ""
        hints = [" ".join(h.split()) for h in re.findall(r"^\d\. (.*(?:\n(?!\d\. ).*)*)", hints, re.M)]
        if not hints:
            raise SystemExit(f"no hints for @{self.slug}")
        FOLDER.mkdir(exist_ok=True)
        given = FOLDER / f".hints-{self.slug}"
        count = min(int(given.read_text()) + 1 if given.exists() else 1, len(hints))
        given.write_text(str(count))
        for k in range(count):
            print(f"{k + 1}. {hints[k]}")
        print("That was the last one." if count == len(hints) else f"({len(hints) - count} more)")

    def solution(self):
        """The section as it stands; beside the learner's own, when there is one."""
        if not self.file.exists():
            print(self.section.text.rstrip())
            return
        own, book_ = self.file.read_text().rstrip().splitlines(), self.section.text.rstrip().splitlines()
        names = (f"exercises/{self.file.name}", self.header)
        print("\n".join(difflib.unified_diff(own, book_, *names, n=200, lineterm="")))

    def reset(self):
        """A fresh file; the old one is kept beside it."""
        if self.file.exists():
            kept = next(FOLDER / f"{self.file.name}.{k}" for k in range(1, 1000)
                        if not (FOLDER / f"{self.file.name}.{k}").exists())
            shutil.move(self.file, kept)
            print(f"the old one is exercises/{kept.name}")
        (FOLDER / f".hints-{self.slug}").unlink(missing_ok=True)
        self.write()

    def watch(self):
        """Checks again whenever the file changes, until Ctrl-C."""
        if not self.file.exists():
            self.write()
        seen = None
        while True:
            now = self.file.stat().st_mtime if self.file.exists() else None
            if now != seen:
                seen = now
                print("\n" + time.strftime("---- %H:%M:%S"))
                self.check()
                sys.stdout.flush()
            time.sleep(0.5)


def recorded():
    results = FOLDER / ".results"
    return dict(line.split("\t") for line in results.read_text().splitlines()) if results.exists() else {}


def progress():
    """Every file in exercises/ with its last result, and how much of the book that is."""
    results, done = recorded(), 0
    files = sorted(FOLDER.glob("*.h")) + sorted(FOLDER.glob("*.cuh"))
    for f in files:
        state = results.get(f.name, "not checked")
        done += state == "done"
        print(f"{f.name:32} {state}")
    every = sum(bool(book.functions(s.text)) for h in ("llm.h", "llm_cuda.cuh")
                for s in book.sections((book.ROOT / h).read_text()))
    print(f"{done} of {every} sections written" + ("" if files else "; begin with make exercise TOPIC=rmsnorm"))


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("what", choices="exercise check hint solution progress watch reset".split())
    options.add_argument("--topic", default="")
    options.add_argument("--cuda", action="store_true")
    o = options.parse_args()
    if o.what == "progress":
        return progress()
    e = Exercise(o.topic, o.cuda)
    try:
        good = {"exercise": e.write, "check": e.check, "hint": e.hint, "solution": e.solution, "watch": e.watch,
                "reset": e.reset}[o.what]()
    except KeyboardInterrupt:
        return print()
    sys.exit(o.what == "check" and not good)


if __name__ == "__main__":
    main()
