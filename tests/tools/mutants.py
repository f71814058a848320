"""Breaks sections of llm.h one edit at a time; the section's tests must notice (`make lint-tests`).

All mutants of a section are compiled into one program: each function stands there once for every mutant, and the
environment variable MUTANT chooses. Only the TESTs that call the function run, the fastest first. What survives is run
again under ASan and UBSan. Mutants outside function bodies (tables, enums) are compiled on their own. Survivors stand
in tests/mutants.txt, with the reason."""
import argparse
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import book
import mutate

CC = os.environ.get("CC", "cc").split()
CXX = os.environ.get("CXX", "c++").split()
JOBS = int(os.environ.get("JOBS", "2"))
PLAIN = ["-O1"]
SANITIZED = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
ALONE = 12  # at most this many mutants outside function bodies: each is a program of its own
RECORD = -1  # no mutant; each TEST tells the functions it calls
CHOOSE = """static int llm_mutant, llm_mutant_output;
__attribute__((constructor)) static void llm_mutant_choose(void) {
    llm_mutant = getenv("MUTANT") ? atoi(getenv("MUTANT")) : -2;
    if (llm_mutant == -1) llm_mutant_output = dup(1); /* a TEST may close or redirect its own */
}
static inline void llm_mutant_call(int *called, const char *name) {
    if (llm_mutant == -1 && !*called) dprintf(llm_mutant_output, "\\ncalled %s\\n", name);
    *called = 1;
}
"""


def copied(text):
    """The functions that can stand there several times."""
    return [f for f in book.functions(text) if not f.variadic and "#" not in text[f.start:f.open]]


def schema(text, mutants, chosen):
    """The section with every function once for each chosen mutant; also the lines where each one stands."""
    parts, at, lines = [CHOOSE], 0, {}
    for f in copied(text):
        inside = [k for k in chosen if f.open <= mutants[k].start and mutants[k].end <= f.end]
        if not inside:
            continue
        head, name = text[f.start:f.open], re.compile(rf"\b{f.name}(?=\s*\()")
        original = name.sub(f.name + "_original", head, count=1) + text[f.open:f.end]
        parts += [text[at:f.start], head, ";\n", original, "\n"]
        before = "".join(parts).count("\n")
        for k in inside:
            m = mutants[k]
            parts += [name.sub(f"{f.name}_{k}", head, count=1), text[f.open:m.start], m.new, text[m.end:f.end], "\n"]
            after = before + "".join(parts[-5:]).count("\n")
            lines[k] = (before, after)
            before = after
        back, end = ("", " return;") if f.returns == "void" else ("return ", "")
        names = re.match(r"\s*template\s*<(.*?)>\s", head, re.S)
        given = "<" + ", ".join(p.split()[-1] for p in names[1].split(",")) + ">" if names else ""
        call = given + "(" + ", ".join(f.parameters) + ");" + end + "\n"
        cases = [f"    case {k}: {back}{f.name}_{k}{call}" for k in inside]
        cases.insert(0, f"    default: {back}{f.name}_original{call}")  # first: its templates are made first
        parts += [head, "{\n    static int called;\n    llm_mutant_call(&called, \"", f.name, "\");\n",
                  "    switch (llm_mutant) {\n", *cases, "    }\n}\n"]
        at = f.end
    return "".join(parts) + text[at:], lines


def build(folder, header, s, flags):
    """Compiles the section's suite against a header; returns the program, or the compiler's message."""
    tree = book.shadow_tree(folder, header, s.chapter, s.header)
    program, test = tree / "suite", tree / "tests" / s.chapter / s.suite.name
    if s.suite.suffix == ".cu":
        shared = ["-fsanitize-sections=emulate_shared"] if flags == SANITIZED and "clang" not in CXX[0] else []
        command = CXX + ["-std=c++17", "-w", *flags, *shared, "-x", "c++", str(test), "-o", str(program)]
    else:
        command = CC + ["-std=c99", "-w", *flags, str(test), "-o", str(program), "-lm"]
    r = subprocess.run(command, capture_output=True, text=True)
    return (program, "") if r.returncode == 0 else (None, r.stderr)


def left_out(text, s, mutants):
    """The mutants in lines that the preprocessor leaves out of both builds: another processor's, another compiler's."""
    body, at, kept = "", 0, set()
    for k, m in enumerate(mutants):
        body += f"{s.text[at:m.start]} llm_mutant_{k}_here "
        at = m.start
    body = text[:s.start] + body + s.text[at:] + text[s.end:]
    for flags in (PLAIN, SANITIZED):
        with tempfile.TemporaryDirectory() as folder:
            seen, message = build(folder, body, s, flags + ["-E", "-P"])
            if not seen:
                raise SystemExit(f"@{s.slug} does not preprocess:\n{message[:2000]}")
            kept |= {int(k) for k in re.findall(r"llm_mutant_(\d+)_here", seen.read_text(errors="replace"))}
    return [m for k, m in enumerate(mutants) if k not in kept]


def limits():
    """A mutant may not fill the disk. The suite may: only the soft limit is set."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 28, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def run(program, mutant, plan):
    """Runs the TESTs of a plan, [(number, seconds)], in that order; all of them without one. Returns status and
    output."""
    env = {**os.environ, "MUTANT": str(mutant), "TEST_FIRST": "1", "TEST_SECONDS": "120", "TEST_VERBOSE": "1",
           "ASAN_OPTIONS": "hard_rss_limit_mb=4000:allocator_may_return_null=1:" + os.environ.get("ASAN_OPTIONS", "")}
    if plan:
        env["TEST_PLAN"] = " ".join(f"{number}:{seconds}" for number, seconds in plan)
    with tempfile.TemporaryFile() as output, subprocess.Popen(
            [program], env=env, cwd=book.ROOT, stdout=output, stderr=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=limits) as p:
        try:
            status = p.wait(timeout=10 * sum(seconds for _, seconds in plan) + 10 if plan else 600)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            status = 1
        output.seek(0)
        return status, output.read().decode(errors="replace")


class Plans:
    """Which TESTs call a function, the fastest first: no other one can notice its mutants. From a run without mutants,
    which takes up to `slower` times as long with one."""

    def __init__(self, program, s, slower=4):
        status, output = run(program, RECORD, None)
        if status:
            raise SystemExit(f"@{s.slug}: its tests fail without a mutant")
        self.seconds, self.callers, called, self.slower = [], {}, set(), slower
        for line in re.findall(r"^(?:called \w+|ok   @.*\(\d+\.\d+ s\))$", output, re.M):
            if line.startswith("called"):
                called.add(line.split()[1])
                continue
            for name in called:
                self.callers.setdefault(name, []).append(len(self.seconds))
            self.seconds.append(float(re.search(r"(\d+\.\d+) s\)$", line)[1]))
            called = set()

    def of(self, numbers):
        return [(n, max(2, round(self.slower * self.seconds[n]))) for n in sorted(numbers, key=self.seconds.__getitem__)]

    def all(self):
        return self.of(range(len(self.seconds)))


def blamed(message, header, lines, first):
    """The mutants that the compiler's errors speak of. In a chain of templates it is the outermost one: what it
    instantiates with wrong types is not to blame."""
    broken, outer = set(), None
    pattern = r": (In) \w+|" + re.escape(header) + r":(\d+):\d+: +((?:fatal )?error|required from)"
    for m in re.finditer(pattern, message):
        if m[1]:
            outer = None
            continue
        inside = [k for k, (a, b) in lines.items() if a < int(m[2]) - first <= b]
        if m[3] == "required from":
            outer = inside[0] if inside else outer
        else:
            broken |= set(inside if outer is None else [outer])
    return broken


def run_together(text, s, mutants, chosen, flags):
    """Sets the state of the chosen mutants that stand in functions."""
    chosen = list(chosen)
    with tempfile.TemporaryDirectory() as folder:
        while True:
            body, lines = schema(s.text, mutants, chosen)
            program, message = build(folder, text[:s.start] + body + text[s.end:], s, flags)
            if program:
                break
            broken = blamed(message, s.header, lines, text.count("\n", 0, s.start))
            if not broken:
                raise SystemExit(f"@{s.slug} does not compile as mutants:\n{message[:2000]}")
            for k in broken:
                mutants[k].state = "does not compile"
                chosen.remove(k)
        plans, functions = Plans(program, s), copied(s.text)

        def state(k):
            name = next(f.name for f in functions if f.open <= mutants[k].start and mutants[k].end <= f.end)
            plan = plans.of(plans.callers.get(name, []))
            return "killed" if plan and run(program, k, plan)[0] else "survived"
        with ThreadPoolExecutor(JOBS) as pool:
            for k, result in zip(lines, pool.map(state, lines)):
                mutants[k].state = result


def run_alone(text, s, mutant, plan):
    """A mutant outside function bodies: compiled on its own, plain and then sanitized."""
    body = s.text[:mutant.start] + mutant.new + s.text[mutant.end:]
    for flags, factor in ((PLAIN, 1), (SANITIZED, 8)):
        with tempfile.TemporaryDirectory() as folder:
            program, _ = build(folder, text[:s.start] + body + text[s.end:], s, flags)
            if not program:
                return "does not compile"
            if run(program, RECORD, [(number, factor * seconds) for number, seconds in plan])[0]:
                return "killed"
    return "survived"


def keys(mutants):
    """What names each mutant in another version of the section: its edit, its line, which of the equal ones it is."""
    seen = {}
    for m in mutants:
        n = seen[m.what, m.line] = seen.get((m.what, m.line), -1) + 1
        yield f"{m.what}\t{m.line}\t{n}"


def examine(text, s, most, again):
    """All mutants of a section with their state; at most `most` of them, spread evenly. again: those that the last run
    saw killed, or not compiling, keep that state."""
    mutants, record = mutate.edits(s.text), book.ROOT / "build" / "mutants" / s.suite.name
    named = list(zip(mutants, keys(mutants)))
    if again and record.exists():
        last = dict(line.rsplit("\t", 1) for line in record.read_text().splitlines())
        for m, key in named:
            m.state = last.get(key, m.state)
    if most and len(mutants) > most:
        mutants = [mutants[i * len(mutants) // most] for i in range(most)]
    inside = [(f.open, f.end) for f in copied(s.text)]
    alone = [m for m in mutants if not any(a <= m.start and m.end <= b for a, b in inside)]
    alone = set(alone) - {alone[i * len(alone) // ALONE] for i in range(ALONE)} if len(alone) > ALONE else set()
    mutants = [m for m in mutants if m not in alone]
    if re.search(r"^[ \t]*#[ \t]*(el)?if", s.text, re.M):
        for m in left_out(text, s, mutants):
            mutants.remove(m)
    if not mutants:
        return mutants
    todo = [k for k, m in enumerate(mutants) if m.state == "not run"]
    if todo:
        run_together(text, s, mutants, todo, PLAIN)
    survived = [k for k, m in enumerate(mutants) if m.state == "survived"]
    if survived:
        run_together(text, s, mutants, survived, SANITIZED)
    alone = [m for m in mutants if m.state == "not run"]
    if alone:
        with tempfile.TemporaryDirectory() as folder:
            plan = Plans(build(folder, text, s, PLAIN)[0], s).all()
        with ThreadPoolExecutor(JOBS) as pool:
            for m, state in zip(alone, pool.map(lambda m: run_alone(text, s, m, plan), alone)):
                m.state = state
    if not most:
        record.parent.mkdir(parents=True, exist_ok=True)
        known = [f"{key}\t{m.state}\n" for m, key in named if m.state in ("killed", "does not compile")]
        record.write_text("".join(known))
    return mutants


def report(text, s, most, again, known, todo):
    """Prints the score, adds survivors without reason to todo; True when the tests are good enough. Of a part of the
    mutants (most > 0), whose share is off by 5% either way, eight in ten must be killed."""
    start = time.time()
    mutants = examine(text, s, most, again)
    if not mutants:
        print(f"ok   @{s.slug}: nothing to replace")
        return True
    compiled = [m for m in mutants if m.state != "does not compile"]
    survivors = [m for m in compiled if m.state == "survived"]
    reasons = {m: known.get((s.slug, m.what, m.line), "") for m in survivors}
    equivalent = sum(r.startswith("equivalent") for r in reasons.values())
    killed, stubs = len(compiled) - len(survivors), [m for m in compiled if m.what.startswith("stub of")]
    empty = stubs and all(m in survivors for m in stubs)  # the whole section may be a stub
    here = {" ".join(line.split()) for line in s.text.splitlines()}
    alive = {(s.slug, m.what, m.line) for m in survivors}
    stale = [key for key in known if key[0] == s.slug and key[2] in here and key not in alive and not most]
    good = (most or all(reasons.values())) and not empty and not stale and killed >= (0.8 if most else 0.9) * (len(compiled) - equivalent)
    verdict = "ok  " if good else "FAIL"
    print(f"{verdict} @{s.slug}: {killed} of {len(compiled)} mutants killed, {equivalent} equivalent, "
          f"{len(mutants) - len(compiled)} do not compile, {time.time() - start:.0f} s")
    for m in survivors:
        if not reasons[m]:
            print(f"    {s.header}:{s.line + s.text.count(chr(10), 0, m.start)}: survived: {m.what} in {m.line}")
            todo.append("\t".join((s.slug, m.what, m.line, "?")))
    if empty:
        print("    all functions may be stubs: these tests test nothing")
    for _, what, line in stale:
        print(f"    tests/mutants.txt lists what does not survive: {what} in {line}")
    sys.stdout.flush()
    return good


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--topic", default="")
    options.add_argument("--chapter", default="")
    options.add_argument("--cuda", action="store_true", help="kernels: llm_cuda.cuh and slug.cu")
    options.add_argument("--sample", type=int, default=0, help="this many sections, chosen by the commit")
    options.add_argument("--most", type=int, default=0, help="at most this many mutants a section")
    options.add_argument("--again", action="store_true", help="only what survived last time and changed lines")
    o = options.parse_args()
    header, ending = ("llm_cuda.cuh", ".cu") if o.cuda else ("llm.h", ".c")
    text, tested = (book.ROOT / header).read_text(), []
    for s in book.sections(text):
        s.header, s.suite = header, s.test(ending)
        wanted = s.chapter.startswith(o.chapter) and o.topic in ("", s.slug)
        if wanted and s.suite.exists() and (o.topic or mutate.edits(s.text)):
            tested.append(s)
    if o.sample and o.sample < len(tested):
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=book.ROOT, capture_output=True, text=True).stdout
        tested = random.Random(commit).sample(tested, o.sample)
    known, todo, failed = {}, [], 0
    for line in (book.ROOT / "tests" / "mutants.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            slug, what, place, reason = line.split("\t")
            known[slug, what, place] = reason.strip(" ?")
    for s in tested:
        try:
            failed += not report(text, s, o.most, o.again, known, todo)
        except SystemExit as e:
            print("FAIL", e, flush=True)
            failed += 1
    if todo:
        (book.ROOT / "build").mkdir(exist_ok=True)
        (book.ROOT / "build" / "mutants.txt").write_text("\n".join(todo) + "\n")
        print("Kill the survivors, or copy them from build/mutants.txt to tests/mutants.txt with the reason.")
    print(f"{len(tested) - failed} passed, {failed} failed")
    sys.exit(failed > 0 or not tested)


if __name__ == "__main__":
    main()
