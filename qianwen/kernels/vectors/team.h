// How the threads of a kernel share its work: the parallel regions, loops and barriers of OpenMP as plain calls.
//
//     in_team([&] { … });                   every thread of the team runs it
//     share(count, f);                      f(i) for all i below count: a run of neighbours for each thread, then a barrier
//     share_dynamically(count, chunk, f);   the same; a thread takes the next `chunk` when it has finished its last
//     single(f);                            the first thread to arrive runs it, then a barrier
//
// The last three are called by all threads of a team. Nothing here needs a compiler with OpenMP: its pragmas tie a
// library to the runtime of that compiler (libgomp of GCC, libomp of Clang), which must be the one that PyTorch brought
// into the process, because a second pool of threads would wait on the same cores. The functions below are not linked:
// they are found in PyTorch's runtime when the library is loaded, and `torch.set_num_threads` holds for them.
#pragma once

#ifndef TEAM_OF_LIBOMP  // macOS: PyTorch brings LLVM's runtime, elsewhere GNU's
#ifdef __APPLE__
#define TEAM_OF_LIBOMP 1
#else
#define TEAM_OF_LIBOMP 0
#endif
#endif

#include <algorithm>
#include <cstdint>

#if TEAM_OF_LIBOMP

struct OpenmpPlace {  // `ident_t` of LLVM's kmp.h: where in the source a call stands
    int32_t reserved_1, flags, reserved_2, reserved_3;
    const char* source;
};

extern "C" {
int omp_get_thread_num();
int omp_get_num_threads();
int32_t __kmpc_global_thread_num(OpenmpPlace*);
void __kmpc_push_num_threads(OpenmpPlace*, int32_t thread, int32_t count);
void __kmpc_fork_call(OpenmpPlace*, int32_t count, void (*)(int32_t*, int32_t*, ...), ...);
void __kmpc_barrier(OpenmpPlace*, int32_t thread);
int32_t __kmpc_single(OpenmpPlace*, int32_t thread);
void __kmpc_end_single(OpenmpPlace*, int32_t thread);
void __kmpc_dispatch_init_8(OpenmpPlace*, int32_t thread, int32_t schedule, int64_t first, int64_t last, int64_t step, int64_t chunk);
int32_t __kmpc_dispatch_next_8(OpenmpPlace*, int32_t thread, int32_t* is_last, int64_t* first, int64_t* last, int64_t* step);
}

inline OpenmpPlace openmp_place{0, 2, 0, 0, ";unknown;unknown;0;0;;"};  // 2: as a compiler calls

INLINE int32_t openmp_thread() { return __kmpc_global_thread_num(&openmp_place); }

template <class F> void run_in_team(int32_t*, int32_t*, void* f) { (*static_cast<F*>(f))(); }

template <class F> static inline void in_team_if(bool is_shared, F f) {
    if (!is_shared) __kmpc_push_num_threads(&openmp_place, openmp_thread(), 1);
    __kmpc_fork_call(&openmp_place, 1, reinterpret_cast<void (*)(int32_t*, int32_t*, ...)>(run_in_team<F>), &f);
}

INLINE void barrier() { __kmpc_barrier(&openmp_place, openmp_thread()); }

template <class F> INLINE void share_dynamically(int64_t count, int64_t chunk, F f) {
    constexpr int32_t DYNAMIC = 35;
    const int32_t thread = openmp_thread();
    int32_t is_last;
    int64_t first, last, step;
    if (count > 0) {
        __kmpc_dispatch_init_8(&openmp_place, thread, DYNAMIC, 0, count - 1, 1, chunk);
        while (__kmpc_dispatch_next_8(&openmp_place, thread, &is_last, &first, &last, &step))
            for (int64_t i = first; i <= last; i++) f(i);
    }
    barrier();
}

template <class F> INLINE void single(F f) {
    if (__kmpc_single(&openmp_place, openmp_thread())) {
        f();
        __kmpc_end_single(&openmp_place, openmp_thread());
    }
    barrier();
}

#else

extern "C" {
int omp_get_thread_num();
int omp_get_num_threads();
void GOMP_parallel(void (*)(void*), void* argument, unsigned threads, unsigned flags);
void GOMP_barrier();
bool GOMP_single_start();
bool GOMP_loop_dynamic_start(long first, long end, long step, long chunk, long* from, long* to);
bool GOMP_loop_dynamic_next(long* from, long* to);
void GOMP_loop_end();
}

template <class F> void run_in_team(void* f) { (*static_cast<F*>(f))(); }

// `is_shared`: whether the work is worth more than one thread.
template <class F> static inline void in_team_if(bool is_shared, F f) {
    GOMP_parallel(run_in_team<F>, &f, is_shared ? 0 : 1, 0);
}

INLINE void barrier() { GOMP_barrier(); }

template <class F> INLINE void share_dynamically(int64_t count, int64_t chunk, F f) {
    long from, to;
    for (bool is_work = GOMP_loop_dynamic_start(0, count, 1, chunk, &from, &to); is_work; is_work = GOMP_loop_dynamic_next(&from, &to))
        for (int64_t i = from; i < to; i++) f(i);
    GOMP_loop_end();
}

template <class F> INLINE void single(F f) {
    if (GOMP_single_start()) f();
    barrier();
}

#endif

template <class F> static inline void in_team(F f) { in_team_if(true, f); }

template <class F> INLINE void share(int64_t count, F f) {
    const int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
    const int64_t each = count / threads, longer = count % threads;  // so many threads have one more
    const int64_t first = thread * each + std::min(thread, longer), end = first + each + (thread < longer);
    for (int64_t i = first; i < end; i++) f(i);
    barrier();
}

// Chunks for `share_dynamically` of which a thread takes about eight.
static inline int64_t eighths(int64_t count) { return std::max<int64_t>(1, count / (8 * omp_get_num_threads())); }
