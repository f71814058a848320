# Kernels. make test runs them on the emulator and compiles them; here are its parts, the table of what
# each kernel takes, and what needs a GPU. TOPIC= and CHAPTER= select.

gpu = $(shell nvidia-smi -L 2>/dev/null | head -n 1)
CUDA_ARCH ?= $(if $(gpu),native,sm_90)
cudadirs = $(sort $(notdir $(patsubst %/,%,$(dir $(found)))))

cuda-emulate:  ## kernels on the emulator, in three schedules
	@$(MAKE) --no-print-directory test KERNELS=only NVCC=
cuda-emulate-asan:  ## the same under AddressSanitizer and UBSan
	@$(MAKE) --no-print-directory test KERNELS=only NVCC= SAN=1
cuda-emulate-tsan:  ## the same under ThreadSanitizer: data races
	@$(MAKE) --no-print-directory test NVCC= SAN=thread

# The files that make test compiles, of a TOPIC or of whole chapters, for both architectures, with what
# ptxas says about them.
ptxas = $(if $(TOPIC),$(found:tests/%.cu=build/cuda/%.topic),$(cudadirs:%=build/cuda/%.ptxas))
ptxas_of = mkdir -p $(@D); $(if $(call have,$(NVCC)),$(NVCC) -std=c++17 -gencode arch=compute_80$(comma)code=sm_80 \
    -gencode arch=compute_90$(comma)code=sm_90 -Werror all-warnings -I. -Xptxas -v -c $(1) -o $@.o 2> $@ || \
    { cat $@; rm -f $@; exit 1; },touch $@)
cuda-compile: $(ptxas)  ## registers, spills and shared memory of each kernel (nvcc)
	@$(if $(call have,$(NVCC)),cat $^ /dev/null | $(PYTHON) tests/tools/ptxas.py,echo "skipped: nvcc is missing")
build/cuda/%.ptxas: build/nvcc/%/all
	@$(call ptxas_of,build/nvcc/$*/all.cu)
build/cuda/%.topic: tests/%.cu llm.h llm_cuda.cuh $(common)
	@$(call ptxas_of,$<)

cuda-test: $(cudadirs:%=build/cuda/%)  ## run the kernels' tests on a GPU
	@if [ -z "$(gpu)" ]; then echo "skipped: kernels on a GPU (there is none)"; exit; fi; \
	echo "$(gpu)"; \
	for t in $^; do ./$$t $(TOPIC) > $$t.log 2>&1; echo "$$t:"; cat $$t.log; done; \
	awk '/^[0-9]+ passed, [0-9]+ failed$$/ { passed += $$1; failed += $$3 } \
	    END { printf "%d passed, %d failed\n", passed, failed; exit failed || !passed }' $(^:=.log)
build/cuda/%: build/nvcc/%/all
	@mkdir -p $(@D)
	@$(if $(call have,$(NVCC)),$(NVCC) -std=c++17 -O3 -arch=$(CUDA_ARCH) -Werror all-warnings -I. build/nvcc/$*/all.cu -o $@)
.PHONY: cuda-emulate cuda-emulate-asan cuda-emulate-tsan cuda-compile cuda-test

bench-cuda: build/cuda/bench  ## speed of the kernels on a GPU, beside a copy, cuBLAS and PyTorch
	@if [ -x $< ]; then ./$<; else echo "skipped: nvcc is missing"; fi
	@$(PYTHON) tests/bench/bench_torch.py
build/cuda/bench: tests/bench/bench_cuda.cu llm.h llm_cuda.cuh
	@mkdir -p $(@D)
	@$(if $(call have,$(NVCC)),$(NVCC) -std=c++17 -O3 -arch=$(CUDA_ARCH) -Werror all-warnings $< -o $@ -lcublas)
.PHONY: bench-cuda
