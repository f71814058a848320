"""llm.h as a book: its chapters, sections and functions, found by scanning the text, without a C parser."""
import re
import unicodedata
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BANNER = re.compile(r"^/\* @([a-z0-9_-]+) (-+|=+) (.*?)(?: \*/)?$", re.M)
STORAGE = re.compile(r"\b(?:static|inline|extern|__\w+__|LLM_[A-Z_]+)\b")
ATTRIBUTE = re.compile(r"\b(?:__attribute__|__launch_bounds__|alignas|LLM_[A-Z_]+)\s*\(")

UNNAMED = {"bool", "char", "short", "int", "long", "unsigned", "signed", "float", "double", "size_t", "const"}


class Section:
    """A banner and what stands below it, up to the next banner."""

    def __init__(self, match, end, text, chapter, line):
        self.slug, self.title, self.chapter = match[1], match[3], chapter
        self.start, self.end, self.text = match.start(), end, text[match.start():end]
        self.line = line
        self.title_column = match.start(3) - match.start() + 1

    def banner(self):
        return self.text[:self.text.index("*/") + 2]

    def field(self, name):
        """The words behind `needs`, `topics`, ... in the banner, continued lines joined; None when absent."""
        m = re.search(rf"^ \* {name}\s+(.*(?:\n \*   +.*)*)", self.banner(), re.M)
        return None if not m else re.sub(r"\n \*\s+", " ", m[1]).strip()

    def test(self, ending=".c"):
        return ROOT / "tests" / self.chapter / (self.slug + ending)

    def note(self):
        return ROOT / "notes" / self.chapter / (self.slug + ".md")


def ascii_title(title):
    """A topic's title as the header, which is ASCII, spells it: no accents, a hyphen for a dash."""
    return unicodedata.normalize("NFKD", title.replace("\u2013", "-")).encode("ascii", "ignore").decode()


def sections(text, chapters=False):
    """All sections in order, or all chapters. The base is chapter 00-base; the licence is no section."""
    found, chapter, line, at = [], None, 1, 0
    marks = list(BANNER.finditer(text))
    for mark, after in zip(marks, marks[1:] + [None]):
        end = after.start() if after else text.rindex("#endif")
        line, at = line + text.count("\n", at, mark.start()), mark.start()
        if mark[2][0] == "=":
            chapter = mark[1]
        if (mark[2][0] == "=") == chapters and (not chapters or re.match(r"\d\d-", mark[1])):
            found.append(Section(mark, end, text, chapter, line))
    return found


def section(slug, text, name="llm.h"):
    for s in sections(text):
        if s.slug == slug:
            return s
    raise SystemExit(f"{name} has no section @{slug}")


def blank(text, directives=False):
    """text with comments, strings and characters (and lines of the preprocessor) as spaces, same length."""
    pattern = r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])+'"
    space = lambda m: re.sub(r"[^\n]", " ", m[0])
    text = re.sub(pattern, space, text, flags=re.S)
    if directives:
        text = re.sub(r"^[ \t]*#(?:\\\n|[^\n])*", space, text, flags=re.M)
    return text


class Function:
    """text[start:open] is the signature, text[open:end] the body with its braces."""

    def __init__(self, name, start, open_, end, returns, parameters, variadic):
        self.name, self.start, self.open, self.end = name, start, open_, end
        self.returns, self.parameters, self.variadic = returns, parameters, variadic


def closing(code, at):
    """The position of the parenthesis, bracket or brace that closes the one at `at`."""
    depth = 0
    for i in range(at, len(code)):
        depth += (code[i] in "([{") - (code[i] in ")]}")
        if depth == 0:
            return i
    raise ValueError("unbalanced: " + code[at:at + 60])


def split_commas(code):
    """Start and end of each part of code between commas outside brackets."""
    parts, start, depth = [], 0, 0
    for i, c in enumerate(code + ","):
        depth += (c in "([{") - (c in ")]}")
        if depth == 0 and c == ",":
            parts.append((start, i))
            start = i + 1
    return parts


def parse_head(head):
    """(name, return type, parameter names, variadic) of a function's signature, or None."""
    if "=" in head.split("(")[0]:
        return None
    while (m := ATTRIBUTE.search(head)):
        head = head[:m.start()] + head[closing(head, m.end() - 1) + 1:]
    m = re.search(r"([A-Za-z_]\w*)\s*\(", head)
    if m and not re.sub(r"\b(noexcept|const)\b", "", head[closing(head, m.end() - 1) + 1:]).strip():
        close = closing(head, m.end() - 1)
        parameters, variadic = [], False
        inside = head[m.end():close]
        for a, b in split_commas(inside):
            part = inside[a:b].strip()
            pointer = re.search(r"\(\s*[*&]+\s*(?:const\s+)?(\w+)", part)
            plain = re.search(r"(\w+)\s*(?:\[[^\]]*\]\s*)*$", part)
            if part == "...":
                variadic = True
            elif part not in ("", "void"):
                words = re.findall(r"\w+", part)
                if not (pointer or plain) or len(words) == 1 or (pointer or plain)[1] in UNNAMED:
                    raise SystemExit(f"{m[1]} has a parameter without a name: {part}")
                parameters.append((pointer or plain)[1])
        template = re.sub(r"template\s*<[^{}]*?>(?=\s)", " ", head[:m.start()])
        return m[1], " ".join(STORAGE.sub(" ", template).split()), parameters, variadic
    return None


def functions(text):
    """Every function defined in text, in order: not structs, enums, tables, macros or prototypes."""
    code, found, start, depth, opened = blank(text, directives=True), [], 0, 0, 0
    for i, c in enumerate(code):
        if c in "([{":
            if depth == 0 and c == "{":
                opened = i
            depth += 1
        elif c in ")]}":
            depth -= 1
            if depth == 0 and c == "}":
                head = code[start:opened]
                parsed = parse_head(head.strip()) if head.rstrip().endswith((")", "const", "noexcept")) else None
                if parsed:
                    name, returns, parameters, variadic = parsed
                    first = start + len(head) - len(head.lstrip())
                    found.append(Function(name, first, opened, i + 1, returns, parameters, variadic))
                    start = i + 1
        elif c == ";" and depth == 0:
            start = i + 1
    return found


SCALARS = {"bool": "false", "float": "0.0f", "double": "0.0"}
INTEGER = r"(?:const )?(?:unsigned|signed|int|long|short|char|size_t|u?int\d+_t)(?: (?:int|long|char|short))*"


def stub_body(f):
    """A body that compiles and does nothing: parameters voided, zeros returned."""
    voids = ", ".join(f"(void){p}" for p in f.parameters)
    lines = ["{", "    /* TODO */"] + ([textwrap.fill(voids + ";", 100, initial_indent="    ",
                                                      subsequent_indent="        ")] if voids else [])
    if f.returns in SCALARS or f.returns.endswith("*") or re.fullmatch(INTEGER, f.returns):
        lines.append(f"    return {'NULL' if f.returns.endswith('*') else SCALARS.get(f.returns, '0')};")
    elif f.returns == "cudaError_t":
        lines.append("    return cudaSuccess;")
    elif f.returns != "void":
        kind = f.returns[6:] if f.returns.startswith("const ") else f.returns
        lines += [f"    {kind} result;", "    memset(&result, 0, sizeof result);", "    return result;"]
    return "\n".join(lines + ["}"])


def stubbed(text):
    """A section's text with the body of every function replaced by a stub."""
    for f in reversed(functions(text)):
        text = text[:f.open] + stub_body(f) + text[f.end:]
    return text


def shadow_tree(folder, header, chapter, name="llm.h"):
    """folder/llm.h is the given text; tests/ beside it holds links to the harness and one chapter's tests.

    `#include "../../llm.h"` of folder/tests/NN-x/slug.c then finds the text."""
    folder = Path(folder)
    (folder / "tests" / chapter).mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(header)
    others = [ROOT / f for f in ("llm.h", "llm_cuda.cuh") if f != name]
    for path in others + list((ROOT / "tests").glob("*.*")) + list((ROOT / "tests" / chapter).glob("*")):
        link = folder / path.relative_to(ROOT)
        if not link.exists():
            link.symlink_to(path)
    return folder
