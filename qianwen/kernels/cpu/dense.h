// Dense weights in bfloat16, multiplied in fp32: for few rows, and for processors without AMX.
//
// A panel holds its 16 outputs input by input, two inputs to a 32-bit lane: one of a pair is had by a shift, the other
// by a mask. Every result is one chain of fused multiply-adds over the inputs in order, so its bits do not depend on the
// number of rows either.
#pragma once

#include "linear.h"

constexpr int DENSE_ROWS = 6, DENSE_PANELS = 4;  // 24 accumulators

template <int R> void dense_tile(const Job& job, int64_t panel, int64_t row) {
    const int64_t pairs = ceil_div(job.linear.inputs, 2), inputs = job.linear.inputs;
    const uint8_t* w = job.linear.packed + panel * pairs * 64;
    const float* x = job.dense + row * inputs;
    const __m512i upper = _mm512_set1_epi32(0xFFFF0000);
    __m512 sum[R][DENSE_PANELS];
    repeat<R>([&](auto r) INLINE { repeat<DENSE_PANELS>([&](auto p) INLINE { sum[r][p] = _mm512_setzero_ps(); }); });
    for (int64_t pair = 0; pair < pairs; pair++) {
        __m512i both[DENSE_PANELS];
        repeat<DENSE_PANELS>([&](auto p) INLINE {
            const uint8_t* from = w + (p * pairs + pair) * 64;
            _mm_prefetch((const char*)from + 2048, _MM_HINT_T0);
            both[p] = _mm512_loadu_si512(from);
        });
        repeat<2>([&](auto half) INLINE {
            const int64_t k = 2 * pair + half;
            if (half && k == inputs) return;
            __m512 weights[DENSE_PANELS];
            repeat<DENSE_PANELS>([&](auto p) INLINE {
                weights[p] = _mm512_castsi512_ps(half ? _mm512_and_si512(both[p], upper) : _mm512_slli_epi32(both[p], 16));
            });
            repeat<R>([&](auto r) INLINE {
                const __m512 value = _mm512_set1_ps(x[r * inputs + k]);
                repeat<DENSE_PANELS>([&](auto p) INLINE { sum[r][p] = _mm512_fmadd_ps(weights[p], value, sum[r][p]); });
            });
        });
    }
    repeat<R>([&](auto r) INLINE {
        repeat<DENSE_PANELS>([&](auto p) INLINE { job.store(row + r, (panel + p) * LANES, sum[r][p]); });
    });
}

static inline void by_dense_tiles(const Job& job) {
    const int64_t tiles = ceil_div(job.linear.outputs, DENSE_PANELS * LANES);
    const int64_t chunk = std::max<int64_t>(1, tiles / (8 * omp_get_num_threads()));
#pragma omp for schedule(dynamic, chunk)
    for (int64_t tile = 0; tile < tiles; tile++)
        in_tiles<DENSE_ROWS>(job.rows, [&](int64_t row, auto size) { dense_tile<size()>(job, tile * DENSE_PANELS, row); });
}
