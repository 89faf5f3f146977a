// A packed linear and one call of it, shared by the two ways of computing it.
#pragma once

#include "activations.h"

struct Linear {
    const uint8_t* packed;
    const float* bias;  // or null
    int64_t inputs, outputs, format;
};

// One call: `x` holds the rows as bytes, or `dense` as they are for weights that are no integers.
struct Job {
    const Linear& linear;
    Activations x;
    const float* dense;  // [rows][inputs]
    int64_t rows, spans;
    float* y;  // [rows][outputs]

    void store(int64_t row, int64_t output, __m512 value) const {
        const __mmask16 lanes = first_lanes(linear.outputs - output);
        if (linear.bias) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(lanes, linear.bias + output));
        _mm512_mask_storeu_ps(y + row * linear.outputs + output, lanes, value);
    }
};
