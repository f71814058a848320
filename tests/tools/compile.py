"""The headers under every compiler and flag they promise to survive, and the formatter (`make lint`). --quick, for one
topic: llm.h as C99, with asserts and without."""
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import book

STRICT = ("-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wdouble-promotion -Wcast-qual -Wundef "
          "-Wno-misleading-indentation -Werror").split()
INCLUDE = '#include "llm.h"\nint use_it(void);\nint use_it(void) { return (int)sizeof(llm_rng); }\n'


def commands(folder):
    """(what it proves, command): each must end silently with status 0."""
    check = ["-fsyntax-only", f"-I{book.ROOT}"]
    for c, cxx in (("gcc", "g++"), ("clang", "clang++")):
        yield f"{c}, C99", [c, "-std=c99", *STRICT, *check, f"{folder}/use.c"]
        yield f"{c}, C99 with OpenMP", [c, "-std=c99", "-fopenmp", *STRICT, *check, f"{folder}/use.c"]
        yield f"{cxx}, C++17", [cxx, "-std=c++17", *STRICT, *check, "-x", "c++", f"{folder}/use.c"]
        yield f"{c}, header as main file", [c, "-std=c99", *STRICT, *check, "-x", "c", "llm.h"]
        yield f"{cxx}, header as main file", [cxx, "-std=c++17", *STRICT, *check, "-x", "c++", "llm.h"]
        yield f"{c}, every function, optimised, no asserts", [
            c, "-std=c99", "-O2", "-DNDEBUG", "-DLLM_API=", *STRICT, "-c", "-x", "c", "llm.h", "-o", f"{folder}/{c}.o"]
        yield f"{cxx}, kernels on the emulator", [
            cxx, "-std=c++17", "-Wall", "-Wextra", "-Wno-misleading-indentation", "-Werror", *check, "-include",
            "tests/test.h", "-x", "c++", f"{folder}/use.cu"]
    yield "nvcc", ["nvcc", "-std=c++17", "-arch=sm_90", "-Werror", "all-warnings", f"-I{book.ROOT}", "-c",
                   f"{folder}/use.cu", "-o", f"{folder}/use.o"]


def formatter():
    """The layout that clang-format 14 gives; other versions differ in details."""
    tool = next((t for t in ("clang-format-14", "clang-format") if shutil.which(t)), None)
    version = subprocess.run([tool, "--version"], capture_output=True, text=True).stdout if tool else ""
    if " 14." not in version:
        print("skipped: layout (clang-format 14 is missing)")
        return None
    files = subprocess.run(["git", "ls-files", "*.h", "*.cuh", "*.c", "*.cu"], cwd=book.ROOT, capture_output=True,
                           text=True, check=True).stdout.split()
    return [tool, "--dry-run", "-Werror", "--ferror-limit=3", *files]


def run(job):
    name, command = job
    if command is None or not shutil.which(command[0]):
        return name, None, ""
    r = subprocess.run(command, cwd=book.ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    output = r.stdout + r.stderr
    return name, r.returncode == 0 and ("warning" not in output), output


def main():
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/use.c", "w") as f:
            f.write(INCLUDE)
        with open(f"{folder}/use.cu", "w") as f:
            f.write('#include "llm_cuda.cuh"\n')
        jobs = [("clang-format", formatter()), *commands(folder)]
        if "--quick" in sys.argv:
            jobs = [(name, [*command, *["-DNDEBUG"] * (name == "clang, C99")]) for name, command in jobs
                    if name in ("gcc, C99", "clang, C99")]
        with ThreadPoolExecutor(int(os.environ.get("JOBS", "2"))) as pool:
            for name, good, output in pool.map(run, jobs):
                if good is None and name != "clang-format":
                    print(f"skipped: {name} (missing)")
                if good is False:
                    failed += 1
                    print(f"warnings: {name}")
                    print("\n".join(output.replace(folder + "/", "").splitlines()[:20]))
    print(f"compile: {failed} of {len(jobs)} with warnings")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
