// The search of rounding.py: for every group of 32 weights the step S and minimum M ≥ 0 of the grid S · code − M that fits
// them best. Sixteen rows at a time, one to a lane.
#pragma once

#include "vectors.h"

struct Fit {
    __m512 step, low, error;
};

// Least squares of S · q − M against w, both weighed, from the sums over the group; M is kept from becoming negative.
static inline Fit least_squares(__m512 mass, __m512 w, __m512 ww, __m512 q, __m512 qq, __m512 qw) {
    const __m512 zero = _mm512_setzero_ps();
    const __m512 determinant = _mm512_fmsub_ps(mass, qq, _mm512_mul_ps(q, q));
    __m512 step = _mm512_div_ps(_mm512_fmsub_ps(mass, qw, _mm512_mul_ps(q, w)), determinant);
    __m512 low = _mm512_div_ps(_mm512_fmsub_ps(q, qw, _mm512_mul_ps(qq, w)), determinant);
    const __mmask16 fine = _mm512_cmp_ps_mask(low, zero, _CMP_GE_OQ);
    step = _mm512_mask_blend_ps(fine, _mm512_div_ps(qw, qq), step);
    low = _mm512_maskz_mov_ps(fine, low);
    // Σ (w − S·q + M)² = Σw² + S²Σq² + M²·mass − 2SΣqw + 2MΣw − 2SMΣq
    __m512 error = _mm512_fmadd_ps(_mm512_mul_ps(step, step), qq, ww);
    error = _mm512_fmadd_ps(_mm512_mul_ps(low, low), mass, error);
    const __m512 cross = _mm512_fmsub_ps(low, w, _mm512_fmadd_ps(step, qw, _mm512_mul_ps(_mm512_mul_ps(step, low), q)));
    error = _mm512_fmadd_ps(_mm512_set1_ps(2.0f), cross, error);
    const __mmask16 valid = _mm512_cmp_ps_mask(step, zero, _CMP_GT_OQ);
    return {step, low, _mm512_mask_blend_ps(valid, _mm512_set1_ps(INFINITY), error)};
}

// One group of 16 rows `stride` apart, of which `lanes` exist. `importance` [32]; `ranges` are tried.
static inline Fit fit_group(const float* weights, int64_t stride, __mmask16 lanes, const float* importance, int top, int ranges) {
    const __m512 zero = _mm512_setzero_ps(), limit = _mm512_set1_ps(top);
    const __m512i rows = _mm512_mullo_epi32(_mm512_set1_epi32(stride), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    __m512 v[32], lowest = zero, highest = zero, mass = zero, w = zero, ww = zero;
    for (int k = 0; k < 32; k++) {
        v[k] = _mm512_mask_i32gather_ps(zero, lanes, rows, weights + k, 4);
        lowest = _mm512_min_ps(lowest, v[k]);
        highest = _mm512_max_ps(highest, v[k]);
        const __m512 weight = _mm512_set1_ps(importance[k]), product = _mm512_mul_ps(weight, v[k]);
        mass = _mm512_add_ps(mass, weight);
        w = _mm512_add_ps(w, product);
        ww = _mm512_fmadd_ps(product, v[k], ww);
    }
    const __m512 offset = _mm512_sub_ps(zero, lowest), span = _mm512_sub_ps(highest, lowest);
    Fit best{_mm512_div_ps(span, limit), offset, _mm512_set1_ps(INFINITY)};
    for (int i = 0; i < ranges; i++) {
        const float steps = top - 1 + (ranges > 1 ? 2.0f * i / (ranges - 1) : 1.0f);
        const __m512 inverse = _mm512_div_ps(_mm512_set1_ps(steps), _mm512_max_ps(span, _mm512_set1_ps(1e-12f)));
        __m512 q = zero, qq = zero, qw = zero;
        for (int k = 0; k < 32; k++) {
            __m512 code = _mm512_roundscale_ps(_mm512_mul_ps(_mm512_add_ps(v[k], offset), inverse), 0);
            code = _mm512_min_ps(_mm512_max_ps(code, zero), limit);
            const __m512 product = _mm512_mul_ps(code, _mm512_set1_ps(importance[k]));
            q = _mm512_add_ps(q, product);
            qq = _mm512_fmadd_ps(product, code, qq);
            qw = _mm512_fmadd_ps(product, v[k], qw);
        }
        const Fit fit = least_squares(mass, w, ww, q, qq, qw);
        const __mmask16 better = _mm512_cmp_ps_mask(fit.error, best.error, _CMP_LT_OQ);
        best.step = _mm512_mask_mov_ps(best.step, better, fit.step);
        best.low = _mm512_mask_mov_ps(best.low, better, fit.low);
        best.error = _mm512_mask_mov_ps(best.error, better, fit.error);
    }
    return best;
}
