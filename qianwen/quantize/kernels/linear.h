// A packed linear and one call of it, shared by the two ways of computing it.
#pragma once

#include "activations.h"

struct Linear {
    const uint8_t* packed;
    const float* bias;  // or null
    int64_t inputs, outputs, format;
    int64_t few;  // up to so many rows go the way of few rows
};

// Where results go: rows `stride` apart, written or added to what is there.
struct Target {
    float* data;
    int64_t stride;
    bool adds;
};

// One call: `x` holds the rows as bytes, or `dense` as they are for weights that are no integers.
struct Job {
    const Linear& linear;
    Activations x;
    const float* dense;  // [rows][inputs]
    int64_t rows, spans;
    Target y;

    void store(int64_t row, int64_t output, __m512 value) const {
        const __mmask16 lanes = first_lanes(linear.outputs - output);
        float* to = y.data + row * y.stride + output;
        if (linear.bias) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(lanes, linear.bias + output));
        if (y.adds) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(lanes, to));
        _mm512_mask_storeu_ps(to, lanes, value);
    }
};
