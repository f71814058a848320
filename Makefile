# make lists the targets; the lines with two # are what it prints.
#
# TOPIC=rmsnorm and CHAPTER=06 select sections, CC=clang a compiler, SAN=1 the sanitizers.

JOBS ?= 2
PYTHON ?= python3
NVCC ?= nvcc
PREFIX ?= /usr/local
ifeq ($(origin CXX),default)
CXX = $(patsubst cc,c++,$(subst gcc,g++,$(subst clang,clang++,$(CC))))
endif

# gcc's C front end spends half a second on -Wmisleading-indentation at every inclusion.
WARN = -Wall -Wextra -Wno-misleading-indentation
FAST = -O3 -march=native $(shell echo 'int main(void) {}' | $(CC) -fopenmp -x c - -o /dev/null 2>/dev/null && echo -fopenmp)
ifdef SAN
TESTFLAGS = -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
export TEST_SECONDS ?= 40
export ASAN_OPTIONS ?= detect_leaks=1
else
TESTFLAGS = -O2 -g
endif
out = build/$(notdir $(CC))$(if $(SAN),-san)

help:
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */    make \1\t/' | expand -t 24
.PHONY: help

# ---- tests: one program a topic ----

chapter = $(or $(and $(CHAPTER),tests/$(CHAPTER)*),tests/[0-9][0-9]-*)
topic = $(or $(TOPIC),*)
own = $(if $(TOPIC)$(CHAPTER),,tests/tools/harness.c)
suites = $(wildcard $(chapter)/$(topic).c) $(own)
kernels = $(and $(wildcard tests/emulate.h),$(shell command -v $(CXX)),$(wildcard $(chapter)/$(topic).cu))
programs = $(suites:tests/%.c=$(out)/%) $(kernels:tests/%=$(out)/%)

test:  ## run the tests, of TOPIC=slug or CHAPTER=NN, with CC=clang, with SAN=1
	@$(if $(strip $(suites)$(kernels)),,echo "no tests match TOPIC=$(TOPIC) CHAPTER=$(CHAPTER)"; exit 1)
	@$(if $(shell command -v $(CXX)),,echo "skipped: kernels on the emulator ($(CXX) is missing)")
	@$(MAKE) -k -j$(JOBS) --no-print-directory $(programs:=.log) || true
	@awk '/^[0-9]+ passed, [0-9]+ failed$$/ { passed += $$1; failed += $$3 } \
	      END { printf "%d passed, %d failed\n", passed, failed; exit failed || !passed }' $(programs:=.log)
.PHONY: test

# A log says what failed; its last line is the count.
%.log: % FORCE
	@$(if $(TOPIC),TEST_VERBOSE=1) ./$< > $@ 2>&1 || true
	@tail -n 1 $@ | grep -qE '^[0-9]+ passed, [0-9]+ failed$$' || echo "0 passed, 1 failed" >> $@
	@if [ -n "$(TOPIC)" ] || ! grep -q '^[1-9][0-9]* passed, 0 failed$$' $@; then echo "$(<:$(out)/%=%):"; sed '$$d' $@; fi
FORCE:
.PRECIOUS: $(out)/%

# A program that does not compile becomes a script that says so: one failure, and the rest goes on.
broken = { printf '\043!/bin/sh\necho "$< does not compile"\necho "0 passed, 1 failed"\nexit 1\n' > $@; chmod +x $@; }
common = $(wildcard tests/*.h)

$(out)/%: tests/%.c llm.h $(common)
	@mkdir -p $(@D)
	@$(CC) -std=c99 $(WARN) $(TESTFLAGS) $(CFLAGS) $< -o $@ -lm || $(broken)

$(out)/%.cu: tests/%.cu llm.h llm_cuda.cuh $(common)
	@mkdir -p $(@D)
	@$(CXX) -std=c++17 $(WARN) $(TESTFLAGS) $(CXXFLAGS) -x c++ $< -o $@ || $(broken)

# ---- the header in use ----

demo: build/examples/demo  ## the main job in one program
	@$<
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

golden:  ## write the golden values again (needs tests/requirements.txt); nothing may change
	@cd tests && for f in $(patsubst tests/%,%,$(wildcard $(chapter)/$(topic).py)); do \
	    echo $$f && PYTHONPATH=. $(PYTHON) $$f || exit 1; done
	git diff --exit-code -- $(chapter)/$(topic).txt
lint-tests:  ## do the tests notice a broken section? TOPIC= CHAPTER= SAMPLE=n sections MOST=n mutants each
	@CC="$(CC)" JOBS=$(JOBS) $(PYTHON) tests/tools/mutants.py --topic "$(TOPIC)" --chapter "$(CHAPTER)" \
	    --sample $(or $(SAMPLE),0) --most $(or $(MOST),0)
.PHONY: golden lint-tests

-include tests/cuda.mk tests/bench/bench.mk tests/fuzz/fuzz.mk
