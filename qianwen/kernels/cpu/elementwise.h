// What stands between the linears: normalisation, rotary positions, the gate. Each is shared by the threads of a team.
#pragma once

#include "vectors.h"

// eˣ to 2 ulp; e⁰ is exactly 1. Arguments below −87 give 0.
static inline __m512 exp16(__m512 x) {
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);  // ln 2 in two parts
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);  // Cephes' expf
    for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
    p = _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(r, r), p, r), _mm512_set1_ps(1.0f));
    const __mmask16 normal = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0f), _CMP_GT_OQ);
    return _mm512_maskz_scalef_ps(normal, p, n);
}

// Calls `f(offset, lanes)` for every 16 of `size` elements.
template <class F> [[gnu::always_inline]] inline void by_lanes(int64_t size, F f) {
    for (int64_t i = 0; i < size; i += LANES) f(i, first_lanes(size - i));
}

// out = x / rms(x) · weight for one row of `size`.
static inline void rms_norm_row(const float* x, const float* weight, float eps, int64_t size, float* out) {
    __m512 squares = _mm512_setzero_ps();
    by_lanes(size, [&](int64_t i, __mmask16 lanes) INLINE {
        const __m512 v = _mm512_maskz_loadu_ps(lanes, x + i);
        squares = _mm512_fmadd_ps(v, v, squares);
    });
    const __m512 scale = _mm512_set1_ps(1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / size + eps));
    by_lanes(size, [&](int64_t i, __mmask16 lanes) INLINE {
        const __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, x + i), scale);
        _mm512_mask_storeu_ps(out + i, lanes, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(lanes, weight + i)));
    });
}

// out = norm(x), or norm(residual += x).
static inline void rms_norm(const float* x, const float* weight, float eps, int64_t rows, int64_t size, float* residual,
                            float* out) {
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const float* from = x + row * size;
        if (residual) {
            float* sum = residual + row * size;
            by_lanes(size, [&](int64_t i, __mmask16 lanes) INLINE {
                const __m512 both = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, sum + i), _mm512_maskz_loadu_ps(lanes, from + i));
                _mm512_mask_storeu_ps(sum + i, lanes, both);
            });
            from = sum;
        }
        rms_norm_row(from, weight, eps, size, out + row * size);
    }
}

// Turns `heads` neighbouring heads of a token, in place: the halves of a head are real and imaginary parts.
static inline void rotate(float* head, int64_t heads, int64_t dim, const float* cos, const float* sin) {
    for (float* end = head + heads * dim; head < end; head += dim)
        by_lanes(dim / 2, [&](int64_t i, __mmask16 lanes) INLINE {
            const __m512 a = _mm512_maskz_loadu_ps(lanes, head + i), b = _mm512_maskz_loadu_ps(lanes, head + dim / 2 + i);
            const __m512 c = _mm512_maskz_loadu_ps(lanes, cos + i), s = _mm512_maskz_loadu_ps(lanes, sin + i);
            _mm512_mask_storeu_ps(head + i, lanes, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
            _mm512_mask_storeu_ps(head + dim / 2 + i, lanes, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
        });
}

static inline __m512 gate(__m512 x, __m512 up) {  // silu(x) · up
    const __m512 divisor = _mm512_add_ps(exp16(_mm512_sub_ps(_mm512_setzero_ps(), x)), _mm512_set1_ps(1.0f));
    return _mm512_mul_ps(_mm512_div_ps(x, divisor), up);
}

// out [rows][size] = silu(gate) · up, where gate_up is [rows][2 · size]. May write over the gates of one row.
static inline void silu_mul(const float* gate_up, int64_t rows, int64_t size, float* out) {
#pragma omp for schedule(static)
    for (int64_t part = 0; part < rows * 8; part++) {  // eighths of rows: one row alone also keeps several threads busy
        const int64_t row = part / 8, step = ceil_div(size, 8 * LANES) * LANES, start = part % 8 * step;
        const float *gates = gate_up + row * 2 * size + start, *ups = gates + size;
        by_lanes(std::clamp<int64_t>(size - start, 0, step), [&](int64_t i, __mmask16 lanes) INLINE {
            const __m512 value = gate(_mm512_maskz_loadu_ps(lanes, gates + i), _mm512_maskz_loadu_ps(lanes, ups + i));
            _mm512_mask_storeu_ps(out + row * size + start + i, lanes, value);
        });
    }
}
