// CUDA's keywords for a C++ compiler, so that tests can run the kernels on the CPU. Threads of a block that
// synchronise are fibers, switched at `__syncthreads`. Every second block runs its threads in reverse order, so that
// a missing synchronisation changes the results. With `REAL_THREADS` they are threads of the system, for sanitizers.

#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __device__ inline
#ifdef REAL_THREADS
#include <pthread.h>
#include <thread>
// One block runs at a time.
#define __shared__ static
#else
#define __shared__ static thread_local
#endif
#define KERNEL extern "C" void

struct Place {
    unsigned int x;
};
static thread_local Place blockIdx, threadIdx, gridDim;

static inline unsigned int __float_as_uint(float value) {
    unsigned int bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float __uint_as_float(unsigned int bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

#ifdef REAL_THREADS

static pthread_barrier_t barrier;

static inline void __syncthreads() {
    pthread_barrier_wait(&barrier);
}

// Runs every thread of every block, all threads of a block at once. Without synchronisation, each thread begins with
// another block, so that blocks overlap too.
static void run_blocks(unsigned int blocks, unsigned int threads, bool waits, void (*body)(void *), void *argument) {
    pthread_barrier_init(&barrier, nullptr, threads);
    std::vector<std::thread> all;
    for (unsigned int thread = 0; thread < threads; thread++) {
        all.emplace_back([=] {
            threadIdx.x = thread;
            gridDim.x = blocks;
            for (unsigned int n = 0; n < blocks; n++) {
                blockIdx.x = waits ? n : (n + thread) % blocks;
                body(argument);
                if (waits) {
                    __syncthreads();
                }
            }
        });
    }
    for (std::thread &thread : all) {
        thread.join();
    }
    pthread_barrier_destroy(&barrier);
}

#else

// A fiber starts with `setcontext` and continues with `_longjmp`, which makes no system call. It is kept for the next
// block.
struct Fiber {
    ucontext_t start;
    jmp_buf place;
    std::vector<char> stack;
    bool is_started = false, is_done = false;
};

struct Fibers {
    jmp_buf scheduler;
    std::vector<Fiber> all;
    void (*body)(void *);
    void *argument;
};
static thread_local Fibers *fibers = nullptr;

static inline void __syncthreads() {
    if (!fibers) {
        std::fprintf(stderr, "a kernel waits that is not declared to\n");
        std::abort();
    }
    if (_setjmp(fibers->all[threadIdx.x].place) == 0) {
        _longjmp(fibers->scheduler, 1);
    }
}

// Runs a thread of one block after the other.
static void run_fiber() {
    for (;;) {
        fibers->body(fibers->argument);
        fibers->all[threadIdx.x].is_done = true;
        if (_setjmp(fibers->all[threadIdx.x].place) == 0) {
            _longjmp(fibers->scheduler, 1);
        }
    }
}

// Runs a thread until it synchronises or ends.
static void resume(unsigned int thread) {
    threadIdx.x = thread;
    Fiber &fiber = fibers->all[thread];
    if (_setjmp(fibers->scheduler) != 0) {
        return;
    }
    if (fiber.is_started) {
        _longjmp(fiber.place, 1);
    }
    fiber.is_started = true;
    setcontext(&fiber.start);
}

// Runs every thread of every block; `waits` tells whether threads synchronise.
static void run_blocks(unsigned int blocks, unsigned int threads, bool waits, void (*body)(void *), void *argument) {
    static thread_local unsigned int launches = 0;
    launches++;
    gridDim.x = blocks;
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++) {
        bool is_backwards = (launches + blockIdx.x) % 2 == 1;
        auto place = [&](unsigned int n) { return is_backwards ? threads - 1 - n : n; };
        if (!waits) {
            for (unsigned int n = 0; n < threads; n++) {
                threadIdx.x = place(n);
                body(argument);
            }
            continue;
        }
        static thread_local Fibers own;
        own.all.resize(threads);
        own.body = body;
        own.argument = argument;
        fibers = &own;
        for (Fiber &fiber : own.all) {
            fiber.is_done = false;
            if (fiber.is_started) {
                continue;
            }
            fiber.stack.resize(32 * 1024);
            getcontext(&fiber.start);
            fiber.start.uc_stack.ss_sp = fiber.stack.data();
            fiber.start.uc_stack.ss_size = fiber.stack.size();
            fiber.start.uc_link = nullptr;
            makecontext(&fiber.start, run_fiber, 0);
        }
        for (bool is_alive = true; is_alive;) {
            is_alive = false;
            for (unsigned int n = 0; n < threads; n++) {
                unsigned int thread = place(n);
                if (!own.all[thread].is_done) {
                    resume(thread);
                    is_alive = is_alive || !own.all[thread].is_done;
                }
            }
        }
        fibers = nullptr;
    }
}

#endif

// A kernel with its arguments as the driver passes them: a pointer to each.
template <typename... A> struct Bound {
    void (*kernel)(A...);
    void **arguments;
    template <size_t... I> void call(std::index_sequence<I...>) {
        kernel(*static_cast<A *>(arguments[I])...);
    }
    static void body(void *bound) {
        static_cast<Bound *>(bound)->call(std::index_sequence_for<A...>());
    }
};

template <typename... A>
static void launch(void (*kernel)(A...), unsigned int blocks, unsigned int threads, bool waits, void **arguments) {
    Bound<A...> bound = {kernel, arguments};
    run_blocks(blocks, threads, waits, Bound<A...>::body, &bound);
}

// A kernel as a driver knows it.
struct KernelParameter {
    size_t size;
    bool is_pointer;
};

struct KernelEntry {
    const char *name;
    std::vector<KernelParameter> parameters;
    void (*run)(unsigned int blocks, void **arguments);
};

template <typename... A> static std::vector<KernelParameter> parameters_of(void (*)(A...)) {
    return {{sizeof(A), std::is_pointer<A>::value}...};
}
