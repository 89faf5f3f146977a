// The search of rounding.py: for every group of 32 weights the step S and minimum M ≥ 0 of the grid S · code − M that fits
// them best. A vector of rows at a time, one to a lane.
#pragma once

#include "../vectors/vectors.h"

struct Fit {
    Floats step, low, error;
};

// Least squares of S · q − M against w, both weighed, from the sums over the group; M is kept from becoming negative.
static inline Fit least_squares(Floats mass, Floats w, Floats ww, Floats q, Floats qq, Floats qw) {
    const Floats determinant = fms(mass, qq, q * q);
    Floats step = fms(mass, qw, q * w) / determinant, low = fms(q, qw, qq * w) / determinant;
    const Lanes fine = is_at_least(low, zero());
    step = select(fine, step, qw / qq);
    low = select(fine, low, zero());
    // Σ (w − S·q + M)² = Σw² + S²Σq² + M²·mass − 2SΣqw + 2MΣw − 2SMΣq
    Floats error = fma(step * step, qq, ww);
    error = fma(low * low, mass, error);
    error = fma(all(2.0f), fms(low, w, fma(step, qw, step * low * q)), error);
    return {step, low, select(is_less(zero(), step), error, all(INFINITY))};
}

// One group of LANES rows `stride` apart, of which `lanes` exist. `importance` [32]; `ranges` are tried.
static inline Fit fit_group(const float* weights, int64_t stride, Lanes lanes, const float* importance, int top, int ranges) {
    const Floats limit = all(top);
    Floats v[32], lowest = zero(), highest = zero(), mass = zero(), w = zero(), ww = zero();
    for (int k = 0; k < 32; k++) {
        v[k] = load_column(weights + k, stride, lanes);
        lowest = min(lowest, v[k]);
        highest = max(highest, v[k]);
        const Floats weight = all(importance[k]), product = weight * v[k];
        mass = mass + weight;
        w = w + product;
        ww = fma(product, v[k], ww);
    }
    const Floats offset = zero() - lowest, span = highest - lowest;
    Fit best{span / limit, offset, all(INFINITY)};
    for (int i = 0; i < ranges; i++) {
        const float steps = top - 1 + (ranges > 1 ? 2.0f * i / (ranges - 1) : 1.0f);
        const Floats inverse = all(steps) / max(span, all(1e-12f));
        Floats q = zero(), qq = zero(), qw = zero();
        for (int k = 0; k < 32; k++) {
            const Floats code = min(max(rounded((v[k] + offset) * inverse), zero()), limit);
            const Floats product = code * all(importance[k]);
            q = q + product;
            qq = fma(product, code, qq);
            qw = fma(product, v[k], qw);
        }
        const Fit fit = least_squares(mass, w, ww, q, qq, qw);
        const Lanes better = is_less(fit.error, best.error);
        best.step = select(better, fit.step, best.step);
        best.low = select(better, fit.low, best.low);
        best.error = select(better, fit.error, best.error);
    }
    return best;
}
