// The loss of a row of scores and, in their place, its gradient.
#pragma once

#include "../vectors/vectors.h"

// −log softmax(scores)[target], and scores := softmax(scores) − onehot(target). A target below 0: no loss, all zeros.
// Scores that are not numbers make a loss that is none.
static inline float softmax_loss(uint16_t* scores, int64_t target, int64_t size) {
    if (target < 0) {
        std::fill(scores, scores + size, 0);
        return 0.0f;
    }
    Floats peaks = all(-INFINITY), sums = zero();
    by_lanes(size, [&](int64_t i, auto lanes) LAMBDA { peaks = select(lanes, max(peaks, load_bfloat16(scores + i, lanes)), peaks); });
    const float peak = largest_of(peaks);
    bool has_nan = false;
    by_lanes(size, [&](int64_t i, auto lanes) LAMBDA {
        const Floats below = load_bfloat16(scores + i, lanes) - all(peak);
        has_nan |= is_any(is_nan(select(lanes, below, zero())));
        sums = sums + select(lanes, exponential(below), zero());
    });
    if (has_nan) return NAN;
    const float sum = sum_of(sums);
    const float loss = peak + std::log(sum) - first_of(load_bfloat16(scores + target, first_lanes(1)));
    const Floats factor = all(1.0f / sum);
    by_lanes(size, [&](int64_t i, auto lanes) LAMBDA {
        Floats p = exponential(load_bfloat16(scores + i, lanes) - all(peak)) * factor;
        if (i <= target && target < i + LANES) {
            float each[LANES];
            store(each, p);
            each[target - i] -= 1.0f;
            p = load(each);
        }
        store_bfloat16(scores + i, p, lanes);
    });
    return loss;
}
