"""The notes: their form, and their code. Every ```c block stands verbatim in a header; every ```c run block is compiled
and run, all of a chapter in one program, and must print the ```out block behind it."""
import argparse
import hashlib
import os
import re
import subprocess
import sys

import book

CC = os.environ.get("CC", "cc").split()
FORM = ["**In one sentence.**", "## Formula", "## By hand", "## Pitfalls", "## Hints", "## Further", "## Exercises",
        "## Sources"]
HINTS = ["idea", "formula", "pseudo-code"]
FENCE = re.compile(r"^```(.*)\n((?:.*\n)*?)^```$", re.M)
MAIN = r"""
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    int (*const block[])(void) = {%s};
    for (size_t k = 0; k < sizeof block / sizeof *block; k++) {
        printf("\n@@%%zu\n", k);
        fflush(stdout);
        const pid_t child = fork();
        if (child == 0) {
            alarm(60);
            const int status = block[k]();
            fflush(stdout);
            _exit(status);
        }
        int status = 0;
        waitpid(child, &status, 0);
        if (status != 0) printf("[ended with status %%d]\n", status);
    }
    return 0;
}
"""


class Note:
    def __init__(self, path):
        self.path, self.name, self.text = path, str(path.relative_to(book.ROOT)), path.read_text()
        self.blocks = [(m[1].strip(), m[2], self.text.count("\n", 0, m.start()) + 1) for m in FENCE.finditer(self.text)]


class Complaints:
    def __init__(self):
        self.count = 0

    def say(self, note, line, message):
        self.count += 1
        print(f"{note.name}:{line}: {message}")


def form(note, complaints, kernels, known):
    lines, slug = note.text.splitlines(), note.path.stem
    say = lambda line, message: complaints.say(note, line, message)
    if not 60 <= len(lines) <= 150:
        say(len(lines), f"{len(lines)} lines; a note has 60 to 150")
    if not lines[0].startswith("# ") or not (lines + ["", "", ""])[2].startswith(f"`@{slug}` in llm.h"):
        say(1, f"begins with the title, an empty line and `@{slug}` in llm.h ...")
    elif (slug in kernels) != ("llm_cuda.cuh" in lines[2]):
        say(3, "names llm_cuda.cuh exactly when there is a kernel")
    at = [next((i for i, line in enumerate(lines) if line.startswith(part)), None) for part in FORM]
    for part, i in zip(FORM, at):
        if i is None:
            say(1, f"has no {part}")
    present = [i for i in at if i is not None]
    if present != sorted(present):
        say(1, "its parts stand in another order than " + ", ".join(FORM))
    hints = re.search(r"^## Hints\n((?:(?!## ).*\n)*)", note.text, re.M)
    given = [h.lower() for h in re.findall(r"^\d\. ([\w-]+):", hints[1], re.M)] if hints else HINTS
    if given != HINTS:
        say(1, "its hints are 1. Idea: 2. Formula: 3. Pseudo-code:")
    outside = FENCE.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), note.text)
    for m in re.finditer(r"(?<![\w.])@([a-z]\w*)", outside):
        if m[1] not in known:
            say(outside.count("\n", 0, m.start()) + 1, f"@{m[1]} does not exist")


def quotations(note, complaints, headers):
    for k, (kind, code, line) in enumerate(note.blocks):
        if kind == "c" and not any("\n" + code in h for h in headers):
            complaints.say(note, line, "this block does not stand in llm.h or llm_cuda.cuh")
        if kind == "c run" and (k + 1 == len(note.blocks) or note.blocks[k + 1][0] != "out"):
            complaints.say(note, line, "```c run has no ```out behind it")
        if kind == "out" and (k == 0 or note.blocks[k - 1][0] != "c run"):
            complaints.say(note, line, "```out has no ```c run before it")


def run(notes, complaints, header, name):
    """Compiles and runs all examples of these notes; nothing to do when neither they nor the header changed."""
    examples = [(n, code, line, n.blocks[k + 1][1]) for n in notes for k, (kind, code, line) in enumerate(n.blocks)
                if kind == "c run" and k + 1 < len(n.blocks)]
    if not examples:
        return
    source = '#define _POSIX_C_SOURCE 200809L\n#include "llm.h"\n#include <stdio.h>\n'
    for k, (n, code, line, _) in enumerate(examples):
        source += f'static int block_{k}(void) {{\n#line {line + 1} "{n.name}"\n{code}return 0;\n}}\n'
    source += MAIN % ", ".join(f"block_{k}" for k in range(len(examples)))
    key = hashlib.sha256((header + source + "".join(e[3] for e in examples)).encode()).hexdigest()
    folder = book.ROOT / "build" / "notes"
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / (name + ".done")
    if done.exists() and done.read_text() == key:
        return
    (folder / (name + ".c")).write_text(source)
    warn = ["-Wall", "-Wno-misleading-indentation", "-Wno-maybe-uninitialized"]
    command = CC + ["-std=c99", "-O1", *warn, f"-I{book.ROOT}",
                    str(folder / (name + ".c")), "-o", str(folder / name), "-lm"]
    r = subprocess.run(command, capture_output=True, text=True)
    if r.stderr:
        complaints.count += 1
        print(r.stderr.rstrip())
    if r.returncode:
        return
    printed = subprocess.run([folder / name], cwd=book.ROOT, capture_output=True, text=True, errors="replace").stdout
    outputs = re.split(r"\n@@\d+\n", printed)[1:]
    good = len(outputs) == len(examples)
    if len(outputs) != len(examples):
        complaints.say(examples[0][0], 1, f"{len(outputs)} of the {len(examples)} examples of {name} ran")
    for (n, _, line, want), got in zip(examples, outputs):
        if got.rstrip("\n") != want.rstrip("\n"):
            good = False
            complaints.say(n, line, "prints something else than its ```out block:\n" + got.rstrip("\n"))
    if good and not r.stderr:
        done.write_text(key)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--topic", default="*")
    options.add_argument("--chapter", default="")
    o = options.parse_args()
    headers = [(book.ROOT / h).read_text() for h in ("llm.h", "llm_cuda.cuh")]
    kernels = {s.slug for s in book.sections(headers[1])}
    known = kernels | {s.slug for s in book.sections(headers[0])}
    known |= {line.split("\t")[2] for line in (book.ROOT / "notes" / "topics.tsv").read_text().splitlines()}
    complaints, total = Complaints(), 0
    for folder in sorted((book.ROOT / "notes").glob((o.chapter or "[0-9]") + "*")):
        notes = [Note(f) for f in sorted(folder.glob((o.topic or "*") + ".md"))]
        for n in notes:
            form(n, complaints, kernels, known)
            quotations(n, complaints, headers)
        run(notes, complaints, headers[0], folder.name + ("" if o.topic in ("", "*") else "-" + o.topic))
        total += len(notes)
    print(f"notes: {complaints.count} complaints about {total} notes")
    sys.exit(complaints.count > 0)


if __name__ == "__main__":
    main()
