// What every kernel is written on: vectors of the processor's own width, and how work is shared between threads.
//
// One small file for each family of processors gives the same names: `Floats` (LANES numbers in fp32), `Ints`, `Bytes`
// (four to a lane, also read as 16-bit integers) and `Lanes` (which lanes are meant). A kernel is written once; the
// compiler's flags choose the family, so one source becomes a library for each (`cpu/build.py`).
//
//     avx512.h    AVX-512; with VNNI and bfloat16 products where allowed
//     avx2.h      AVX2 with FMA; with AVX-VNNI where allowed
//     neon.h      64-bit Arm with dot products; with i8mm where allowed
//
//     team.h      threads: those of the OpenMP runtime that PyTorch brought into the process
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#define INLINE [[gnu::always_inline]] static inline
#define MEMBER [[gnu::always_inline]] inline
#define LAMBDA __attribute__((always_inline))

#include "team.h"

// Calls `f` with each of 0 … N − 1 as a compile-time number. Accumulators indexed so stay in registers; those of a loop
// that the compiler unrolls later do not.
template <class F, int... I> INLINE void repeat(std::integer_sequence<int, I...>, F f) {
    (f(std::integral_constant<int, I>{}), ...);
}
template <int N, class F> INLINE void repeat(F f) { repeat(std::make_integer_sequence<int, N>{}, f); }

#if defined(__AVX512F__)
#include "avx512.h"
#elif defined(__AVX2__)
#include "avx2.h"
#elif defined(__ARM_NEON)
#include "neon.h"
#else
#error "no family of vectors for this processor"
#endif

constexpr int PANEL = 16;                       // outputs of a linear that lie together in memory (formats.h)
constexpr int PARTS_OF_PANEL = PANEL / LANES;   // vectors that hold a number for each
constexpr int VECTOR_BYTES = 4 * LANES;

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// All lanes, known at compile time: whole vectors need no mask.
struct AllLanes {};
INLINE Floats load(const float* p, AllLanes) { return load(p); }
INLINE void store(float* p, Floats x, AllLanes) { store(p, x); }
INLINE Floats load_bfloat16(const uint16_t* p, AllLanes) { return load_bfloat16(p); }
INLINE void store_bfloat16(uint16_t* p, Floats x, AllLanes) { store_bfloat16(p, x); }
INLINE Floats select(AllLanes, Floats yes, Floats) { return yes; }

// Calls `f(offset, lanes)` for every vector of `size` elements.
template <class F> INLINE void by_lanes(int64_t size, F f) {
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) f(i, AllLanes{});
    if (i < size) f(i, first_lanes(size - i));
}

// Calls `f(row, size)` for tiles of at most MAX rows that cover `count`; `size` is a compile-time number.
template <int MAX, class F> static inline void in_tiles(int64_t count, F f) {
    int64_t row = 0;
    for (; row + MAX <= count; row += MAX) f(row, std::integral_constant<int, MAX>{});
    if constexpr (MAX > 1)
        if (row < count) in_tiles<MAX - 1>(count - row, [&](int64_t r, auto size) { f(row + r, size); });
}

// eˣ to 2 ulp; e⁰ is exactly 1. Arguments below −87 give 0.
INLINE Floats exponential(Floats x) {
    const Floats n = rounded(x * all(1.44269504f));
    Floats r = fnma(n, all(0.693359375f), x);  // ln 2 in two parts
    r = fnma(n, all(-2.12194440e-4f), r);
    Floats p = all(1.9875691500e-4f);  // Cephes' expf
    for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
        p = fma(p, r, all(c));
    p = fma(r * r, p, r) + all(1.0f);
    return select(is_less(all(-87.0f), x), scaled_by_power(p, n), zero());
}

// Memory that a thread keeps between calls, grown on demand, in large pages where it is large and the system has them.
class Scratch {
  public:
    template <class T> T* get(int64_t count) {
        constexpr size_t LINE = 64, LARGE_PAGE = 2 << 20;
        size_t bytes = count * sizeof(T);
        if (bytes > size_) {
            const size_t unit = bytes >= LARGE_PAGE ? LARGE_PAGE : LINE;
            size_ = ceil_div(bytes, unit) * unit;
            data_.reset(static_cast<char*>(std::aligned_alloc(unit, size_)));
#ifdef MADV_HUGEPAGE
            if (unit == LARGE_PAGE) madvise(data_.get(), size_, MADV_HUGEPAGE);
#endif
        }
        return reinterpret_cast<T*>(data_.get());
    }

  private:
    struct Free {
        void operator()(char* p) const { std::free(p); }
    };
    std::unique_ptr<char, Free> data_;
    size_t size_ = 0;
};
