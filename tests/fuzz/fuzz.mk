# Readers of outside data against hostile bytes. `make fuzz` lets clang's libFuzzer search; `make fuzz-corpus`
# needs no clang: it runs the files of tests/fuzz/corpus, all beginnings of them, and them with single bytes changed.

fuzzers = $(filter-out fuzz,$(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/$(or $(TARGET),*).c)))
FUZZCC ?= clang
SECONDS ?= 60
fuzzflags = -std=c99 -g -fno-omit-frame-pointer -fno-sanitize-recover=all $(WARN)
fuzz: export ASAN_OPTIONS = detect_leaks=1:allocator_may_return_null=1
fuzz-corpus: export ASAN_OPTIONS = detect_leaks=1:allocator_may_return_null=1

build/fuzz/%: tests/fuzz/%.c $(wildcard tests/fuzz/*.h) llm.h
	@mkdir -p $(@D)
	@$(FUZZCC) $(fuzzflags) -O1 -DFUZZ_LIBFUZZER -fsanitize=fuzzer,address,undefined $< -o $@ -lm
build/fuzz/%.corpus: tests/fuzz/%.c $(wildcard tests/fuzz/*.h) llm.h
	@mkdir -p $(@D)
	@$(CC) $(fuzzflags) -O1 -fsanitize=address,undefined $< -o $@ -lm

fuzz:  ## libFuzzer on the readers of files: SECONDS=60 in all, TARGET=json one of them
	@$(if $(fuzzers),,echo "no TARGET=$(TARGET) in tests/fuzz"; exit 1)
	@if ! echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return !d && n; }' | \
	    $(FUZZCC) -fsanitize=fuzzer,address -x c - -o /dev/null 2>/dev/null; then \
	    echo "skipped: fuzz ($(FUZZCC) with libFuzzer is missing)"; exit 0; fi; \
	passed=0; failed=0; for t in $(fuzzers); do \
	    mkdir -p build/fuzz/found/$$t; \
	    if $(MAKE) --no-print-directory build/fuzz/$$t && \
	        build/fuzz/$$t -max_total_time=$$(( $(SECONDS) / $(words $(fuzzers)) )) -timeout=10 -rss_limit_mb=3000 \
	            -max_len=4096 -artifact_prefix=build/fuzz/$$t- build/fuzz/found/$$t tests/fuzz/corpus/$$t \
	            >build/fuzz/$$t.log 2>&1; then \
	        passed=$$((passed + 1)); echo "ok   $$t: $$(grep -a '^Done' build/fuzz/$$t.log)"; \
	    else failed=$$((failed + 1)); echo "FAIL $$t:"; tail -n 40 build/fuzz/$$t.log; fi; done; \
	echo "$$passed passed, $$failed failed"; [ $$failed = 0 ]
fuzz-corpus:  ## the same readers on the files of tests/fuzz/corpus, cut off and with bytes changed
	@passed=0; failed=0; for t in $(fuzzers); do \
	    if $(MAKE) --no-print-directory build/fuzz/$$t.corpus && \
	        build/fuzz/$$t.corpus tests/fuzz/corpus/$$t/* >build/fuzz/$$t.log 2>&1; then \
	        passed=$$((passed + 1)); echo "ok   $$t: $$(cat build/fuzz/$$t.log)"; \
	    else failed=$$((failed + 1)); echo "FAIL $$t:"; tail -n 40 build/fuzz/$$t.log; fi; done; \
	echo "$$passed passed, $$failed failed"; [ $$failed = 0 ]
.PHONY: fuzz fuzz-corpus
.PRECIOUS: build/fuzz/%
