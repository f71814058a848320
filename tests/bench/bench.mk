# Speed of the hot sections beside what this machine can do. ROWS=word: only rows whose name has it.
bench: build/bench/bench  ## speed of the hot sections and their share of what this machine can do; ROWS=word
	@CC="$(CC)" $< $(ROWS)
build/bench/bench: tests/bench/bench.c llm.h
	@mkdir -p $(@D)
	@$(CC) -std=c99 $(WARN) $(FAST) -ffp-contract=fast $(CFLAGS) $< -o $@ -lm -ldl
.PHONY: bench
