// What every kernel here builds on: 16-lane vectors, a few conversions, and how work is shared between threads.
//
// All kernels are written for AVX-512 with VNNI, whose `vpdpbusd` multiplies 64 unsigned bytes by 64 signed ones and adds
// them in fours to 16 integers. Threads are those of the OpenMP runtime that PyTorch brought into the process: a second
// pool would spin on the same cores.
#pragma once

#include <immintrin.h>
#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

constexpr int LANES = 16;

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

static inline __m512 load_half(const void* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
static inline __m512 load_bytes(const uint8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)));
}
static inline __m512 load_bytes(const int8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)));
}
static inline __mmask16 first_lanes(int64_t n) { return n >= LANES ? 0xFFFF : n <= 0 ? 0 : (1 << n) - 1; }

// sum += Σ codes · x over the four bytes of each lane; the second takes the same four signed bytes for all lanes.
// In assembly because GCC, given the intrinsic in an unrolled loop, copies every accumulator there and back.
static inline void add_dot(__m512i& sum, __m512i codes, __m512i x) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(x));
}
static inline void add_dot(__m512i& sum, __m512i codes, const int8_t* x) {
    asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(codes), "m"(*(const int8_t(*)[4])x));
}
static inline __m512i broadcast4(const int8_t* x) {
    int32_t quad;
    std::memcpy(&quad, x, 4);
    return _mm512_set1_epi32(quad);
}

// Calls `f` with each of 0 … N − 1 as a compile-time number. Accumulators indexed so stay in registers; those of a loop
// that the compiler unrolls later do not.
template <class F, int... I> [[gnu::always_inline]] inline void repeat(std::integer_sequence<int, I...>, F f) {
    (f(std::integral_constant<int, I>{}), ...);
}
template <int N, class F> [[gnu::always_inline]] inline void repeat(F f) { repeat(std::make_integer_sequence<int, N>{}, f); }
#define INLINE __attribute__((always_inline))

// Calls `f(row, size)` for tiles of at most MAX rows that cover `count`; `size` is a compile-time number.
template <int MAX, class F> static inline void in_tiles(int64_t count, F f) {
    int64_t row = 0;
    for (; row + MAX <= count; row += MAX) f(row, std::integral_constant<int, MAX>{});
    if constexpr (MAX > 1)
        if (row < count) in_tiles<MAX - 1>(count - row, [&](int64_t r, auto size) { f(row + r, size); });
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
