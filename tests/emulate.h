/* emulate.h: CUDA kernels on a CPU. g++ compiles a .cu file as C++, and every CUDA thread of a
 * block runs as a fiber: a stack of its own, switched by hand at barriers and warp collectives, all
 * on one thread of the operating system.
 *
 *     #include "test.h"            (includes this in a C++ file that nvcc does not compile)
 *     #include "../llm_cuda.cuh"
 *
 * What is reported, with the kernel, the block and the thread, and ends the program:
 *
 *   in every build     a barrier that some threads miss, or wait at in another line; a warp
 *                      collective that lanes of one mask do not share, and a shuffle from a lane
 *                      outside the mask; a grid barrier without a cooperative launch, or missed;
 *                      a global access behind an allocation (a guard page stands there) or a
 *                      misaligned vector; host memory given to a kernel; device memory touched by
 *                      the host; a thread's stack that overflows.
 *   as NaN             shared memory, cudaMalloc's memory and the target of an asynchronous copy
 *                      before its wait are full of NaN (-1 as integers).
 *   -fsanitize=address shared arrays, dynamic shared memory, local arrays and the last bytes of
 *                      global allocations.
 *   -fsanitize=thread  data races, between the threads of a block and between blocks: each CUDA
 *                      thread is one to ThreadSanitizer, and only barriers, __syncwarp, grid
 *                      barriers, and __threadfence beside an atomic put accesses in order.
 *
 * A bad launch returns the error that CUDA returns. EMULATE_ORDER=0, 1, 2 in the environment (or
 * emulate_order) runs blocks and threads forwards, backwards and shuffled. emulate_traffic counts
 * what llm_load and llm_store move. Not modelled: time, caches, streams (a launch returns when it
 * has run), the forward progress of one block while another spins. */
#ifndef EMULATE_H
#define EMULATE_H

#include <elf.h>
#include <link.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <type_traits>
#include <utility>

#if !defined(__x86_64__) && !defined(EMULATE_UCONTEXT)
#define EMULATE_UCONTEXT 1
#endif
#ifdef EMULATE_UCONTEXT
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define EMULATE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMULATE_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define EMULATE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define EMULATE_TSAN 1
#endif
#endif

/* The emulator's own accesses are no accesses of the kernel. */
#define EMULATE_RUNTIME                                                                            \
    __attribute__((no_sanitize("thread"), no_sanitize("address"), no_sanitize("undefined"),        \
                   noinline, unused)) static

extern "C" {
#ifdef EMULATE_ASAN
void __sanitizer_start_switch_fiber(void **save, const void *bottom, size_t size);
void __sanitizer_finish_switch_fiber(void *save, const void **bottom, size_t *size);
void __asan_poison_memory_region(void const volatile *p, size_t n);
void __asan_unpoison_memory_region(void const volatile *p, size_t n);
#endif
#ifdef EMULATE_TSAN
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void __tsan_set_fiber_name(void *fiber, const char *name);
void __tsan_acquire(void *p);
void __tsan_release(void *p);
__attribute__((used, visibility("default"), no_sanitize("thread"))) const char *
__tsan_default_options(void) {
    return "halt_on_error=1:report_signal_unsafe=0:report_thread_leaks=0:atexit_sleep_ms=0";
}
#endif
}

/* ---- the language ---- */

#define __global__ __attribute__((unused))
#define __device__ __attribute__((unused))
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __constant__ static
/* The tag becomes part of the symbol's name, by which emulate_find_shared knows the variable: gcc
 * forgets a section given to a variable of a template. */
#define __shared__ static __attribute__((abi_tag("emulate_shared"), used))
#define __align__(n) __attribute__((aligned(n)))

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) int4 {
    int x, y, z, w;
};

/* ---- what the runtime keeps ---- */

enum emulate_state {
    EMULATE_READY,
    EMULATE_AT_BARRIER,
    EMULATE_AT_WARP,
    EMULATE_AT_GRID,
    EMULATE_RETURNED
};

struct emulate_copy { /* cp.async: read when issued, written when waited for */
    unsigned char *to, data[16];
    size_t bytes;
    unsigned group;
};
enum { EMULATE_COPIES = 256 };

struct emulate_fiber { /* one CUDA thread */
    dim3 index;
    unsigned id, lane; /* within the block, within the warp */
    emulate_state state;
    int line;         /* of the barrier or collective where it waits */
    unsigned arrived; /* block barriers passed; its parity picks the edge for ThreadSanitizer */
    unsigned warp_arrived, grid_arrived;
    int warp_op;
    unsigned warp_mask;
    void *warp_data;
    void *atomic_seen; /* the last atomic it did, for __threadfence after it */
    bool fenced;       /* a __threadfence stands before its atomics */
    emulate_copy *copies;
    unsigned copy_count, copy_group;
    emulate_fiber *next; /* in the queue of ready fibers */
    void *sp;
    char *stack;
    void *fake, *tsan;
#ifdef EMULATE_UCONTEXT
    ucontext_t context;
#endif
};

struct emulate_block {
    emulate_fiber *fiber;
    dim3 index;
    unsigned n, live, at_barrier, at_grid;
    bool entered;
    char *saved_shared, *dynamic; /* a cooperative launch keeps them across a grid barrier */
    unsigned votes[2];            /* __syncthreads_count, by parity */
    char edge[2], warp_edge[32][2], warp_part_edge[32];
};

struct emulate_allocation {
    char *data, *map;
    size_t size, map_size;
    unsigned char *touched; /* a byte for each sector of 32 bytes: 1 read, 2 written */
};

struct emulate_range {
    char *data;
    size_t size;
};

/* Bytes that llm_load and llm_store asked for, and the distinct sectors of 32 bytes among them:
 * what must come from memory at least once. */
struct emulate_traffic {
    size_t read, written, distinct_read, distinct_written, matrix_conflicts;
};

enum {
    EMULATE_MAX_THREADS = 1024,
    EMULATE_MAX_SHARED = 227 * 1024, /* sm_90: a block's dynamic shared memory, when asked for */
    EMULATE_MULTIPROCESSORS = 4,     /* small, so that grid-stride loops go round */
#ifdef EMULATE_ASAN
    EMULATE_STACK = 256 << 10,
#else
    EMULATE_STACK = 128 << 10,
#endif
    EMULATE_GUARD = 1 << 20, /* below each stack; wider than most frames that miss it */
    EMULATE_PAGE = 4096
};

static emulate_fiber emulate_host, *emulate_current = &emulate_host, *emulate_head, *emulate_tail;
static emulate_block *emulate_running; /* NULL while the host runs */
static dim3 emulate_grid, emulate_block_size;
static char *emulate_dynamic;
static size_t emulate_dynamic_size;
static bool emulate_cooperative;
static const char *emulate_kernel_name = "";
static void (*emulate_call)(const void *arguments);
static const void *emulate_arguments;
static int emulate_order = -1; /* 0 forwards, 1 backwards, 2 shuffled; -1: from the environment */
static unsigned emulate_seed = 1;
static emulate_traffic emulate_counted;
static emulate_allocation *emulate_allocations;
static size_t emulate_allocation_count, emulate_allocation_room;
static char emulate_start_edge, emulate_end_edge, emulate_grid_edge[2];
static emulate_range *emulate_shared,
    *emulate_shared_pages; /* the variables; the pages they touch */
static size_t emulate_shared_count, emulate_shared_size, emulate_shared_page_count;

#define threadIdx (emulate_current->index)
#define blockIdx (emulate_running->index)
#define blockDim emulate_block_size
#define gridDim emulate_grid
#define warpSize 32

/* ---- reports ---- */

enum { EMULATE_EXIT = 99 };

EMULATE_RUNTIME void emulate_say_where(void) {
    const emulate_fiber *f = emulate_current;
    if (emulate_running) {
        const dim3 b = emulate_running->index, t = f->index;
        fprintf(stderr, " in kernel %s, block (%u,%u,%u), thread (%u,%u,%u)", emulate_kernel_name,
                b.x, b.y, b.z, t.x, t.y, t.z);
    } else {
        fprintf(stderr, " in host code");
    }
}

#ifdef EMULATE_TSAN
extern "C" __attribute__((used, visibility("default"), no_sanitize("thread"))) void
__tsan_on_report(void *report) {
    (void)report;
    fprintf(stderr, "emulate: the race below was seen");
    emulate_say_where();
    fprintf(stderr, "\n");
}
#endif

EMULATE_RUNTIME __attribute__((noreturn)) void emulate_die(const char *what, int line) {
    fprintf(stderr, "emulate: %s", what);
    emulate_say_where();
    if (line) fprintf(stderr, ", line %d", line);
    fprintf(stderr, "\n");
    fflush(NULL);
    _exit(EMULATE_EXIT);
}
EMULATE_RUNTIME __attribute__((noreturn)) void emulate_die_at(const emulate_fiber *f,
                                                              const char *what) {
    emulate_current = (emulate_fiber *)(uintptr_t)f;
    emulate_die(what, f->line);
}

/* ---- global memory: a guard page before and behind, no access while the host runs ---- */

EMULATE_RUNTIME emulate_allocation *emulate_find(const void *p) {
    const char *address = (const char *)p;
    size_t low = 0, high = emulate_allocation_count; /* sorted by address */
    while (low < high) {
        const size_t middle = (low + high) / 2;
        emulate_allocation *a = &emulate_allocations[middle];
        if (address < a->map)
            high = middle;
        else if (address >= a->map + a->map_size)
            low = middle + 1;
        else
            return a;
    }
    return NULL;
}

EMULATE_RUNTIME void emulate_on_fault(int signal_number, siginfo_t *info, void *context) {
    (void)signal_number, (void)context;
    const char *p = (const char *)info->si_addr;
    const emulate_allocation *a = emulate_find(p);
    const emulate_fiber *f = emulate_current;
    if (a && p >= a->data && p < a->data + a->size)
        fprintf(stderr, "emulate: the host touches device memory");
    else if (a)
        fprintf(stderr, "emulate: global memory out of bounds, byte %ld of an allocation of %zu",
                (long)(p - a->data), a->size);
    else if (f->stack && p < f->stack && p >= f->stack - EMULATE_GUARD)
        fprintf(stderr, "emulate: the stack of %d bytes overflows", (int)EMULATE_STACK);
    else
        fprintf(stderr, "emulate: segmentation fault at %p", (const void *)p);
    emulate_say_where();
    fprintf(stderr, "\n");
    fflush(NULL);
    _exit(EMULATE_EXIT);
}

EMULATE_RUNTIME void emulate_start(void) {
    static bool started;
    if (started) return;
    started = true;
    static char signal_stack[64 << 10]; /* a fiber whose stack is full cannot handle a signal */
    stack_t stack;
    memset(&stack, 0, sizeof stack);
    stack.ss_sp = signal_stack;
    stack.ss_size = sizeof signal_stack;
    sigaltstack(&stack, NULL);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = emulate_on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    if (emulate_order < 0) {
        const char *order = getenv("EMULATE_ORDER");
        emulate_order = order ? atoi(order) % 3 : 0;
    }
}

EMULATE_RUNTIME void *emulate_map(size_t size) {
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED) emulate_die("out of memory", 0);
    return p;
}
EMULATE_RUNTIME void emulate_protect(const emulate_allocation *a, bool open) {
    mprotect(a->map + EMULATE_PAGE, a->map_size - 2 * EMULATE_PAGE,
             open ? PROT_READ | PROT_WRITE : PROT_NONE);
}
EMULATE_RUNTIME void emulate_open_all(bool open) {
    for (size_t i = 0; i < emulate_allocation_count; i++)
        emulate_protect(&emulate_allocations[i], open);
}

/* Volatile, so that no loop becomes a call of memset or memcpy that a sanitizer intercepts. */
EMULATE_RUNTIME void emulate_fill_nan(char *p, size_t n) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8) *(volatile uint64_t *)(void *)(p + i) = ~(uint64_t)0;
    for (; i < n; i++) *(volatile char *)(p + i) = (char)0xff;
}
EMULATE_RUNTIME void emulate_move(char *to, const char *from, size_t n) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        *(volatile uint64_t *)(void *)(to + i) =
            *(const volatile uint64_t *)(const void *)(from + i);
    for (; i < n; i++) *(volatile char *)(to + i) = from[i];
}

/* ---- shared variables: the program's own symbol table says where they are ---- */

EMULATE_RUNTIME int emulate_load_address(struct dl_phdr_info *info, size_t size, void *address) {
    (void)size;
    *(uintptr_t *)address = info->dlpi_addr;
    return 1; /* the first is the program itself */
}
EMULATE_RUNTIME int emulate_by_address(const void *a, const void *b) {
    const char *x = ((const emulate_range *)a)->data, *y = ((const emulate_range *)b)->data;
    return x < y ? -1 : x > y;
}
/* Before main, so that tests in processes of their own inherit it. */
__attribute__((constructor)) EMULATE_RUNTIME void emulate_find_shared(void) {
    FILE *f = fopen("/proc/self/exe", "rb");
    if (!f) return;
    fseek(f, 0, SEEK_END);
    const size_t size = (size_t)ftell(f);
    char *file = (char *)emulate_map(size);
    rewind(f);
    const bool whole = fread(file, 1, size, f) == size;
    fclose(f);
    uintptr_t load_address = 0;
    dl_iterate_phdr(emulate_load_address, &load_address);
    const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)(const void *)file;
    const ElfW(Shdr) *section = (const ElfW(Shdr) *)(const void *)(file + header->e_shoff);
    for (unsigned i = 0; whole && i < header->e_shnum; i++) {
        if (section[i].sh_type != SHT_SYMTAB) continue;
        const ElfW(Sym) *symbol = (const ElfW(Sym) *)(const void *)(file + section[i].sh_offset);
        const char *names = file + section[section[i].sh_link].sh_offset;
        const size_t count = section[i].sh_size / sizeof *symbol;
        emulate_shared = (emulate_range *)calloc(count + 1, sizeof(emulate_range));
        for (size_t k = 0; k < count; k++) {
            if (!strstr(names + symbol[k].st_name, "B14emulate_shared")) continue;
            emulate_range *v = &emulate_shared[emulate_shared_count++];
            v->data = (char *)(load_address + symbol[k].st_value);
            v->size = symbol[k].st_size;
            emulate_shared_size += v->size;
        }
    }
    munmap(file, size);
    qsort(emulate_shared, emulate_shared_count, sizeof(emulate_range), emulate_by_address);
    emulate_shared_pages =
        (emulate_range *)emulate_map((emulate_shared_count + 1) * sizeof(emulate_range));
    emulate_range *last = NULL;
    for (size_t i = 0; i < emulate_shared_count; i++) {
        const emulate_range v = emulate_shared[i];
        char *first = v.data - (uintptr_t)v.data % EMULATE_PAGE;
        char *end = v.data + v.size + EMULATE_PAGE - 1;
        end -= (uintptr_t)end % EMULATE_PAGE;
        if (!last || first > last->data + last->size) {
            last = &emulate_shared_pages[emulate_shared_page_count++];
            last->data = first;
        }
        last->size = (size_t)(end - last->data);
    }
}
EMULATE_RUNTIME void emulate_fill_shared(void) {
    for (size_t i = 0; i < emulate_shared_count; i++)
        emulate_fill_nan(emulate_shared[i].data, emulate_shared[i].size);
}
EMULATE_RUNTIME void emulate_save_shared(char *to) {
    for (size_t i = 0; i < emulate_shared_count; to += emulate_shared[i++].size)
        emulate_move(to, emulate_shared[i].data, emulate_shared[i].size);
}
EMULATE_RUNTIME void emulate_restore_shared(const char *from) {
    for (size_t i = 0; i < emulate_shared_count; from += emulate_shared[i++].size)
        emulate_move(emulate_shared[i].data, from, emulate_shared[i].size);
}

/* Every llm_load and llm_store of a kernel comes through here; vectors must be aligned. */
EMULATE_RUNTIME void emulate_touch(const void *p, size_t bytes, bool write) {
    if (!emulate_running) return;
    if ((uintptr_t)p % bytes != 0) emulate_die("misaligned vector access", 0);
    const emulate_allocation *a = emulate_find(p);
    if (!a) emulate_die("a global access outside device memory", 0);
    if ((const char *)p < a->data || (const char *)p + bytes > a->data + a->size) {
        fprintf(stderr, "emulate: global memory out of bounds, byte %ld of an allocation of %zu",
                (long)((const char *)p - a->data), a->size);
        emulate_say_where();
        fprintf(stderr, "\n");
        _exit(EMULATE_EXIT);
    }
    unsigned char *sector = &a->touched[(size_t)((const char *)p - a->data) / 32];
    if (write) {
        emulate_counted.written += bytes;
        if (!(*sector & 2)) emulate_counted.distinct_written += 32;
        *sector |= 2;
    } else {
        emulate_counted.read += bytes;
        if (!(*sector & 3)) emulate_counted.distinct_read += 32;
        *sector |= 1;
    }
}

/* Starts counting again. */
EMULATE_RUNTIME void emulate_count(void) {
    memset(&emulate_counted, 0, sizeof emulate_counted);
    for (size_t i = 0; i < emulate_allocation_count; i++)
        memset(emulate_allocations[i].touched, 0, emulate_allocations[i].size / 32 + 2);
}

/* ---- fibers ---- */

#ifdef EMULATE_TSAN
#define EMULATE_ACQUIRE(edge) __tsan_acquire(edge)
#define EMULATE_RELEASE(edge) __tsan_release(edge)
#else
#define EMULATE_ACQUIRE(edge) ((void)(edge))
#define EMULATE_RELEASE(edge) ((void)(edge))
#endif

#ifndef EMULATE_UCONTEXT
/* 14 instructions; swapcontext would make a system call each time. */
extern "C" void emulate_swap(void **save_sp, void *sp);
__asm__(".text\n"
        ".type emulate_swap, @function\n"
        "emulate_swap:\n"
        "pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15\n"
        "movq %rsp, (%rdi); movq %rsi, %rsp\n"
        "popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp\n"
        "ret\n"
        ".size emulate_swap, .-emulate_swap\n");
#endif

#ifdef EMULATE_ASAN
static const void *emulate_host_stack;
static size_t emulate_host_stack_size;
#endif

EMULATE_RUNTIME void emulate_switch(emulate_fiber *to) {
    emulate_fiber *from = emulate_current;
    if (to == from) return;
    emulate_current = to;
#ifdef EMULATE_ASAN
    if (to == &emulate_host)
        __sanitizer_start_switch_fiber(&from->fake, emulate_host_stack, emulate_host_stack_size);
    else
        __sanitizer_start_switch_fiber(&from->fake, to->stack, EMULATE_STACK);
#endif
#ifdef EMULATE_TSAN
    __tsan_switch_to_fiber(to->tsan, 1 /* no order between the two */);
#endif
#ifdef EMULATE_UCONTEXT
    swapcontext(&from->context, &to->context);
#else
    emulate_swap(&from->sp, to->sp);
#endif
#ifdef EMULATE_ASAN
    __sanitizer_finish_switch_fiber(from->fake, NULL, NULL);
#endif
}

EMULATE_RUNTIME void emulate_push(emulate_fiber *f) {
    f->state = EMULATE_READY;
    f->next = NULL;
    if (emulate_tail)
        emulate_tail->next = f;
    else
        emulate_head = f;
    emulate_tail = f;
}
EMULATE_RUNTIME emulate_fiber *emulate_pop(void) {
    emulate_fiber *f = emulate_head;
    if (!f) return &emulate_host;
    emulate_head = f->next;
    if (!emulate_head) emulate_tail = NULL;
    return f;
}

/* Makes the block's fibers of that state ready, in the order of the schedule. */
EMULATE_RUNTIME void emulate_wake(emulate_block *b, emulate_state state) {
    unsigned order[EMULATE_MAX_THREADS];
    for (unsigned i = 0; i < b->n; i++) order[i] = emulate_order == 1 ? b->n - 1 - i : i;
    for (unsigned i = b->n; emulate_order == 2 && i > 1; i--) {
        emulate_seed = emulate_seed * 1664525u + 1013904223u;
        const unsigned j = (emulate_seed >> 8) % i, swap = order[i - 1];
        order[i - 1] = order[j];
        order[j] = swap;
    }
    for (unsigned i = 0; i < b->n; i++) {
        if (b->fiber[order[i]].state == state) emulate_push(&b->fiber[order[i]]);
    }
}

EMULATE_RUNTIME void emulate_entry(void) { /* a fiber: one thread of one block after another */
#ifdef EMULATE_ASAN
    if (emulate_host_stack)
        __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
    else
        __sanitizer_finish_switch_fiber(NULL, &emulate_host_stack, &emulate_host_stack_size);
#endif
    for (;;) {
        EMULATE_ACQUIRE(&emulate_start_edge);
        emulate_call(emulate_arguments);
        EMULATE_RELEASE(&emulate_end_edge);
        emulate_current->state = EMULATE_RETURNED;
        emulate_running->live--;
        if (emulate_running->at_barrier)
            emulate_die("divergent barrier: a thread returns while others wait at __syncthreads",
                        0);
        emulate_switch(emulate_pop());
    }
}

EMULATE_RUNTIME void emulate_make(emulate_fiber *f) {
    if (f->stack) return;
    char *map = (char *)emulate_map(EMULATE_STACK + EMULATE_GUARD);
    mprotect(map, EMULATE_GUARD, PROT_NONE);
    f->stack = map + EMULATE_GUARD;
#ifdef EMULATE_UCONTEXT
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = EMULATE_STACK;
    f->context.uc_link = NULL;
    makecontext(&f->context, emulate_entry, 0);
#else
    void **sp = (void **)(void *)(f->stack + EMULATE_STACK - 16);
    *--sp = NULL; /* where emulate_entry would return to, and never does */
    *--sp = (void *)emulate_entry;
    for (int i = 0; i < 6; i++) *--sp = NULL; /* the registers that emulate_swap pops */
    f->sp = sp;
#endif
#ifdef EMULATE_TSAN
    f->tsan = __tsan_create_fiber(0);
    if (!f->tsan) emulate_die("more threads than ThreadSanitizer can tell apart", 0);
    char name[32];
    snprintf(name, sizeof name, "thread %u", f->id);
    __tsan_set_fiber_name(f->tsan, name);
#endif
}
EMULATE_RUNTIME void emulate_unmake(emulate_fiber *f) {
    if (!f->stack) return;
#ifdef EMULATE_TSAN
    __tsan_destroy_fiber(f->tsan);
#endif
    munmap(f->stack - EMULATE_GUARD, EMULATE_STACK + EMULATE_GUARD);
    free(f->copies);
}

/* ---- barriers ---- */

EMULATE_RUNTIME unsigned emulate_barrier(int line, bool vote) {
    emulate_block *b = emulate_running;
    emulate_fiber *me = emulate_current;
    me->line = line;
    if (b->at_barrier) {
        const emulate_fiber *other = b->fiber;
        while (other->state != EMULATE_AT_BARRIER) other++;
        if (other->line != line)
            emulate_die("divergent barrier: threads wait at different __syncthreads", line);
    }
    if (b->live < b->n)
        emulate_die("divergent barrier: a thread returned before __syncthreads", line);
    /* A thread that runs ahead to the next barrier must not hand its later accesses to one that
     * still has to leave this barrier: two edges take turns. */
    const unsigned turn = me->arrived++ % 2;
    EMULATE_RELEASE(&b->edge[turn]);
    b->votes[turn] += vote;
    me->state = EMULATE_AT_BARRIER;
    if (++b->at_barrier == b->n) {
        b->at_barrier = 0;
        b->votes[!turn] = 0;
        emulate_wake(b, EMULATE_AT_BARRIER);
    }
    emulate_switch(emulate_pop());
    EMULATE_ACQUIRE(&b->edge[turn]);
    return b->votes[turn];
}
#define __syncthreads() ((void)emulate_barrier(__LINE__, false))
#define __syncthreads_count(p) ((int)emulate_barrier(__LINE__, (p) != 0))
#define __syncthreads_or(p) ((int)(emulate_barrier(__LINE__, (p) != 0) != 0))
#define __syncthreads_and(p) ((int)(emulate_barrier(__LINE__, (p) == 0) == 0))

EMULATE_RUNTIME void emulate_grid_barrier(int line) {
    emulate_fiber *me = emulate_current;
    me->line = line;
    if (!emulate_cooperative)
        emulate_die("a grid barrier in a kernel that was not launched cooperatively", line);
    const unsigned turn = me->grid_arrived++ % 2;
    EMULATE_RELEASE(&emulate_grid_edge[turn]);
    emulate_running->at_grid++;
    me->state = EMULATE_AT_GRID;
    emulate_switch(emulate_pop());
    EMULATE_ACQUIRE(&emulate_grid_edge[turn]);
}

/* ---- warp collectives: each lane brings data, the last to arrive resolves for all ---- */

typedef void (*emulate_resolve)(emulate_fiber *warp, unsigned mask);

EMULATE_RUNTIME void emulate_warp(int op, unsigned mask, int line, void *data,
                                  emulate_resolve resolve) {
    emulate_block *b = emulate_running;
    emulate_fiber *me = emulate_current, *warp = b->fiber + me->id / 32 * 32;
    const unsigned left = b->n - me->id / 32 * 32, lanes = left < 32 ? left : 32;
    if (lanes < 32) mask &= (1u << lanes) - 1; /* lanes that the block does not have */
    me->line = line;
    me->warp_op = op;
    me->warp_mask = mask;
    me->warp_data = data;
    me->state = EMULATE_AT_WARP;
    if (!(mask >> me->lane & 1))
        emulate_die("warp collective: the lane is not in its own mask", line);
    unsigned arrived = 0;
    for (unsigned l = 0; l < lanes; l++) {
        if (!(mask >> l & 1)) continue;
        if (warp[l].state == EMULATE_RETURNED)
            emulate_die("warp collective: a lane of the mask has returned", line);
        if (warp[l].state != EMULATE_AT_WARP) continue;
        if (warp[l].warp_mask != mask)
            emulate_die("warp collective: lanes name different masks", line);
        if (warp[l].warp_op != op || warp[l].line != line)
            emulate_die("warp collective: lanes of a mask wait at different collectives", line);
        arrived |= 1u << l;
    }
    if (arrived == mask) {
        if (resolve) resolve(warp, mask);
        for (unsigned i = 0; i < lanes; i++) {
            const unsigned l = emulate_order == 1 ? lanes - 1 - i : i;
            if (mask >> l & 1) emulate_push(&warp[l]);
        }
    }
    emulate_switch(emulate_pop());
}

enum { EMULATE_SHUFFLE = 1, EMULATE_BALLOT, EMULATE_SYNCWARP, EMULATE_MMA, EMULATE_LDMATRIX };

struct emulate_shuffle {
    uint64_t value, result;
    unsigned source;
};
EMULATE_RUNTIME void emulate_resolve_shuffle(emulate_fiber *warp, unsigned mask) {
    for (unsigned l = 0; l < 32; l++) {
        if (!(mask >> l & 1)) continue;
        emulate_shuffle *s = (emulate_shuffle *)warp[l].warp_data;
        if (!(mask >> s->source & 1))
            emulate_die_at(&warp[l], "warp collective: a shuffle from a lane outside the mask");
        s->result = ((emulate_shuffle *)warp[s->source].warp_data)->value;
    }
}
template <typename T>
static inline T emulate_shuffled(unsigned mask, T value, unsigned source, int line) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves 4 or 8 bytes");
    emulate_shuffle s = {0, 0, source};
    memcpy(&s.value, &value, sizeof value);
    emulate_warp(EMULATE_SHUFFLE, mask, line, &s, emulate_resolve_shuffle);
    memcpy(&value, &s.result, sizeof value);
    return value;
}
/* A source outside the lane's segment of `width` is the lane itself. */
template <typename T>
static inline T emulate_xor(int line, unsigned mask, T v, int x, int width = 32) {
    const int lane = (int)emulate_current->lane, source = lane ^ x;
    const bool inside = source < (lane & ~(width - 1)) + width;
    return emulate_shuffled(mask, v, (unsigned)(inside ? source : lane), line);
}
template <typename T>
static inline T emulate_down(int line, unsigned mask, T v, unsigned by, int width = 32) {
    const int lane = (int)emulate_current->lane, source = lane + (int)by;
    const bool inside = source < (lane & ~(width - 1)) + width;
    return emulate_shuffled(mask, v, (unsigned)(inside ? source : lane), line);
}
template <typename T>
static inline T emulate_up(int line, unsigned mask, T v, unsigned by, int width = 32) {
    const int lane = (int)emulate_current->lane, source = lane - (int)by;
    const bool inside = source >= (lane & ~(width - 1));
    return emulate_shuffled(mask, v, (unsigned)(inside ? source : lane), line);
}
template <typename T>
static inline T emulate_from(int line, unsigned mask, T v, int source, int width = 32) {
    const int first = (int)emulate_current->lane & ~(width - 1);
    return emulate_shuffled(mask, v, (unsigned)(first + (source & (width - 1))), line);
}
#define __shfl_xor_sync(...) emulate_xor(__LINE__, __VA_ARGS__)
#define __shfl_down_sync(...) emulate_down(__LINE__, __VA_ARGS__)
#define __shfl_up_sync(...) emulate_up(__LINE__, __VA_ARGS__)
#define __shfl_sync(...) emulate_from(__LINE__, __VA_ARGS__)

EMULATE_RUNTIME void emulate_resolve_ballot(emulate_fiber *warp, unsigned mask) {
    unsigned votes = 0;
    for (unsigned l = 0; l < 32; l++) {
        if (mask >> l & 1 && *(unsigned *)warp[l].warp_data) votes |= 1u << l;
    }
    for (unsigned l = 0; l < 32; l++) {
        if (mask >> l & 1) *(unsigned *)warp[l].warp_data = votes;
    }
}
static inline unsigned emulate_ballot(int line, unsigned mask, bool vote) {
    unsigned votes = vote;
    emulate_warp(EMULATE_BALLOT, mask, line, &votes, emulate_resolve_ballot);
    return votes;
}
#define __ballot_sync(mask, p) emulate_ballot(__LINE__, mask, (p) != 0)
#define __any_sync(mask, p) (emulate_ballot(__LINE__, mask, (p) != 0) != 0)
#define __all_sync(mask, p) (emulate_ballot(__LINE__, mask, (p) == 0) == 0)

/* Shuffles and ballots do not order memory, __syncwarp does. Lanes that meet in the full mask take
 * turns between two edges, as at a barrier; partial masks share one. */
EMULATE_RUNTIME void emulate_syncwarp(int line, unsigned mask) {
    emulate_block *b = emulate_running;
    emulate_fiber *me = emulate_current;
    const unsigned warp = me->id / 32;
    char *edge = mask == 0xffffffffu ? &b->warp_edge[warp][me->warp_arrived++ % 2]
                                     : &b->warp_part_edge[warp];
    EMULATE_RELEASE(edge);
    emulate_warp(EMULATE_SYNCWARP, mask, line, NULL, NULL);
    EMULATE_ACQUIRE(edge);
}
struct emulate_syncwarp_at {
    int line;
    void operator()(unsigned mask = 0xffffffffu) const { emulate_syncwarp(line, mask); }
};
#define __syncwarp                                                                                 \
    emulate_syncwarp_at { __LINE__ }

/* ---- atomics and fences ----
 * An atomic alone puts nothing in order. Behind a __threadfence it hands on what the thread did
 * before; a __threadfence behind it takes over what others handed on through the same address. */

EMULATE_RUNTIME void emulate_fence(void) {
    emulate_fiber *f = emulate_current;
    f->fenced = true;
    if (f->atomic_seen) EMULATE_ACQUIRE(f->atomic_seen);
}
#define __threadfence() emulate_fence()
#define __threadfence_block() emulate_fence()

EMULATE_RUNTIME void emulate_before_atomic(void *p) {
    emulate_current->atomic_seen = p;
    if (emulate_current->fenced) EMULATE_RELEASE(p);
}
template <typename T, typename F> static inline T emulate_atomic(T *p, F next) {
    emulate_before_atomic(p);
    T old, value;
    __atomic_load(p, &old, __ATOMIC_RELAXED);
    do {
        value = next(old);
    } while (
        !__atomic_compare_exchange(p, &old, &value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
}
template <typename T, typename U> static inline T atomicAdd(T *p, U v) {
    return emulate_atomic(p, [&](T old) { return (T)(old + (T)v); });
}
template <typename T, typename U> static inline T atomicMax(T *p, U v) {
    return emulate_atomic(p, [&](T old) { return old > (T)v ? old : (T)v; });
}
template <typename T, typename U> static inline T atomicMin(T *p, U v) {
    return emulate_atomic(p, [&](T old) { return old < (T)v ? old : (T)v; });
}
template <typename T, typename U> static inline T atomicOr(T *p, U v) {
    return emulate_atomic(p, [&](T old) { return (T)(old | (T)v); });
}
template <typename T, typename U> static inline T atomicExch(T *p, U v) {
    return emulate_atomic(p, [&](T) { return (T)v; });
}
template <typename T, typename U, typename V> static inline T atomicCAS(T *p, U want, V v) {
    return emulate_atomic(p, [&](T old) { return old == (T)want ? (T)v : old; });
}
static inline __attribute__((unused)) unsigned atomicInc(unsigned *p, unsigned last) {
    return emulate_atomic(p, [&](unsigned old) { return old >= last ? 0 : old + 1; });
}

/* ---- cp.async: the target is NaN from the copy until the wait ---- */

static inline __attribute__((unused)) void emulate_copy_async(void *to, const void *from,
                                                              size_t bytes, size_t valid) {
    emulate_fiber *f = emulate_current;
    if (((uintptr_t)to | (uintptr_t)from) % bytes != 0)
        emulate_die("misaligned asynchronous copy", 0);
    if (!f->copies) f->copies = (emulate_copy *)malloc(EMULATE_COPIES * sizeof(emulate_copy));
    if (f->copy_count == EMULATE_COPIES) emulate_die("too many asynchronous copies in flight", 0);
    emulate_copy *c = &f->copies[f->copy_count++];
    c->to = (unsigned char *)to;
    c->bytes = bytes;
    c->group = f->copy_group;
    if (valid) emulate_touch(from, bytes, false);
    for (size_t i = 0; i < bytes; i++) {
        c->data[i] = i < valid ? ((const unsigned char *)from)[i] : 0;
        c->to[i] = 0xff;
    }
}
static inline __attribute__((unused)) void emulate_copy_commit(void) {
    emulate_current->copy_group++;
}
/* Until at most `pending` of the newest committed groups may still be in flight. */
static inline __attribute__((unused)) void emulate_copy_wait(unsigned pending) {
    emulate_fiber *f = emulate_current;
    unsigned kept = 0;
    for (unsigned i = 0; i < f->copy_count; i++) {
        const emulate_copy c = f->copies[i];
        if (c.group + pending < f->copy_group) {
            for (size_t k = 0; k < c.bytes; k++) c.to[k] = c.data[k];
        } else {
            f->copies[kept++] = c;
        }
    }
    f->copy_count = kept;
}

/* ---- tensor cores: the twins of the PTX instructions, in the lane layout of the PTX manual ----
 * */

struct emulate_mma {
    float *c;
    const uint32_t *a, *b;
};
EMULATE_RUNTIME float emulate_bf16_half(uint32_t word, int half) { /* 0: the low one */
    const uint32_t bits = half ? word & 0xffff0000u : word << 16;
    union {
        uint32_t u;
        float f;
    } both;
    both.u = bits;
    return both.f;
}
/* Lane l is group g = l / 4, t = l % 4. Word i of a holds row g + 8 (i odd), columns 2 t + 8 (i >
 * 1) and the next; word i of b rows 2 t + 8 i and the next of column g; entry i of c row g + 8 (i >
 * 1), column 2 t + (i odd). */
EMULATE_RUNTIME void emulate_resolve_mma(emulate_fiber *warp, unsigned mask) {
    if (mask != 0xffffffffu) emulate_die("mma: every lane of the warp has to take part", 0);
    float a[16][16], b[16][8];
    for (int l = 0; l < 32; l++) {
        const emulate_mma *m = (const emulate_mma *)warp[l].warp_data;
        const int g = l / 4, t = l % 4;
        for (int i = 0; i < 8; i++)
            a[g + i / 2 % 2 * 8][2 * t + i % 2 + i / 4 * 8] = emulate_bf16_half(m->a[i / 2], i % 2);
        for (int i = 0; i < 4; i++)
            b[2 * t + i % 2 + i / 2 * 8][g] = emulate_bf16_half(m->b[i / 2], i % 2);
    }
    for (int l = 0; l < 32; l++) {
        float *c = ((const emulate_mma *)warp[l].warp_data)->c;
        for (int i = 0; i < 4; i++) {
            for (int k = 0; k < 16; k++) c[i] += a[l / 4 + i / 2 * 8][k] * b[k][l % 4 * 2 + i % 2];
        }
    }
}
static inline __attribute__((unused)) void emulate_mma_m16n8k16_bf16(float *c, const uint32_t *a,
                                                                     const uint32_t *b) {
    emulate_mma m = {c, a, b};
    emulate_warp(EMULATE_MMA, 0xffffffffu, 0, &m, emulate_resolve_mma);
}

/* Lane l names row l % 8 (16 bytes) of matrix l / 8; each lane gets, of every matrix, the two
 * 16-bit entries 2 (l % 4) and the next of row l / 4, or transposed, of column l / 4. */
struct emulate_rows {
    const unsigned char *row, *all[32];
};
EMULATE_RUNTIME void emulate_resolve_rows(emulate_fiber *warp, unsigned mask) {
    if (mask != 0xffffffffu) emulate_die("ldmatrix: every lane of the warp has to take part", 0);
    for (int l = 0; l < 32; l++) {
        emulate_rows *mine = (emulate_rows *)warp[l].warp_data;
        for (int k = 0; k < 32; k++) mine->all[k] = ((emulate_rows *)warp[k].warp_data)->row;
    }
    const emulate_rows *any = (const emulate_rows *)warp[0].warp_data;
    for (int m = 0; m < 4; m++) { /* 8 rows at a time; 128 bytes of banks hold 8 of them */
        unsigned banks = 0;
        for (int i = 0; i < 8; i++) {
            const unsigned bank = 1u << ((uintptr_t)any->all[8 * m + i] / 16 % 8);
            emulate_counted.matrix_conflicts += (banks & bank) != 0;
            banks |= bank;
        }
    }
}
static inline __attribute__((unused)) void emulate_ldmatrix_x4(uint32_t *out, const void *row,
                                                               bool transposed) {
    emulate_rows rows;
    rows.row = (const unsigned char *)row;
    if ((uintptr_t)row % 16 != 0) emulate_die("misaligned ldmatrix", 0);
    emulate_warp(EMULATE_LDMATRIX + transposed, 0xffffffffu, 0, &rows, emulate_resolve_rows);
    const unsigned g = emulate_current->lane / 4, t = emulate_current->lane % 4;
    for (unsigned m = 0; m < 4; m++) {
        uint16_t half[2];
        for (unsigned i = 0; i < 2; i++) {
            const unsigned r = transposed ? 2 * t + i : g, c = transposed ? g : 2 * t + i;
            memcpy(&half[i], rows.all[8 * m + r] + 2 * c, sizeof half[i]);
        }
        out[m] = half[0] | (uint32_t)half[1] << 16;
    }
}

/* ---- intrinsics ---- */

#define __ldg(p) (*(p))
#define __expf(x) expf(x) /* macros: glibc has functions of these names */
#define __logf(x) logf(x)
static inline __attribute__((unused)) float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline __attribute__((unused)) float __fdividef(float a, float b) { return a / b; }
static inline __attribute__((unused)) unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned)((uint64_t)a * b >> 32);
}
static inline __attribute__((unused)) int __popc(unsigned x) { return __builtin_popcount(x); }
static inline __attribute__((unused)) int __clz(int x) {
    return x ? __builtin_clz((unsigned)x) : 32;
}
static inline __attribute__((unused)) int __ffs(int x) { return __builtin_ffs(x); }
static inline __attribute__((unused)) unsigned __float_as_uint(float x) {
    unsigned u;
    memcpy(&u, &x, sizeof u);
    return u;
}
static inline __attribute__((unused)) float __uint_as_float(unsigned u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* ---- launching ---- */

/* ThreadSanitizer forgets who touched a range that is mapped anew: whole pages, which may hold
 * other variables too. */
EMULATE_RUNTIME void emulate_forget(char *p, size_t n) {
#ifdef EMULATE_TSAN
    const size_t size = (n + EMULATE_PAGE - 1) / EMULATE_PAGE * EMULATE_PAGE;
    if (!n) return;
    char *save = (char *)emulate_map(size);
    emulate_move(save, p, size);
    if (mmap(p, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != p)
        _exit(EMULATE_EXIT);
    emulate_move(p, save, size);
    munmap(save, size);
#else
    (void)p, (void)n;
#endif
}
/* Shared memory as this block is to find it: its own from before a grid barrier, or NaN. */
EMULATE_RUNTIME void emulate_give_shared(emulate_block *b) {
    for (size_t i = 0; i < emulate_shared_page_count; i++)
        emulate_forget(emulate_shared_pages[i].data, emulate_shared_pages[i].size);
    if (b->entered) {
        emulate_restore_shared(b->saved_shared);
    } else {
        emulate_fill_shared();
        emulate_forget(b->dynamic, emulate_dynamic_size);
        emulate_fill_nan(b->dynamic, emulate_dynamic_size);
    }
    /* to ThreadSanitizer a mapping is a write of the host's, which no block may race with */
    EMULATE_RELEASE(&emulate_start_edge);
    EMULATE_RELEASE(&emulate_grid_edge[0]);
    EMULATE_RELEASE(&emulate_grid_edge[1]);
}

/* Runs until every thread of the block has returned or waits at a grid barrier. */
EMULATE_RUNTIME void emulate_run_block(emulate_block *b) {
    emulate_running = b;
    emulate_dynamic = b->dynamic;
    emulate_give_shared(b);
    if (!b->entered) {
        b->entered = true;
        for (unsigned i = 0; i < b->n; i++) {
            emulate_fiber *f = &b->fiber[i];
            f->id = i;
            emulate_make(f);
            f->lane = i % 32;
            f->index.x = i % emulate_block_size.x;
            f->index.y = i / emulate_block_size.x % emulate_block_size.y;
            f->index.z = i / emulate_block_size.x / emulate_block_size.y;
            f->state = EMULATE_AT_BARRIER;
            f->line = 0;
            f->arrived = f->warp_arrived = f->grid_arrived = f->copy_count = f->copy_group = 0;
            f->atomic_seen = NULL;
            f->fenced = false;
        }
        emulate_wake(b, EMULATE_AT_BARRIER);
    } else {
        b->at_grid = 0;
        emulate_wake(b, EMULATE_AT_GRID);
    }
    emulate_switch(emulate_pop());
    for (unsigned i = 0; i < b->n && b->at_grid != b->live; i++) {
        const emulate_fiber *f = &b->fiber[i];
        if (f->state == EMULATE_AT_WARP)
            emulate_die_at(f, "warp collective: lanes of the mask never arrive");
        if (f->state == EMULATE_AT_BARRIER)
            emulate_die_at(f, "divergent barrier: threads never arrive at __syncthreads");
    }
    if (emulate_cooperative) emulate_save_shared(b->saved_shared);
    emulate_running = NULL;
}

typedef enum cudaError {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorCooperativeLaunchTooLarge = 720
} cudaError_t;
static cudaError_t emulate_error;

EMULATE_RUNTIME void emulate_launch(dim3 grid, dim3 block, size_t shared, bool cooperative) {
    static emulate_fiber *pool; /* a launch's fibers are used again by the next */
    static size_t pool_size;
    static char *dynamic;
    emulate_start();
    const size_t n = (size_t)block.x * block.y * block.z;
    const size_t blocks = (size_t)grid.x * grid.y * grid.z;
    if (n < 1 || n > EMULATE_MAX_THREADS || block.z > 64 || blocks < 1 || grid.x > 0x7fffffffu ||
        grid.y > 65535 || grid.z > 65535 || shared > EMULATE_MAX_SHARED) {
        emulate_error = cudaErrorInvalidConfiguration;
        return;
    }
    if (cooperative && blocks * n > 2048u * EMULATE_MULTIPROCESSORS) {
        emulate_error = cudaErrorCooperativeLaunchTooLarge;
        return;
    }
    /* Blocks in a row get different fibers: to ThreadSanitizer they are different threads. */
    const size_t resident = cooperative ? blocks : 2;
    if (pool_size < resident * n) { /* made anew: a ucontext_t may not move */
        for (size_t i = 0; i < pool_size; i++) emulate_unmake(&pool[i]);
        free(pool);
        pool_size = resident * n < 2 * EMULATE_MAX_THREADS ? 2 * EMULATE_MAX_THREADS : resident * n;
        pool = (emulate_fiber *)calloc(pool_size, sizeof(emulate_fiber));
    }
    if (!dynamic) dynamic = (char *)emulate_map(EMULATE_MAX_SHARED + EMULATE_PAGE);
    emulate_grid = grid;
    emulate_block_size = block;
    emulate_dynamic_size = shared;
    emulate_cooperative = cooperative;
#ifdef EMULATE_TSAN
    emulate_host.tsan = __tsan_get_current_fiber();
#endif
#ifdef EMULATE_ASAN
    __asan_unpoison_memory_region(dynamic, shared);
    __asan_poison_memory_region(dynamic + shared, EMULATE_MAX_SHARED + EMULATE_PAGE - shared);
#endif
    emulate_block *b = (emulate_block *)calloc(resident, sizeof(emulate_block));
    for (size_t i = 0; cooperative && i < resident; i++) {
        b[i].saved_shared = (char *)malloc(emulate_shared_size + 8);
        b[i].dynamic = (char *)emulate_map(shared + EMULATE_PAGE);
    }
    emulate_open_all(true);
    const size_t together = cooperative ? blocks : 1;
    for (size_t first = 0; first < blocks; first += together) {
        for (size_t i = 0; i < together; i++) {
            const size_t q = emulate_order == 1 ? blocks - 1 - (first + i) : first + i;
            emulate_block *block_i = &b[cooperative ? i : first % 2];
            block_i->fiber = pool + n * (cooperative ? i : first % 2);
            block_i->n = block_i->live = (unsigned)n;
            block_i->at_barrier = block_i->at_grid = 0;
            block_i->votes[0] = block_i->votes[1] = 0;
            block_i->entered = false;
            if (!cooperative) block_i->dynamic = dynamic;
            block_i->index.x = (unsigned)(q % grid.x);
            block_i->index.y = (unsigned)(q / grid.x % grid.y);
            block_i->index.z = (unsigned)(q / grid.x / grid.y);
        }
        for (size_t live = 1, waiting = 0; live;) {
            live = waiting = 0;
            for (size_t i = 0; i < together; i++) {
                emulate_block *block_i = &b[cooperative ? i : first % 2];
                if (block_i->live) emulate_run_block(block_i);
                live += block_i->live;
                waiting += block_i->at_grid;
            }
            if (waiting && waiting != blocks * n)
                emulate_die("a grid barrier that some threads of the grid never reach", 0);
        }
    }
    EMULATE_ACQUIRE(&emulate_end_edge);
    emulate_open_all(false);
    for (size_t i = 0; cooperative && i < resident; i++) {
        free(b[i].saved_shared);
        munmap(b[i].dynamic, shared + EMULATE_PAGE);
    }
    free(b);
}

/* A pointer that a kernel is given is NULL or stands in device memory. */
template <typename T> static inline void emulate_check_argument(const T &, size_t) {}
template <typename T> static inline void emulate_check_argument(T *const &p, size_t i) {
    if (!p) return;
    const emulate_allocation *a = emulate_find((const void *)p);
    if (a && (const char *)p >= a->data && (const char *)p <= a->data + a->size) return;
    fprintf(stderr, "emulate: argument %zu of kernel %s is host memory\n", i + 1,
            emulate_kernel_name);
    fflush(NULL);
    _exit(EMULATE_EXIT);
}

/* A closure for each kernel: std::tuple in its place takes g++ half of a suite's time. */
template <typename... P> struct emulate_launcher {
    const char *name;
    void (*kernel)(P...);
    template <typename C> static void call(const void *closure) { (*(const C *)closure)(); }
    /* Not deduced: arguments are converted as in a call, and evaluated once. */
    void launch(dim3 grid, dim3 block, size_t shared, bool cooperative, P... arguments) const {
        const auto run = [&] { kernel(arguments...); };
        size_t i = 0;
        emulate_kernel_name = name;
        (emulate_check_argument(arguments, i++), ...);
        emulate_arguments = &run;
        emulate_call = call<decltype(run)>;
        emulate_launch(grid, block, shared, cooperative);
    }
};
template <typename... P>
static inline emulate_launcher<P...> emulate_bind(const char *name, void (*kernel)(P...)) {
    const emulate_launcher<P...> launcher = {name, kernel};
    return launcher;
}

/* ---- the runtime's functions ---- */

typedef struct emulate_stream *cudaStream_t;
typedef struct emulate_event {
    double milliseconds;
} * cudaEvent_t;
enum cudaMemcpyKind {
    cudaMemcpyHostToDevice = 1,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice
};
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16 };

static inline __attribute__((unused)) cudaError_t cudaGetLastError(void) {
    const cudaError_t error = emulate_error;
    emulate_error = cudaSuccess;
    return error;
}
static inline __attribute__((unused)) cudaError_t cudaPeekAtLastError(void) {
    return emulate_error;
}
static inline __attribute__((unused)) const char *cudaGetErrorString(cudaError_t error) {
    return error == cudaSuccess                          ? "no error"
           : error == cudaErrorInvalidValue              ? "invalid argument"
           : error == cudaErrorMemoryAllocation          ? "out of memory"
           : error == cudaErrorCooperativeLaunchTooLarge ? "too many blocks in cooperative launch"
                                                         : "invalid configuration argument";
}

/* The end of the allocation meets a guard page, up to the alignment of 16 bytes; the card aligns to
 * 256, so what is right here is right there. */
EMULATE_RUNTIME cudaError_t emulate_allocate(void **p, size_t size) {
    emulate_start();
    *p = NULL;
    if (!size) return cudaSuccess;
    const size_t pages = (size + EMULATE_PAGE - 1) / EMULATE_PAGE;
    emulate_allocation a;
    a.size = size;
    a.map_size = (pages + 2) * EMULATE_PAGE;
    a.map = (char *)emulate_map(a.map_size);
    a.data = a.map + (pages + 1) * EMULATE_PAGE - (size + 15) / 16 * 16;
    a.touched = (unsigned char *)calloc(size / 32 + 2, 1);
    emulate_fill_nan(a.map + EMULATE_PAGE, pages * EMULATE_PAGE);
    mprotect(a.map, a.map_size, PROT_NONE);
#ifdef EMULATE_ASAN
    __asan_poison_memory_region(a.map, a.map_size);
    __asan_unpoison_memory_region(a.data, size);
#endif
    if (emulate_allocation_count == emulate_allocation_room) {
        emulate_allocation_room = 2 * emulate_allocation_room + 64;
        emulate_allocations = (emulate_allocation *)realloc(
            emulate_allocations, emulate_allocation_room * sizeof(emulate_allocation));
    }
    size_t i = emulate_allocation_count++;
    for (; i > 0 && emulate_allocations[i - 1].map > a.map; i--)
        emulate_allocations[i] = emulate_allocations[i - 1];
    emulate_allocations[i] = a;
    *p = a.data;
    return cudaSuccess;
}
template <typename T> static inline cudaError_t cudaMalloc(T **p, size_t size) {
    void *memory;
    const cudaError_t error = emulate_allocate(&memory, size);
    *p = (T *)memory;
    return error;
}
EMULATE_RUNTIME cudaError_t cudaFree(void *p) {
    if (!p) return cudaSuccess;
    emulate_allocation *a = emulate_find(p);
    if (!a || p != a->data) return cudaErrorInvalidValue;
#ifdef EMULATE_ASAN
    __asan_unpoison_memory_region(a->map, a->map_size);
#endif
    munmap(a->map, a->map_size);
    free(a->touched);
    const size_t i = (size_t)(a - emulate_allocations);
    memmove(a, a + 1, (--emulate_allocation_count - i) * sizeof(emulate_allocation));
    return cudaSuccess;
}
/* Opens the allocation that holds the range, or closes it; false when there is none. */
EMULATE_RUNTIME bool emulate_open(const void *p, size_t size, bool open) {
    const emulate_allocation *a = emulate_find(p);
    if (!a || (const char *)p < a->data || (const char *)p + size > a->data + a->size) return false;
    emulate_protect(a, open);
    return true;
}
static inline __attribute__((unused)) cudaError_t cudaMemcpy(void *to, const void *from,
                                                             size_t size, cudaMemcpyKind kind) {
    const bool device_to = kind != cudaMemcpyDeviceToHost,
               device_from = kind != cudaMemcpyHostToDevice;
    if (!size) return cudaSuccess;
    if ((device_to && !emulate_open(to, size, true)) ||
        (device_from && !emulate_open(from, size, true)))
        return cudaErrorInvalidValue;
    memcpy(to, from, size);
    if (device_to) emulate_open(to, size, false);
    if (device_from) emulate_open(from, size, false);
    return cudaSuccess;
}
static inline __attribute__((unused)) cudaError_t
cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind kind, cudaStream_t stream) {
    (void)stream;
    return cudaMemcpy(to, from, size, kind);
}
static inline __attribute__((unused)) cudaError_t cudaMemset(void *p, int value, size_t size) {
    if (!size) return cudaSuccess;
    if (!emulate_open(p, size, true)) return cudaErrorInvalidValue;
    memset(p, value, size);
    emulate_open(p, size, false);
    return cudaSuccess;
}
static inline __attribute__((unused)) cudaError_t cudaMemsetAsync(void *p, int value, size_t size,
                                                                  cudaStream_t stream) {
    (void)stream;
    return cudaMemset(p, value, size);
}
static inline __attribute__((unused)) cudaError_t cudaDeviceSynchronize(void) {
    return cudaSuccess;
}
static inline __attribute__((unused)) cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    (void)stream;
    return cudaSuccess;
}
static inline __attribute__((unused)) cudaError_t cudaStreamCreate(cudaStream_t *stream) {
    *stream = (cudaStream_t)malloc(1);
    return cudaSuccess;
}
static inline __attribute__((unused)) cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    free(stream);
    return cudaSuccess;
}
static inline __attribute__((unused)) cudaError_t cudaEventCreate(cudaEvent_t *event) {
    *event = (cudaEvent_t)calloc(1, sizeof(struct emulate_event));
    return cudaSuccess;
}
static inline __attribute__((unused)) cudaError_t cudaEventRecord(cudaEvent_t event,
                                                                  cudaStream_t stream) {
    struct timespec now;
    (void)stream;
    clock_gettime(CLOCK_MONOTONIC, &now);
    event->milliseconds = 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
    return cudaSuccess;
}
static inline __attribute__((unused)) cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    (void)event;
    return cudaSuccess;
}
static inline __attribute__((unused)) cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start,
                                                                       cudaEvent_t stop) {
    *ms = (float)(stop->milliseconds - start->milliseconds);
    return cudaSuccess;
}
static inline __attribute__((unused)) cudaError_t cudaEventDestroy(cudaEvent_t event) {
    free(event);
    return cudaSuccess;
}
static inline __attribute__((unused)) cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return cudaSuccess;
}
static inline __attribute__((unused)) cudaError_t
cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
    (void)device;
    if (attribute != cudaDevAttrMultiProcessorCount) return cudaErrorInvalidValue;
    *value = EMULATE_MULTIPROCESSORS;
    return cudaSuccess;
}
#endif
