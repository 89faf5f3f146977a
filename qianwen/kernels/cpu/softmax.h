// The loss of a row of scores and, in their place, its gradient.
#pragma once

#include "documents.h"

#if HAS_AMX

// −log softmax(scores)[target], and scores := softmax(scores) − onehot(target). A target below 0: no loss, all zeros.
// Scores that are not numbers make a loss that is none.
static inline float softmax_loss(uint16_t* scores, int64_t target, int64_t size) {
    if (target < 0) {
        std::fill(scores, scores + size, 0);
        return 0.0f;
    }
    const auto load = [&](int64_t i, __mmask16 lanes) INLINE { return widen(_mm256_maskz_loadu_epi16(lanes, scores + i)); };
    __m512 peaks = _mm512_set1_ps(-INFINITY), sums = _mm512_setzero_ps();
    by_lanes(size, [&](int64_t i, __mmask16 lanes) INLINE { peaks = _mm512_mask_max_ps(peaks, lanes, peaks, load(i, lanes)); });
    const __m512 peak = _mm512_set1_ps(_mm512_reduce_max_ps(peaks));
    __mmask16 strange = 0;
    by_lanes(size, [&](int64_t i, __mmask16 lanes) INLINE {
        const __m512 below = _mm512_sub_ps(load(i, lanes), peak);
        strange |= _mm512_mask_cmp_ps_mask(lanes, below, below, _CMP_UNORD_Q);
        sums = _mm512_mask_add_ps(sums, lanes, sums, exp16(below));
    });
    if (strange) return NAN;
    const float sum = _mm512_reduce_add_ps(sums), norm = _mm512_cvtss_f32(peak) + std::log(sum);
    const float score = _mm512_cvtss_f32(load(target, 1));
    const __m512 factor = _mm512_set1_ps(1.0f / sum);
    by_lanes(size, [&](int64_t i, __mmask16 lanes) INLINE {
        __m512 p = _mm512_mul_ps(exp16(_mm512_sub_ps(load(i, lanes), peak)), factor);
        if (i <= target && target < i + LANES) p = _mm512_mask_sub_ps(p, 1 << (target - i), p, _mm512_set1_ps(1.0f));
        _mm256_mask_storeu_epi16(scores + i, lanes, narrow(p));
    });
    return norm - score;
}

#endif
