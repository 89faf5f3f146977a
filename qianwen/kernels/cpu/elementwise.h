// What is between the linears: normalisation, rotary positions, the gate. Each is shared by the threads of a team.
#pragma once

#include "../vectors/vectors.h"

// out = x / rms(x) · weight for one row of `size`.
static inline void rms_norm_row(const float* x, const float* weight, float eps, int64_t size, float* out) {
    Floats squares = zero();
    by_lanes(size, [&](int64_t i, auto lanes) LAMBDA {
        const Floats v = load(x + i, lanes);
        squares = fma(v, v, squares);
    });
    const Floats scale = all(1.0f / std::sqrt(sum_of(squares) / size + eps));
    by_lanes(size, [&](int64_t i, auto lanes) LAMBDA { store(out + i, load(x + i, lanes) * scale * load(weight + i, lanes), lanes); });
}

// out = norm(x), or norm(residual += x).
static inline void rms_norm(const float* x, const float* weight, float eps, int64_t rows, int64_t size, float* residual,
                            float* out) {
    share(rows, [&](int64_t row) LAMBDA {
        const float* from = x + row * size;
        if (residual) {
            float* sum = residual + row * size;
            by_lanes(size, [&](int64_t i, auto lanes) LAMBDA { store(sum + i, load(sum + i, lanes) + load(from + i, lanes), lanes); });
            from = sum;
        }
        rms_norm_row(from, weight, eps, size, out + row * size);
    });
}

// Turns `heads` neighbouring heads of a token, in place: the halves of a head are real and imaginary parts.
static inline void rotate(float* head, int64_t heads, int64_t dim, const float* cos, const float* sin) {
    for (float* end = head + heads * dim; head < end; head += dim)
        by_lanes(dim / 2, [&](int64_t i, auto lanes) LAMBDA {
            const Floats a = load(head + i, lanes), b = load(head + dim / 2 + i, lanes);
            const Floats c = load(cos + i, lanes), s = load(sin + i, lanes);
            store(head + i, fms(a, c, b * s), lanes);
            store(head + dim / 2 + i, fma(b, c, a * s), lanes);
        });
}

INLINE Floats gate(Floats x, Floats up) {  // silu(x) · up
    return x / (exponential(zero() - x) + all(1.0f)) * up;
}

// out [rows][size] = silu(gate) · up, where gate_up is [rows][2 · size]. May write over the gates of one row.
static inline void silu_mul(const float* gate_up, int64_t rows, int64_t size, float* out) {
    share(rows * 8, [&](int64_t part) LAMBDA {  // eighths of rows: one row alone also keeps several threads busy
        const int64_t row = part / 8, step = ceil_div(size, 8 * LANES) * LANES, start = part % 8 * step;
        const float *gates = gate_up + row * 2 * size + start, *ups = gates + size;
        by_lanes(std::clamp<int64_t>(size - start, 0, step), [&](int64_t i, auto lanes) LAMBDA {
            store(out + row * size + start + i, gate(load(gates + i, lanes), load(ups + i, lanes)), lanes);
        });
    });
}
