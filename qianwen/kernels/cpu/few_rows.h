// Few rows: a group of weights is unpacked into registers once for up to 8 rows.
//
// The integers of a group leave for fp32 at once, because its scale is its own; those of a span are then scaled by what
// the row's activations share. Memory sets the pace up to some eight rows.
#pragma once

#include "linear.h"

constexpr int FEW = 8;

template <class F, int R>
[[gnu::always_inline]] inline void add_group(const Span<F>& w, int g, const Job& job, int64_t span, int64_t row,
                                             __m512 (&sum)[R]) {
    __m512i codes[VECTORS];
    unpack<F::BITS>(w.codes + g * F::GROUP_BYTES, codes);
    const int8_t* x = job.x.code(span, row) + GROUP * g;
    repeat<F::PARTS>([&](auto part) INLINE {
        __m512i dot[R];
        repeat<R>([&](auto r) INLINE {
            const int32_t* offset = job.x.sum(span, row + r) + g * F::PARTS + part;
            dot[r] = F::MIDDLE ? _mm512_set1_epi32(*offset) : _mm512_setzero_si512();
        });
        repeat<VECTORS / F::PARTS>([&](auto i) INLINE {
            constexpr int j = part * VECTORS / F::PARTS + i;
            repeat<R>([&](auto r) INLINE { add_dot(dot[r], codes[j], x + r * SPAN + 4 * j); });
        });
        const __m512 scale = w.scales.scale(w.group + g, part);
        repeat<R>([&](auto r) INLINE { sum[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[r]), scale, sum[r]); });
    });
    if constexpr (F::Scales::HAS_MINIMUM) {
        const __m512 minimum = w.scales.minimum(w.group + g);
        repeat<R>([&](auto r) INLINE {
            const float* minus = (const float*)job.x.sum(span, row + r) + g;
            sum[r] = _mm512_fmadd_ps(minimum, _mm512_set1_ps(*minus), sum[r]);
        });
    }
}

template <class F, int R> void few_rows(const Job& job, const uint8_t* panel, int64_t output, int64_t row) {
    __m512 total[R];
    repeat<R>([&](auto r) INLINE { total[r] = _mm512_setzero_ps(); });
    for (int64_t span = 0; span < job.spans; span++) {
        const Span<F> w(panel, span, job.spans);
        __m512 sum[R];
        repeat<R>([&](auto r) INLINE { sum[r] = _mm512_setzero_ps(); });
        for (int g = 0; g < SPAN / GROUP; g++) {
            for (int line = 0; line < F::GROUP_BYTES; line += 64)
                _mm_prefetch((const char*)w.codes + g * F::GROUP_BYTES + line + 2048, _MM_HINT_T0);
            add_group<F, R>(w, g, job, span, row, sum);
        }
        repeat<R>([&](auto r) INLINE {
            total[r] = _mm512_fmadd_ps(sum[r], _mm512_set1_ps(*job.x.scale(span, row + r)), total[r]);
        });
    }
    repeat<R>([&](auto r) INLINE { job.store(row + r, output, total[r]); });
}

template <class F> void by_panels(const Job& job) {
    const int64_t panels = ceil_div(job.linear.outputs, LANES), stride = F::panel_bytes(job.spans * SPAN);
    const int64_t chunk = std::max<int64_t>(1, panels / (8 * omp_get_num_threads()));
#pragma omp for schedule(dynamic, chunk)
    for (int64_t panel = 0; panel < panels; panel++)
        in_tiles<FEW>(job.rows, [&](int64_t row, auto size) {
            few_rows<F, size()>(job, job.linear.packed + panel * stride, panel * LANES, row);
        });
}
