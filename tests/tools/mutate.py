"""Makes the mutants of a section: one operator, constant, index, argument, statement or body changed."""
import re

import book

RULES = [(r"(?<=[\w)\]] )\+(?=\s)", "-"), (r"(?<=[\w)\]] )-(?=\s)", "+"), (r"(?<=[\w)\]] )\*(?=\s+[\w(*&])", "/"),
         (r"(?<= )/(?=\s)", "*"), (r"(?<= )%(?=\s)", "/"), (r"\+=", "-="), (r"-=", "+="), (r"\*=", "/="), (r"/=", "*="),
         (r"(?<= )<(?=\s)", "<="), (r"(?<= )<=(?=\s)", "<"), (r"(?<= )>(?=\s)", ">="), (r"(?<= )>=(?=\s)", ">"),
         (r"==", "!="), (r"!=", "=="), (r"&&", "||"), (r"\|\|", "&&"), (r"(?<=[( ])!(?=[\w(])", ""),
         (r"(?<= )<<(?=\s)", ">>"), (r"(?<= )>>(?=\s)", "<<"), (r"(?<= )&(?=\s)", "|"), (r"(?<= )\|(?=\s)", "&"),
         (r"(?<= )\^(?=\s)", "|"), (r"\bfminf\b", "fmaxf"), (r"\bfmaxf\b", "fminf"), (r"\bfmin\b", "fmax"),
         (r"\bfmax\b", "fmin"), (r"(?<=[( ])-(?=[\w(])", ""), (r"\btrue\b", "false"), (r"\bfalse\b", "true")]
NUMBER = r"(?<![\w.])(\d+\.?\d*(?:e[+-]?\d+)?|0x[0-9a-fA-F]+)([fuUlL]*)(?![\w.])"
# Of `a < b ? a : b`, where < and <= are the same.
OPERAND = r"(?:[A-Za-z_]\w*(?:(?:\.|->)\w+)*(?:\[[^\]]*\])?|\d[\w.]*)"
TERMS = rf"{OPERAND}(?: [-+] {OPERAND})*"
LARGER = rf"(?<![\w.>\])])(?<![-+*/] )(?=({TERMS}) [<>]=? (-?{TERMS}) \? (?:\1 : \2|\2 : \1)(?! ?[-+*/\w.\[(]))"
THREADS = r"LLM_PARALLEL_MANY\((?:[^()]|\([^()]*\))*\)"  # how many turns are worth threads: speed, no result


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
        before = code[:start].rstrip()
        begins = before[-1:] in (";", "{", "}", ")", ":") and not before.endswith("= {")
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
        if text.startswith("va_end") or re.match(r"\w+ \**\w", text) and not (guarded and text.startswith("return")):
            continue
        if re.match(r"[\w*]", text) and text != "return;" or guarded and text != ";":
            yield start, end


def declared(code, bracket):
    """True when the bracket gives the size of an array that is declared here."""
    line = code[code.rfind("\n", 0, bracket) + 1:bracket]
    types = r"(?:float|double|int|bool|char|size_t|unsigned|\w+_t|llm_\w+)"
    return re.match(rf"\s*(?:static |const |unsigned )*{types} [^=(]*$", line) is not None


def edits(text):
    """Every mutant of a section's text, in its order; signatures stay."""
    code, found = book.blank(text, directives=True), []
    code = re.sub(THREADS, lambda m: re.sub(r"[^\n]", " ", m[0]), code)
    for f in book.functions(text):
        code = code[:f.start] + re.sub(r"[^\n]", " ", code[f.start:f.open]) + code[f.open:]
    idioms = [(m.end(1), m.start(2)) for m in re.finditer(LARGER, code)]
    for pattern, new in RULES:
        for m in re.finditer(pattern, code):
            swap = new
            if any(a <= m.start() < b for a, b in idioms) and m[0][0] in "<>":
                swap = ">" if m[0][0] == "<" else "<"
            found.append(Mutant(m.start(), m.end(), swap, f"`{m[0]}` -> `{swap}`"))
    for m in re.finditer(NUMBER, code):
        new = another(m)
        if re.search(r"memset\([^;\n]*, $", code[:m.start()]):
            new = "255"
        elif code[m.start() - 1] == "[" and declared(code, m.start() - 1):
            new = str(int(m[1]) - 1) if m[1].isdigit() and int(m[1]) > 1 else m[0]
        if new != m[0]:
            found.append(Mutant(m.start(), m.end(), new, f"`{m[0]}` -> `{new}`"))
    for m in re.finditer(r"(?<=\w)\[(?=[^\]\d])", code):
        close = book.closing(code, m.start())
        if not declared(code, m.start()):
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
    found.sort(key=lambda m: (m.start, m.end))
    return numbered(found, text)


def numbered(found, text):
    """Fills in the line of each mutant; equal edits of one line are counted."""
    seen = {}
    for m in found:
        begin, end = text.rfind("\n", 0, m.start) + 1, text.find("\n", m.start)
        m.line = " ".join(text[begin:end].split())
        seen[begin, m.what] = number = seen.get((begin, m.what), 0) + 1
        m.what += f" (number {number})" if number > 1 else ""
    return found
