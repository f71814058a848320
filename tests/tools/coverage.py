"""How much of the syllabus is done: notes/topics.tsv against the sections, tests and notes (`make coverage`).

A topic is done when its section names it, has a TEST that passes in the last `make test` and a note."""
import os
import re
import sys

import book


def passed(test):
    """True when the suite's last log says so and is not older than the test."""
    name = test.relative_to(book.ROOT / "tests").with_suffix("")
    logs = [f for f in (book.ROOT / "build").glob(f"*/{name}.log") if f.stat().st_mtime >= test.stat().st_mtime]
    return any(re.search(r"^[1-9]\d* passed, 0 failed$", f.read_text(errors="replace"), re.M) for f in logs)


def state(s, topic):
    """What is missing for a topic, or nothing."""
    if s is None:
        return "section"
    if book.ascii_title(topic) not in (s.field("topics") or "").split(" ; "):
        return "topic in the banner"
    if not s.test().exists() or f"TEST({s.slug}," not in s.test().read_text():
        return "test"
    if not s.note().exists():
        return "note"
    return "" if passed(s.test()) else "passing test (make test)"


def main():
    sections = {s.slug: s for s in book.sections((book.ROOT / "llm.h").read_text())}
    total, done, chapters = 0, 0, {}
    for line in (book.ROOT / "notes" / "topics.tsv").read_text().splitlines()[1:]:
        topic, chapter, slug = line.split("\t")
        missing = state(sections.get(slug), topic)
        counts = chapters.setdefault(chapter, [0, 0])
        counts[0] += not missing
        counts[1] += 1
        total += 1
        done += not missing
        wanted = os.environ.get("CHAPTER", "")
        if missing and wanted and chapter.startswith(wanted):
            print(f"    {slug:24} {topic}: no {missing}")
    for chapter, (have, all_) in chapters.items():
        print(f"{chapter:16} {have:3} of {all_:3}")
    print(f"{done} of {total} topics")
    sys.exit(0)


if __name__ == "__main__":
    main()
