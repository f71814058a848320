# make lists the targets: lines with two # below. TOPIC=rmsnorm or CHAPTER=06 select sections, CC=clang a
# compiler, SAN=1 ASan and UBSan, SAN=thread TSan (kernels only), NATIVE=1 this processor's instructions
# and threads (no kernels), KERNELS=only kernels, NVCC= no nvcc, PART=2/3 the second third of the programs.

JOBS ?= 2
PYTHON ?= python3
NVCC ?= nvcc
PREFIX ?= /usr/local
ifeq ($(origin CXX),default)
CXX = $(patsubst cc,c++,$(subst gcc,g++,$(subst clang,clang++,$(CC))))
endif
have = $(shell command -v $(1))

# gcc's C front end spends half a second on -Wmisleading-indentation at every inclusion.
WARN = -Wall -Wextra -Wno-misleading-indentation
openmp = $(shell echo 'int main(void) {}' | $(CC) -fopenmp -x c - -o /dev/null 2>/dev/null && echo -fopenmp)
FAST = -O3 -march=native -ffp-contract=fast -fno-math-errno $(openmp)
ifneq ($(NATIVE),)
MODE = $(FAST)
else ifeq ($(SAN),)
MODE = -O1 -g $(guesses)
else ifeq ($(SAN),thread)
MODE = -O1 -g -fsanitize=thread
else
MODE = -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
CUDAMODE = $(if $(findstring clang,$(CXX)),,-fsanitize-sections=emulate_shared)
endif
# Compiling a suite takes longer than running it: most run for a tenth of a second, and the few that
# multiply matrices need -O1; for kernels on the emulator -Og is enough. gcc's warnings of what may be
# uninitialized are guesses there (make lint compiles the header with -O2).
EMULATED = $(if $(SAN),$(MODE),-Og $(guesses))
guesses = $(if $(findstring clang,$(CC)),,-Wno-maybe-uninitialized)
ifneq ($(SAN),)
ifeq ($(origin CXX),file)
CXX := $(or $(call have,g++),$(CXX)) # only gcc checks the bounds of shared arrays
endif
export TEST_SECONDS ?= 40
endif
out = build/$(notdir $(CC))$(if $(NATIVE),-native)$(if $(SAN),-$(patsubst 1,san,$(SAN)))

help:
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */    make \1\t/' | expand -t 24
.PHONY: help

# ---- tests: one program a topic, and one for its kernels ----

chapter = $(or $(and $(CHAPTER),tests/$(CHAPTER)*),tests/[0-9][0-9]-*)
topic = $(or $(TOPIC),*)
whole = $(if $(TOPIC)$(CHAPTER),,yes)
found = $(wildcard $(chapter)/$(topic).cu)
examples = $(if $(CHAPTER),,$(wildcard tests/examples/$(topic).c))
suites = $(wildcard $(chapter)/$(topic).c) $(examples) $(if $(whole),tests/tools/harness.c)
tools = $(if $(call have,$(PYTHON)),$(wildcard tests/tools/test_*.py))

plain = $(if $(filter thread,$(SAN))$(KERNELS),,$(suites:tests/%.c=$(out)/%))
emulated = $(if $(and $(call have,$(CXX)),$(if $(NATIVE),,yes)),$(found:tests/%=$(out)/%))
chapters = $(patsubst tests/%,build/nvcc/%all,$(sort $(dir $(found))))
nvcc = $(if $(TOPIC),$(found:tests/%.cu=build/nvcc/%),$(if $(CHAPTER),$(chapters),$(if $(found),build/nvcc/all)))
share = $(if $(PART),$(shell printf '%s\n' $(1) | awk 'BEGIN { split("$(PART)", p, "/") } NR % p[2] == p[1] % p[2]'),$(1))
checks = $(strip $(if $(SAN),,$(if $(call have,$(NVCC)),$(nvcc)) $(if $(whole),$(tools:tests/%.py=$(out)/%))) \
    $(call share,$(plain) $(emulated)))

test:  ## run the tests, of TOPIC=slug or CHAPTER=NN, with CC=clang, with SAN=1, with NATIVE=1
	@$(if $(checks),,echo "no tests match TOPIC=$(TOPIC) CHAPTER=$(CHAPTER)"; exit 1)
	@$(if $(call have,$(CXX)),,echo "skipped: kernels on the emulator ($(CXX) is missing)")
	@$(if $(and $(found),$(NVCC)),$(if $(call have,$(NVCC)),, \
	    echo "skipped: kernels under nvcc ($(NVCC) is missing)"))
	@$(if $(call have,$(PYTHON)),,echo "skipped: tests of the tools ($(PYTHON) is missing)")
	@$(MAKE) -k -j$(JOBS) --no-print-directory $(checks:=.log) || true
	@awk '/^[0-9]+ passed, [0-9]+ failed$$/ { passed += $$1; failed += $$3 } \
	      END { printf "%d passed, %d failed\n", passed, failed; exit failed || !passed }' $(checks:=.log)
.PHONY: test

# A log is what a program printed; its last line is the count. The emulator runs in three schedules.
%.log: % FORCE
	@[ ! -t 1 ] || printf '\r%-40s\r' "$*"
	@for order in 0 $(if $(findstring .cu.,$@),1 2); do \
	    $(if $(TOPIC),TEST_VERBOSE=1) EMULATE_ORDER=$$order ./$< > $@ 2>&1 || break; done
	@tail -n 1 $@ | grep -qE '^[0-9]+ passed, [0-9]+ failed$$' || echo "0 passed, 1 failed" >> $@
	@if [ -n "$(TOPIC)" ] || ! grep -q '^[1-9][0-9]* passed, 0 failed$$' $@; then \
	    echo "$(<:build/%=%):"; sed '$$d' $@; fi
FORCE:
.PRECIOUS: $(out)/% $(out)/%.cu $(out)/tools/% build/nvcc/% build/nvcc/%/all

# What does not compile becomes a script that says so: one failure, and the rest goes on.
says = { printf '\043!/bin/sh\necho "$(1)"\necho "$(2)"\n' > $@; chmod +x $@; }
broken = $(call says,$@ does not compile,0 passed$(comma) 1 failed)
comma = ,
common = $(wildcard tests/*.h)

# Many suites share one reading of the header, precompiled: those that begin with test.h and llm.h.
hash := \#
begins = $(if $(TOPIC),,$$([ "$$(grep -A 2 -m 1 '^$(hash)' $< | tr -d '\n')" = \
    '$(hash)include "../test.h"$(hash)include "../../$(2)"' ] && echo -include $(out)/$(1)))
c99 = $(CC) -std=c99 $(WARN) $(MODE) $(CFLAGS)
c17 = $(CXX) -std=c++17 $(WARN) $(EMULATED) $(CUDAMODE) $(CXXFLAGS)
precompiled = printf '\043include "../../tests/test.h"\n\043include "../../$(1)"\n' > $(@:.gch=); \
    $(2) $(@:.gch=) -o $@ || rm -f $@
$(out)/suite.h.gch: llm.h tests/test.h
	@mkdir -p $(@D)
	@$(call precompiled,llm.h,$(c99) -x c-header)
$(out)/kernel.h.gch: llm.h llm_cuda.cuh tests/test.h tests/test_cuda.h tests/emulate.h
	@mkdir -p $(@D)
	@$(call precompiled,llm_cuda.cuh,$(c17) -x c++-header)

$(out)/%: tests/%.c llm.h $(common) $(if $(TOPIC),,$(out)/suite.h.gch)
	@mkdir -p $(@D)
	@$(c99) $(call begins,suite.h,llm.h) $< -o $@ -lm || $(broken)
$(examples:tests/%.c=$(out)/%): $(wildcard examples/*.c)
$(out)/%.cu: tests/%.cu llm.h llm_cuda.cuh $(common) $(if $(TOPIC),,$(out)/kernel.h.gch)
	@mkdir -p $(@D)
	@$(c17) $(call begins,kernel.h,llm_cuda.cuh) -x c++ $< -o $@ || $(broken)
$(out)/tools/%: tests/tools/%.py $(wildcard tests/tools/*.py)
	@mkdir -p $(@D)
	@printf '\043!/bin/sh\nCC="$(CC)" $(PYTHON) $<\n' > $@; chmod +x $@

# nvcc only compiles here, and does not optimize, which would take minutes. It compiles all kernels of
# the header whatever is used: a chapter, or the whole book, is one file, each test in a namespace.
.SECONDEXPANSION:
NVCCFLAGS = -std=c++17 -arch=sm_90 -Xcicc -O0 -Xptxas -O0 -Werror all-warnings -I.
one_file = mkdir -p $(@D); { grep -h '^$(hash)include <' $(filter %.cu,$^) | sort -u; \
    for f in tests/test.h llm_cuda.cuh $(filter %.cu,$^); do \
        case $$f in *.cu) echo "namespace test_$$(basename $$f .cu) {";; esac; echo "$(hash)include \"$$f\""; \
        case $$f in *.cu) echo "}";; esac; done; } > $@.cu; \
    $(NVCC) $(NVCCFLAGS) -c $@.cu -o $@.o && $(call says,compiled,1 passed$(comma) 0 failed) || $(broken)
build/nvcc/all: $(found) llm.h llm_cuda.cuh $(common)
	@$(one_file)
build/nvcc/%/all: $$(wildcard tests/$$*/*.cu) llm.h llm_cuda.cuh $(common)
	@$(one_file)
build/nvcc/%: tests/%.cu llm.h llm_cuda.cuh $(common)
	@mkdir -p $(@D)
	@$(NVCC) $(NVCCFLAGS) -c $< -o $@.o && $(call says,compiled,1 passed$(comma) 0 failed) || $(broken)

# ---- the header in use ----

# The text is a share that does not grow with the book, so that the README's figures stay true: the
# first megabyte of llm.h, and the notes of the chapters that stood first.
demo_notes = $(wildcard notes/0[0-367]-*/*.md notes/1[0-35]-*/*.md)
demo: build/examples/gpt build/demo/llm.txt  ## train a small GPT on this book and let it write; STEPS=n
	$< --data $(or $(DATA),build/demo/llm.txt $(demo_notes)) $(if $(STEPS),--steps $(STEPS)) --out build/demo
build/demo/llm.txt: llm.h
	@mkdir -p $(@D)
	head -c 1000000 $< > $@
examples: $(patsubst %.c,build/%,$(wildcard examples/*.c))  ## build the programs of examples/
build/examples/%: examples/%.c llm.h
	@mkdir -p $(@D)
	$(CC) -std=c99 $(WARN) $(FAST) $(CFLAGS) $< -o $@ -lm
lib: build/libllm.so  ## a shared library for other languages
build/libllm.so: llm.h
	@mkdir -p $(@D)
	$(CC) -std=c99 $(WARN) $(FAST) $(CFLAGS) -fPIC -shared -DLLM_API= -x c llm.h -o $@ -lm
install: lib  ## copy headers and library to PREFIX=/usr/local
	install -d $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/lib
	install -m 644 llm.h llm_cuda.cuh $(DESTDIR)$(PREFIX)/include
	install -m 755 build/libllm.so $(DESTDIR)$(PREFIX)/lib
clean:  ## remove what was built; exercises stay
	rm -rf build
.PHONY: demo examples lib install clean

# ---- learning: write a section again ----

exercise:  ## write exercises/SLUG.h: the section TOPIC=slug without its bodies (CUDA=1: the kernel)
check:  ## build and test your exercises/SLUG.h in the section's place, under ASan and UBSan
hint:  ## the idea, then the formula, then pseudo-code: one more at each call
solution:  ## the section as the book has it, beside yours
progress:  ## what you have written so far
watch:  ## check again at every change of the file
reset:  ## begin again; your file is kept beside it
exercise check hint solution progress watch reset:
	@CC="$(CC)" CXX="$(CXX)" $(PYTHON) tests/tools/exercise.py $@ --topic "$(TOPIC)" $(if $(CUDA),--cuda)
.PHONY: exercise check hint solution progress watch reset

# ---- keeping the book in order ----

toc:  ## write the generated lists: the contents in llm.h and notes/README.md
	@$(PYTHON) tests/tools/toc.py
lint:  ## the house rules: layout, banners, names, notes and their examples, warnings of every compiler
	@status=0; for check in "toc.py --check" "lint.py --topic=$(TOPIC) --chapter=$(CHAPTER)" \
	    "notes.py --topic=$(TOPIC) --chapter=$(CHAPTER)" "compile.py$(if $(TOPIC)$(CHAPTER), --quick)"; do \
	    CC="$(CC)" JOBS=$(JOBS) $(PYTHON) tests/tools/$$check || status=1; done; exit $$status
coverage:  ## topics done, by chapter; CHAPTER=NN says what is missing there
	@CHAPTER="$(CHAPTER)" $(PYTHON) tests/tools/coverage.py
lint-tests:  ## do the tests notice a broken section? TOPIC= CHAPTER= SAMPLE=n sections MOST=n mutants each CUDA=1 AGAIN=1
	@CC="$(CC)" CXX="$(CXX)" JOBS=$(JOBS) $(PYTHON) tests/tools/mutants.py --topic "$(TOPIC)" --chapter "$(CHAPTER)" \
	    $(if $(CUDA),--cuda) $(if $(AGAIN),--again) --sample $(or $(SAMPLE),0) --most $(or $(MOST),0)
golden:  ## write the golden values again (needs tests/requirements.txt); nothing may change
	@cd tests && for f in $(patsubst tests/%,%,$(wildcard $(chapter)/$(topic).py)); do \
	    echo $$f && PYTHONPATH=. $(PYTHON) $$f || exit 1; done
	git diff --exit-code -- $(chapter)/$(topic).txt
.PHONY: toc lint coverage lint-tests golden

-include tests/cuda.mk tests/bench/bench.mk tests/fuzz/fuzz.mk
