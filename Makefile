# A first Makefile: make test [TOPIC=slug] [CHAPTER=NN]
CC = gcc
TESTFLAGS = -std=c99 -O2 -g -Wall -Wextra -Wno-misleading-indentation
sources = $(wildcard tests/$(if $(CHAPTER),$(CHAPTER)-*,*)/$(or $(TOPIC),*).c)
test: $(sources:tests/%.c=build/test/%)
	@for t in $^; do echo $$t; $$t || exit 1; done
build/test/%: tests/%.c llm.h tests/test.h
	@mkdir -p $(@D)
	@$(CC) $(TESTFLAGS) $< -o $@ -lm
