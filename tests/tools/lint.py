"""The house rules that a program can check: banners, names, comments, layout (`make lint`)."""
import argparse
import re
import subprocess
import sys

import book

FIELDS = ["source", "needs", "see", "topics"]
GROUND = {"base", "error", "arena", "rng", "size"}  # may go unnamed in `needs`
PATHS = re.compile(r"(?<![\w.])/(?:work|root|home|Users)/\w|\bworktree\b", re.I)
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX|PLACEHOLDER)\b|not implemented")
OWN_TESTS = {"emulate"}  # suites of the harness, not of a section


class Lint:
    def __init__(self, header):
        self.name, self.path = header, book.ROOT / header
        self.text = self.path.read_text()
        self.sections = book.sections(self.text)
        self.count = 0

    def say(self, line, message, name=None):
        self.count += 1
        print(f"{name or self.name}:{line}: {message}")

    def at(self, s, position):
        return s.line + s.text.count("\n", 0, position)


def planned():
    """slug -> chapter and topic titles, from notes/topics.tsv."""
    plan = {}
    for line in (book.ROOT / "notes" / "topics.tsv").read_text().splitlines()[1:]:
        topic, chapter, slug = line.split("\t")
        plan.setdefault(slug, (chapter, []))[1].append(topic)
    return plan


def banner(lint, s, plan, cuda):
    head = s.text.split("\n", 1)[0]
    wanted = min(64, 101 - len(s.title))
    if s.title_column != wanted:
        lint.say(s.line, f"@{s.slug}: the title starts in column {s.title_column}, not {wanted}")
    if "--- " not in head:
        lint.say(s.line, f"@{s.slug}: the banner needs dashes before the title")
    given = re.findall(r"^ \* (source|needs|see|topics)\b", s.banner(), re.M)
    if given != [f for f in FIELDS if f in given] or not cuda and not {"source", "needs", "topics"} <= set(given):
        lint.say(s.line, f"@{s.slug}: fields are source, needs, see (optional), topics, in this order")
    if cuda or s.field("topics") is None:
        return
    chapter, topics = plan.get(s.slug, (s.chapter, []))
    if s.chapter != chapter:
        lint.say(s.line, f"@{s.slug} belongs to chapter {chapter}")
    titles = book.ascii_title(" ; ".join(topics) or "-")
    if s.field("topics") != titles:
        lint.say(s.line, f"@{s.slug}: topics must read: {titles}")


def references(lint, s, above, owner, known):
    """`needs` names sections above, and exactly those that are called; `see` and @slug name existing ones."""
    code = book.blank(s.text)
    called = {owner[n] for n in re.findall(r"\b(llm_\w+)\s*\(", code) if n in owner} - {s.slug}
    used = {owner[n] for n in re.findall(r"\b((?:llm|LLM)_\w+)", code) if n in owner} - {s.slug}
    needs = set((s.field("needs") or "-").replace(",", " ").split()) - {"-"}
    for slug in sorted(needs - above):
        lint.say(s.line, f"@{s.slug} needs @{slug}, which does not stand above")
    family = {slug for slug in called if any(slug.startswith(need + "_") for need in needs)} - above
    for slug in sorted(called - needs - family - GROUND):  # @flash stands for a @flash_backward below, too
        lint.say(s.line, f"@{s.slug} calls @{slug}: name it in needs")
    for slug in sorted((needs & above) - used - GROUND):
        lint.say(s.line, f"@{s.slug} needs @{slug} but uses nothing of it")
    for slug in sorted(set(re.findall(r"@(\w+)", s.banner())) - known):
        lint.say(s.line, f"@{s.slug} mentions @{slug}, which does not exist")


def names(lint, s, cuda):
    """Prefixes, and a comment above every function; neighbours without a blank line share one."""
    families = [s.slug] + [t.slug for t in lint.sections if t.chapter == s.chapter and s.slug.startswith(t.slug + "_")]
    prefixes = [p + slug for slug in families for p in (("llm_cuda_", "llm_") if cuda else ("llm_",))]
    end = 0
    for f in book.functions(s.text):
        before = re.sub(r"#if[^\n]*\n[^\n]*\n#endif\n$", "", s.text[end:f.start].rstrip(" "))
        joined = end > 0 and before.strip() == "" and before.count("\n") == 1
        if not before.rstrip().endswith("*/") and not joined and not f.name.endswith("_kernel"):
            lint.say(lint.at(s, f.start), f"{f.name} has no comment")
        if s.chapter != "00-base" and not any(f.name == p or f.name.startswith(p + "_") for p in prefixes):
            lint.say(lint.at(s, f.start), f"{f.name} must begin with {prefixes[0]}")
        end = f.end
    for m in re.finditer(r"^#[ ]*define (\w+)", s.text, re.M):
        if not m[1].startswith("LLM_"):
            lint.say(lint.at(s, m.start()), f"macro {m[1]} must begin with LLM_")
    for m in re.finditer(r"^(?:typedef (?:[^;{}(]|\{[^}]*\})* (\w+);|(?:struct|enum|union) (\w+) \{)", s.text, re.M):
        if not (m[1] or m[2]).startswith("llm_"):
            lint.say(lint.at(s, m.start()), f"type {m[1] or m[2]} must begin with llm_")


def complete(lint, s):
    """Its size, its TEST, its note."""
    lines = s.text.rstrip().count("\n") + 1
    if lines > 200:
        lint.say(s.line, f"@{s.slug} has {lines} lines, 200 are the most")
    test, note = s.test(), s.note()
    if not test.exists() or f"TEST({s.slug}," not in test.read_text():
        lint.say(s.line, f"@{s.slug} has no TEST in {test.relative_to(book.ROOT)}")
    if not note.exists():
        lint.say(s.line, f"@{s.slug} has no note {note.relative_to(book.ROOT)}")


def named(golden, script):
    """True when another script writes these golden values: a token.py would hide Python's own module."""
    return golden.suffix == ".txt" and any(f'"{script}"' in f.read_text() for f in golden.parent.glob("*.py"))


def strays(lint, sections):
    """Tests and notes whose section is gone, golden values without script or the reverse."""
    slugs = {(s.chapter, s.slug) for s in sections}
    for folder in sorted(book.ROOT.glob("tests/[0-9][0-9]-*")) + sorted(book.ROOT.glob("notes/[0-9][0-9]-*")):
        for f in sorted(folder.iterdir()):
            if f.suffix in (".c", ".cu", ".md") and (folder.name, f.stem) not in slugs and f.stem not in OWN_TESTS:
                lint.say(1, "belongs to no section", f.relative_to(book.ROOT))
            pair = f.with_suffix({".txt": ".py", ".py": ".txt"}.get(f.suffix, f.suffix))
            if f.is_file() and not pair.exists() and not named(f, pair.name):
                lint.say(1, f"has no {pair.name} beside it", f.relative_to(book.ROOT))
            if f.suffix == ".txt" and f.stat().st_size > 30 * 1024:
                lint.say(1, "more than 30 KB of golden values", f.relative_to(book.ROOT))


def mutants(lint, sections):
    """tests/mutants.txt: four columns, a reason, sorted by slug, lines that are still there."""
    name, last, lines = "tests/mutants.txt", "", {}
    for s in sections:
        lines.setdefault(s.slug, set()).update(" ".join(line.split()) for line in s.text.splitlines())
    for number, line in enumerate((book.ROOT / name).read_text().splitlines(), 1):
        columns = line.split("\t")
        if not line or line.startswith("#"):
            continue
        if len(columns) != 4 or columns[3].strip() in ("", "?"):
            lint.say(number, "slug, change, line, reason, between tabs", name)
        elif columns[2] not in lines.get(columns[0], ()):
            lint.say(number, f"@{columns[0]} has no such line any more", name)
        if columns[0] < last:
            lint.say(number, f"@{columns[0]} stands behind @{last}", name)
        last = columns[0]


def layout(lint):
    """Every tracked text: no trailing space, no tab where it is not meant, no path of a machine; code is ASCII."""
    files = subprocess.run(["git", "ls-files"], cwd=book.ROOT, capture_output=True, text=True, check=True)
    for name in files.stdout.split():
        path = book.ROOT / name
        if path.suffix not in (".h", ".c", ".cu", ".cuh", ".md", ".py", ".mk") and path.name != "Makefile":
            continue
        code = path.suffix in (".h", ".c", ".cu", ".cuh")
        fenced = False
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            fenced ^= path.suffix == ".md" and line.startswith("```")
            if line != line.rstrip() and not fenced:  # what a program prints stays as it is
                lint.say(number, "trailing space", name)
            if "\t" in line and code:
                lint.say(number, "tab", name)
            if code and (len(line) > 100 or not line.isascii()):
                lint.say(number, "over 100 columns" if line.isascii() else "not ASCII", name)
            if PATHS.search(line) and "PATHS =" not in line:
                lint.say(number, "names a path of one machine", name)
            if name in ("llm.h", "llm_cuda.cuh") and UNFINISHED.search(line):
                lint.say(number, "left open", name)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--topic", default="")
    options.add_argument("--chapter", default="")
    o = options.parse_args()
    plan, total = planned(), 0
    c, cuda = Lint("llm.h"), Lint("llm_cuda.cuh")
    known = {s.slug for s in c.sections + cuda.sections} | set(plan)
    owner = {}
    for s in c.sections + cuda.sections:
        for n in re.findall(r"\b((?:llm|LLM)_\w+)", book.blank(s.text)):
            owner.setdefault(n, s.slug)
    for s in cuda.sections:  # a kernel may be declared above the section that has it
        for n in re.findall(rf"\bllm_cuda_{s.slug}(?:_\w+)?\b", book.blank(s.text), re.I):
            owner[n] = max(owner[n], s.slug, key=lambda slug: n.lower().startswith(f"llm_cuda_{slug}") * len(slug))
    for lint in (c, cuda):
        above = {s.slug for s in c.sections} if lint is cuda else set()
        order = []
        for s in lint.sections:
            if s.chapter.startswith(o.chapter) and o.topic in ("", s.slug):
                banner(lint, s, plan, lint is cuda)
                names(lint, s, lint is cuda)
                if s.field("needs") is not None:
                    references(lint, s, above, owner, known)
                if lint is c:
                    complete(lint, s)
            above.add(s.slug)
            order += [list(plan).index(s.slug)] if s.slug in plan else []
            if order != sorted(order):
                lint.say(s.line, f"@{s.slug} stands out of order: notes/topics.tsv gives the order")
                order = sorted(order)
        if len({s.slug for s in lint.sections}) < len(lint.sections):
            lint.say(1, "a slug stands twice")
    if not (o.topic or o.chapter):
        layout(c)
        strays(c, c.sections + cuda.sections)
        mutants(c, c.sections + cuda.sections)
    total = c.count + cuda.count
    print(f"lint: {total} complaints" if total else "lint: nothing to complain about")
    sys.exit(total > 0)


if __name__ == "__main__":
    main()
