"""What each kernel takes of the card, from the output of `nvcc -Xptxas -v` on standard input.

A register file has 65536 words, handed out to a warp in steps of 8 for each lane; a multiprocessor
holds at most 2048 threads. `threads` is what fits by registers alone.
"""
import re
import subprocess
import sys


def kernels(text):
    """(name, arch, registers, spilled bytes, static shared bytes) of each kernel of llm_cuda.cuh."""
    found = re.findall(r"Compiling entry function '(\w+)' for '(\w+)'.*?"
                       r"(\d+) bytes spill stores, (\d+) bytes spill loads.*?"
                       r"Used (\d+) registers([^\n]*)", text, re.S)
    names = subprocess.run(["c++filt"], input="\n".join(f[0] for f in found), capture_output=True, text=True,
                           check=True).stdout.splitlines()
    rows = set()
    for name, (_, arch, stores, loads, registers, rest) in zip(names, found):
        name = re.sub(r"^void |\(.*", "", name).replace("llm_bf16", "bf16")
        shared = re.search(r"(\d+) bytes smem", rest)
        if name.startswith("llm_"):
            rows.add((name, arch, int(registers), int(stores) + int(loads), int(shared[1]) if shared else 0))
    return rows


def main():
    table = {}
    for name, arch, *numbers in kernels(sys.stdin.read()):
        table.setdefault(name, {})[arch] = numbers
    arches = sorted({a for row in table.values() for a in row})
    wide = max((len(n) for n in table), default=6)
    print(f"{'kernel':{wide}}" + "".join(f"  {a:>6}: registers threads spilled shared" for a in arches))
    for name in sorted(table):
        line = f"{name:{wide}}"
        for arch in arches:
            registers, spilled, shared = table[name].get(arch, (0, 0, 0))
            threads = min(2048, 65536 // (32 * max(8, (registers + 7) // 8 * 8)) * 32)
            line += f"{registers:19}{threads:8}{spilled:8}{shared:7}"
        print(line)
    spilling = sum(any(n[1] for n in row.values()) for row in table.values())
    print(f"{len(table)} kernels, {spilling} of them spill registers")


if __name__ == "__main__":
    main()
