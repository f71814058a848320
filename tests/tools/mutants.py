"""Breaks sections of llm.h one edit at a time; the section's tests must notice (`make lint-tests`).

All mutants of a section are compiled into one program: each function stands there once for every mutant, and the
environment variable MUTANT chooses. What survives is run again under ASan and UBSan. Mutants outside function bodies
(tables, enums) are compiled on their own. Survivors stand in tests/mutants.txt, with the reason."""
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

CC = os.environ.get("CC", "cc").split()
JOBS = int(os.environ.get("JOBS", "2"))
PLAIN = ["-O1"]
SANITIZED = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
RULES = [(r"(?<=[\w)\]] )\+(?= )", "-"), (r"(?<=[\w)\]] )-(?= )", "+"), (r"(?<=[\w)\]] )\*(?= [\w(*&])", "/"),
         (r"(?<= )/(?= )", "*"), (r"(?<= )%(?= )", "/"), (r"\+=", "-="), (r"-=", "+="), (r"\*=", "/="), (r"/=", "*="),
         (r"(?<= )<(?= )", "<="), (r"(?<= )<=(?= )", "<"), (r"(?<= )>(?= )", ">="), (r"(?<= )>=(?= )", ">"),
         (r"==", "!="), (r"!=", "=="), (r"&&", "||"), (r"\|\|", "&&"), (r"(?<=[( ])!(?=[\w(])", ""),
         (r"(?<= )<<(?= )", ">>"), (r"(?<= )>>(?= )", "<<"), (r"(?<= )&(?= )", "|"), (r"(?<= )\|(?= )", "&"),
         (r"(?<= )\^(?= )", "|"), (r"\bfminf\b", "fmaxf"), (r"\bfmaxf\b", "fminf"), (r"\bfmin\b", "fmax"),
         (r"\bfmax\b", "fmin"), (r"(?<=[( ])-(?=[\w(])", ""), (r"\btrue\b", "false"), (r"\bfalse\b", "true")]
CHOOSE = """static int llm_mutant;
__attribute__((constructor)) static void llm_mutant_choose(void) {
    llm_mutant = getenv("MUTANT") ? atoi(getenv("MUTANT")) : -1;
}
"""
NUMBER = r"(?<![\w.])(\d+\.?\d*(?:e[+-]?\d+)?|0x[0-9a-fA-F]+)([fuUlL]*)(?![\w.])"
LARGER = r"(\w+(?:\[[^\]]*\])?) [<>]=? (\w+(?:\[[^\]]*\])?) \? (?:\1 : \2|\2 : \1)"  # < and <= are the same here


class Mutant:
    """text[start:end] of a section becomes new."""

    def __init__(self, start, end, new, what):
        self.start, self.end, self.new, self.what = start, end, new, what
        self.line, self.state = "", "not run"


def another(number):
    """A constant that differs: 0 and 1 swap, others double (float) or grow by one."""
    digits, suffix = number[1], number[2]
    if digits.startswith("0x"):
        return hex(int(digits, 16) + 1) + suffix
    if re.fullmatch(r"\d+", digits):
        return {"0": "1", "1": "0"}.get(digits, str(int(digits) + 1)) + suffix
    value = float(digits)
    return repr(1.0 if value == 0 else 0.0 if value == 1 else 2 * value) + suffix


def statements(code):
    """Statements of one line that can be deleted: no declarations, returns only behind a condition."""
    at = 0
    for line in code.splitlines(keepends=True):
        start, end, guarded = at + len(line) - len(line.lstrip()), at + len(line.rstrip()), False
        begins = code[:start].rstrip()[-1:] in (";", "{", "}", ")", ":")
        at += len(line)
        while (m := re.compile(r"(?:\} )?(?:else )?(?:if|for|while) (?=\()").match(code, start)):
            try:
                start = book.closing(code, m.end()) + 2
            except ValueError:
                break
            guarded = True
        text = code[start:end]
        if not begins or not text.endswith(";") or text.count("(") != text.count(")") or "{" in text:
            continue
        if re.match(r"\w+ \**\w", text) and not (guarded and text.startswith("return")):
            continue
        if re.match(r"[\w*]", text) and text != "return;" or guarded and text != ";":
            yield start, end


def edits(text):
    """Every mutant of a section's text, in its order."""
    code, found = book.blank(text, directives=True), []
    idioms = [m.span() for m in re.finditer(LARGER, code)]
    for pattern, new in RULES:
        for m in re.finditer(pattern, code):
            swap = new
            if any(a <= m.start() < b for a, b in idioms) and m[0][0] in "<>":
                swap = ">" if m[0][0] == "<" else "<"
            found.append(Mutant(m.start(), m.end(), swap, f"`{m[0]}` -> `{swap}`"))
    for m in re.finditer(NUMBER, code):
        new = "255" if re.search(r"memset\([^;]*, $", code[:m.start()].rsplit("\n", 1)[-1]) else another(m)
        found.append(Mutant(m.start(), m.end(), new, f"`{m[0]}` -> `{new}`"))
    for m in re.finditer(r"(?<=\w)\[(?=[^\]\d])", code):  # an index that is not a constant; no declarations
        close = book.closing(code, m.start())
        line = code[code.rfind("\n", 0, m.start()) + 1:m.start()]
        if not re.match(r"\s*(static |const |unsigned )*(float|double|int|bool|char|size_t|\w+_t|llm_\w+) [^=(]*$", line):
            found.append(Mutant(close, close, " + 1", f"`{code[m.start():close + 1]}` -> one further"))
    for m in re.finditer(r"\bif \((\w+)\)", code):
        found.append(Mutant(m.start(1), m.end(1), "!" + m[1], f"`{m[1]}` -> `!{m[1]}`"))
    for m in re.finditer(r"\w\(([a-z]\w*), ([a-z]\w*)(?=[,)])", code):  # two arguments change places
        if not re.search(r"\w[ *]+$", code[:m.start(1)].rsplit("\n", 1)[-1]) and m[1] != m[2]:
            found.append(Mutant(m.start(1), m.end(2), f"{m[2]}, {m[1]}", f"`{m[1]}, {m[2]}` -> swapped"))
    for a, b in statements(code):
        found.append(Mutant(a, b, ";", f"`{' '.join(text[a:b].split())}` -> deleted"))
    for f in book.functions(text):
        found.append(Mutant(f.open, f.end, book.stub_body(f), f"stub of {f.name}"))
    seen = {}
    found.sort(key=lambda m: (m.start, m.end))
    for m in found:
        begin, end = text.rfind("\n", 0, m.start) + 1, text.find("\n", m.start)
        m.line = " ".join(text[begin:end].split())
        seen[begin, m.what] = number = seen.get((begin, m.what), 0) + 1
        m.what += f" (number {number})" if number > 1 else ""
    return found


def schema(text, mutants, chosen):
    """The section with every function once for each chosen mutant; also the lines where each one stands."""
    parts, at, lines = [CHOOSE], 0, {}
    for f in book.functions(text):
        inside = [k for k in chosen if f.open <= mutants[k].start and mutants[k].end <= f.end]
        if not inside or f.variadic:
            continue
        head, name = text[f.start:f.open], re.compile(rf"\b{f.name}(?=\s*\()")
        parts += [text[at:f.start], head, ";\n", name.sub(f.name + "_original", head, count=1), text[f.open:f.end], "\n"]
        before = "".join(parts).count("\n")
        for k in inside:
            m = mutants[k]
            parts += [name.sub(f"{f.name}_{k}", head, count=1), text[f.open:m.start], m.new, text[m.end:f.end], "\n"]
            after = before + "".join(parts[-5:]).count("\n")
            lines[k] = (before, after)
            before = after
        back, end = ("", " return;") if f.returns == "void" else ("return ", "")
        call = "(" + ", ".join(f.parameters) + ");" + end + "\n"
        cases = [f"    case {k}: {back}{f.name}_{k}{call}" for k in inside]
        parts += [head, "{\n    switch (llm_mutant) {\n", *cases, f"    default: {back}{f.name}_original{call}", "    }\n}\n"]
        at = f.end
    return "".join(parts) + text[at:], lines


def build(folder, header, s, flags):
    """Compiles the section's suite against a header; returns the program, or the compiler's message."""
    tree = book.shadow_tree(folder, header, s.chapter)
    program = tree / "suite"
    r = subprocess.run(CC + ["-std=c99", "-w", *flags, str(tree / "tests" / s.chapter / (s.slug + ".c")), "-o",
                             str(program), "-lm"], capture_output=True, text=True)
    return (program, "") if r.returncode == 0 else (None, r.stderr)


def limits():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 28, 1 << 28))


def fails(program, mutant, seconds):
    """True when the suite is red (or does not end in time) with that mutant."""
    env = {**os.environ, "MUTANT": str(mutant), "TEST_FIRST": "1", "TEST_SECONDS": str(max(1, round(seconds))),
           "ASAN_OPTIONS": "hard_rss_limit_mb=4000:allocator_may_return_null=1:" + os.environ.get("ASAN_OPTIONS", "")}
    with subprocess.Popen([program], env=env, cwd=book.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          start_new_session=True, preexec_fn=limits) as p:
        try:
            return p.wait(timeout=seconds + 1) != 0
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            return True


def run_together(text, s, mutants, chosen, flags):
    """Sets the state of the chosen mutants that stand in functions; returns what the suite may take, in seconds."""
    chosen = list(chosen)
    with tempfile.TemporaryDirectory() as folder:
        while True:
            body, lines = schema(s.text, mutants, chosen)
            program, message = build(folder, text[:s.start] + body + text[s.end:], s, flags)
            if program:
                break
            first = text.count("\n", 0, s.start)
            errors = {int(n) - first for n in re.findall(r"llm\.h:(\d+):\d+: (?:fatal )?error", message)}
            broken = [k for k, (a, b) in lines.items() if any(a < n <= b for n in errors)]
            if not broken:
                raise SystemExit(f"@{s.slug} does not compile as mutants:\n{message[:2000]}")
            for k in broken:
                mutants[k].state = "does not compile"
                chosen.remove(k)
        start = time.time()
        if fails(program, -1, 120):
            raise SystemExit(f"@{s.slug}: its tests fail without a mutant")
        seconds = max(1.0, 3 * (time.time() - start))
        with ThreadPoolExecutor(JOBS) as pool:
            for k, killed in zip(lines, pool.map(lambda k: fails(program, k, seconds), lines)):
                mutants[k].state = "killed" if killed else "survived"
    return seconds


def run_alone(text, s, mutant, seconds):
    """A mutant outside function bodies: compiled on its own, plain and then sanitized."""
    body = s.text[:mutant.start] + mutant.new + s.text[mutant.end:]
    for flags, factor in ((PLAIN, 1), (SANITIZED, 8)):
        with tempfile.TemporaryDirectory() as folder:
            program, _ = build(folder, text[:s.start] + body + text[s.end:], s, flags)
            if not program:
                return "does not compile"
            if fails(program, -1, factor * seconds):
                return "killed"
    return "survived"


def examine(text, s, most):
    """All mutants of a section with their state; at most `most` of them, spread evenly."""
    mutants = edits(s.text)
    if most and len(mutants) > most:
        mutants = [mutants[i * len(mutants) // most] for i in range(most)]
    if not mutants:
        return mutants
    seconds = run_together(text, s, mutants, range(len(mutants)), PLAIN)
    again = [k for k, m in enumerate(mutants) if m.state == "survived"]
    if again:
        run_together(text, s, mutants, again, SANITIZED)
    with ThreadPoolExecutor(JOBS) as pool:
        alone = [m for m in mutants if m.state == "not run"]
        for m, state in zip(alone, pool.map(lambda m: run_alone(text, s, m, seconds), alone)):
            m.state = state
    return mutants


def report(text, s, most, known, todo):
    """Prints the section's score, adds survivors without reason to todo; True when its tests are good enough."""
    start = time.time()
    mutants = examine(text, s, most)
    compiled = [m for m in mutants if m.state != "does not compile"]
    survivors = [m for m in compiled if m.state == "survived"]
    reasons = {m: known.get((s.slug, m.what, m.line), "") for m in survivors}
    equivalent = sum(r.startswith("equivalent") for r in reasons.values())
    killed, stub = len(compiled) - len(survivors), any(m.what.startswith("stub of") for m in survivors)
    good = all(reasons.values()) and not stub and killed >= 0.9 * (len(compiled) - equivalent)
    print(f"{'ok  ' if good else 'FAIL'} @{s.slug}: {killed} of {len(compiled)} mutants killed, {equivalent} equivalent, "
          f"{len(mutants) - len(compiled)} do not compile, {time.time() - start:.0f} s")
    for m in survivors:
        if not reasons[m]:
            print(f"    llm.h:{s.line + s.text.count(chr(10), 0, m.start)}: survived: {m.what} in {m.line}")
            todo.append("\t".join((s.slug, m.what, m.line, "?")))
    sys.stdout.flush()
    return good


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--topic", default="")
    options.add_argument("--chapter", default="")
    options.add_argument("--sample", type=int, default=0, help="this many sections, chosen by the commit")
    options.add_argument("--most", type=int, default=0, help="at most this many mutants a section")
    o = options.parse_args()
    text = (book.ROOT / "llm.h").read_text()
    chosen = [s for s in book.sections(text) if s.chapter.startswith(o.chapter) and o.topic in ("", s.slug)]
    tested = [s for s in chosen if s.test().exists() and book.functions(s.text)]
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
            failed += not report(text, s, o.most, known, todo)
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
